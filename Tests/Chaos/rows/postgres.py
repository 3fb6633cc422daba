"""What PostgreSQL refuses, and who takes its place."""
import os
import signal
import subprocess
import threading
import time

from rows.checks import expect, serves
from world import API, HOST, Client, Embedder, Load, Proxy, free_port


def role(world, name, options=""):
    world.psql(f"DROP ROLE IF EXISTS {name}")
    world.psql(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'secret-canary' {options}")


def too_many_connections(world):
    """8: the role may have one connection only (53300)"""
    role(world, "narrow")
    gateway = world.gateway(POSTGRES_USER="narrow").start()
    world.psql("ALTER ROLE narrow NOSUPERUSER CONNECTION LIMIT 1")
    world.psql("GRANT ALL ON ALL TABLES IN SCHEMA public TO narrow; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO narrow")
    world.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow'")
    tries = lambda: int(world.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'narrow'")[0][0])
    with Load(gateway.port, 16, lambda c, n, i: (time.sleep(0.02), c.remember(1 + n, f"narrow {n} {i}"))[1]) as load:
        time.sleep(4)
    replies = load.since()
    expect(all(r.status in (200, 207, 503) for r in replies), [r for r in replies if r.status not in (200, 207, 503)][:2])
    expect(tries() <= 1, "more connections than allowed")
    world.psql("ALTER ROLE narrow CONNECTION LIMIT -1")
    serves(gateway)
    gateway.end()
    world.psql("DROP OWNED BY narrow; DROP ROLE narrow")


def wrong_password(world):
    """9: wrong password, unknown role, unknown database: never ready, and the password is in no log"""
    data = world.servers.get("postgres").data
    rules = open(f"{data}/pg_hba.conf").read()
    role(world, "guarded")
    try:
        with open(f"{data}/pg_hba.conf", "w") as f:
            f.write("host all guarded 127.0.0.1/32 scram-sha-256\n" + rules)
        world.psql("SELECT pg_reload_conf()")
        time.sleep(0.3)
        for change in ({"POSTGRES_USER": "guarded", "POSTGRES_PASSWORD": "wrong-canary-password"},
                       {"POSTGRES_USER": "nobody_at_all"}, {"POSTGRES_DB": "no_such_database"}):
            gateway = world.gateway(**change).start(wait=False)
            time.sleep(1.5)
            if gateway.process.poll() is None:
                expect(gateway.ask("GET", "/health/ready").status == 503, "ready without a database")
                reply = gateway.ask("POST", API + "/remember", {"client_id": 1, "content": "x"})
                expect(reply.status == 503 and b"guarded" not in reply.body and b"no_such" not in reply.body, reply)
            gateway.end()
            log = open(gateway.log.name).read()
            expect("wrong-canary-password" not in log, "the password is in the log")
            expect(log, "nothing in the log")
        gateway = world.gateway(POSTGRES_USER="guarded", POSTGRES_PASSWORD="secret-canary").start()
        serves(gateway)
        gateway.end()
        expect("secret-canary" not in open(gateway.log.name).read(), "the password is in the log")
    finally:
        with open(f"{data}/pg_hba.conf", "w") as f:
            f.write(rules)
        world.psql("SELECT pg_reload_conf()")


def schema_missing(world):
    """10: a table is renamed under a running gateway: 503, never 500, and back by itself"""
    gateway = world.gateway().start()
    client = Client(gateway.port)
    client.remember(1, "nowhere at all")
    world.psql("ALTER TABLE events RENAME TO events_hidden")
    try:
        # A recall whose every record is in the cache may be served from there.
        for reply in (client.remember(1, "nowhere"), client.ask("GET", f"{API}/events?client_id=1"), client.recall(1, "another question")):
            expect(reply.status == 503 or reply.status == 200 and reply.json.get("results"), reply)
            expect(b"42P01" not in reply.body and b"relation" not in reply.body, reply)
        end = time.monotonic() + 3  # what was found is kept for a second
        while client.ask("GET", "/health/ready").status != 503:
            expect(time.monotonic() < end, "it stays ready")
            time.sleep(0.1)
    finally:
        world.psql("ALTER TABLE events_hidden RENAME TO events")
    serves(gateway)


def failover(world):
    """11: the primary dies and a synchronous standby takes its place: read-only first (25006), then promoted"""
    primary = world.servers.get("postgres")
    data, port = f"{world.servers.root}/standby", free_port()
    run = lambda *words: subprocess.run(primary.prefix + list(words), check=True, cwd=primary.folder, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
    os.makedirs(data)
    subprocess.run(["chown", "postgres", data], check=True)
    os.chmod(data, 0o700)
    run(f"{primary.bin}/pg_basebackup", "-h", HOST, "-p", str(primary.port), "-U", "postgres", "-D", data, "-R", "-X", "stream")
    standby = subprocess.Popen(primary.prefix + [f"{primary.bin}/postgres", "-D", data, "-p", str(port), "-k", data, "-c",
                                                 f"listen_addresses={HOST}", "-c", "max_connections=300"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    proxy = Proxy("postgres", primary.port)
    try:
        world.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        world.psql("SELECT pg_reload_conf()")
        end = time.monotonic() + 20
        while world.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") != [["1"]]:
            expect(time.monotonic() < end, "the standby does not follow")
            time.sleep(0.05)
        gateway, acked, lock = world.gateway(POSTGRES_PORT=str(proxy.port)).start(), {}, threading.Lock()

        def write(client, n, i):
            text = f"failover {n} {i}"
            reply = client.remember(1 + n, text)
            if reply.status in (200, 207):
                with lock:
                    acked[reply.json["memory_id"]] = text
            return reply

        with Load(gateway.port, 8, write) as load:
            time.sleep(2)
            world.servers.do("kill", "postgres")
            proxy.target = (HOST, port)
            proxy.reset_all()
            time.sleep(0.5)
            moment = time.monotonic()
            time.sleep(1.5)
            refused = load.since(moment)
            run(f"{primary.bin}/pg_ctl", "promote", "-w", "-D", data)
            took = serves(gateway, 10)
            time.sleep(1)
        replies = load.since()
        expect(all(r.status in (200, 207, 503) for r in replies), [r for r in replies if r.status not in (200, 207, 503)][:2])
        expect(refused and all(r.status == 503 for r in refused), "a standby took a write", [r for r in refused if r.status != 503][:2])
        expect(took <= 5, f"serving {took:.1f} s after the promotion")
        world.ports["postgres"] = port
        stored = world.contents()
        lost = [i for i, text in acked.items() if stored.get(i) != text]
        expect(len(acked) > 100 and not lost, f"{len(lost)} of {len(acked)} acknowledged memories are lost")
    finally:
        world.ports["postgres"] = primary.port
        proxy.close()
        standby.send_signal(signal.SIGQUIT)
        standby.wait(20)


def idle_in_transaction(world):
    """14: no transaction stays open over other work: under load none is idle for 100 ms"""
    embedder = Embedder()
    gateway = world.gateway(EMBEDDINGS_URL=f"http://{HOST}:{embedder.port}/v1", EMBEDDINGS_MODEL="m").start()
    worst = 0.0
    with Load(gateway.port, 16, lambda c, n, i: c.remember(1 + n, f"idle {n} {i}") if i % 2 else c.recall(1, f"idle {i}")) as load:
        for _ in range(60):
            worst = max(worst, float(world.psql("""SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)
                FROM pg_stat_activity WHERE application_name = 'memory-gateway' AND state = 'idle in transaction'""")[0][0]))
            time.sleep(0.05)
    expect(load.since() and all(r.status in (200, 207) for r in load.since()), [r for r in load.since() if r.status not in (200, 207)][:2])
    expect(worst < 0.1, f"a transaction waited {worst * 1000:.0f} ms")


ROWS = [too_many_connections, wrong_password, schema_missing, failover, idle_in_transaction]
