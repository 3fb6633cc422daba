"""Rows of the fault catalogue that need a process, a socket or a disk to fail: each function provokes one and asserts what must
follow. The others are Swift tests (docs/reliability.md names them)."""
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from world import API, HOST, Client, Embedder, Gateway, Load, Proxy, free_port, percentile

HERE = os.path.dirname(os.path.abspath(__file__))


def expect(truth, *what):
    if not truth:
        raise AssertionError(" ".join(str(w) for w in what))


def serves(gateway, seconds=10):
    """Waits until a remember and a recall go through; how long it took."""
    started, client = time.monotonic(), Client(gateway.port)
    while time.monotonic() - started < seconds:
        a, b = client.remember(1, f"serves {time.monotonic()}"), client.recall(1, f"serves {time.monotonic()}")
        if a.status in (200, 207) and b.status == 200:
            return time.monotonic() - started
        time.sleep(0.05)
    raise AssertionError(f"it does not serve again in {seconds} s: {a} {b}")


def raw(gateway, data, seconds=5):
    """Bytes in, bytes out, until the server closes or says nothing for so long."""
    answer = b""
    with socket.create_connection((HOST, gateway.port), 5) as s:
        s.settimeout(seconds)
        try:
            s.sendall(data)
            while chunk := s.recv(65536):
                answer += chunk
        except OSError:
            pass
    return answer


# ---------------------------------------------------------------- A. Postgres

def slow_network(world):
    """5: PostgreSQL 300 ms away, and answering byte by byte"""
    proxy = Proxy("postgres", world.ports["postgres"])
    gateway = world.gateway(POSTGRES_PORT=str(proxy.port)).start()
    before = gateway.resources()
    for fault in ({"delay": 0.3}, {"delay": 0, "slice": 1}):
        vars(proxy).update(fault)
        with Load(gateway.port, 24, lambda c, n, i: c.remember(1 + n, f"slow {n} {i}")) as load:
            time.sleep(4)
        replies = load.since()
        expect(replies and all(r.status in (200, 207, 503) for r in replies), [r for r in replies if r.status not in (200, 207, 503)][:2])
        expect(max(r.ms for r in replies) < 2500, "slowest", max(r.ms for r in replies))
        bare = [r for r in replies if r.status == 503 and not r.json.get("outcome")]
        expect(not bare, "a 503 without an outcome", bare[:2])
    proxy.delay, proxy.slice = 0, None
    serves(gateway)
    expect(gateway.resources()["threads"] <= before["threads"] + 4, "threads grew", before, gateway.resources())
    proxy.close()


def reset_connections(world):
    """6: all of PostgreSQL's sockets are reset while results arrive"""
    proxy = Proxy("postgres", world.ports["postgres"])
    gateway = world.gateway(POSTGRES_PORT=str(proxy.port)).start()
    with Load(gateway.port, 8, lambda c, n, i: c.recall(1, f"reset {n} {i}") if i % 2 else c.remember(1, f"reset {n} {i}")) as load:
        for _ in range(10):
            time.sleep(0.2)
            proxy.reset_all()
        time.sleep(0.5)
    expect(all(r.status in (200, 207, 503) for r in load.since()), [r for r in load.since() if r.status not in (200, 207, 503)][:2])
    serves(gateway)
    proxy.close()


def link_down(world):
    """6: the link to PostgreSQL goes down and says nothing (half-open, in a network namespace), and comes back"""
    name, near, far = f"mg{os.getpid()}", "10.77.41.1", "10.77.41.2"
    ip = lambda *words: subprocess.run(["ip", *words], check=True)
    ip("netns", "add", name)
    forwarder = None
    proxy = None
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        ip("address", "add", f"{near}/24", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "address", "add", f"{far}/24", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        # Across the link and back: what is cut is the way between the gateway and the forwarder, and no socket hears of it.
        proxy = Proxy("postgres", world.ports["postgres"], host=near)
        forwarder = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, os.path.join(HERE, "world.py"), far, near,
                                      str(proxy.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        gateway = world.gateway(POSTGRES_HOST=far, POSTGRES_PORT=forwarder.stdout.readline().strip()).start()
        serves(gateway)
        before = gateway.resources()
        with Load(gateway.port, 8, lambda c, n, i: (time.sleep(0.02), c.remember(1 + n, f"link {n} {i}"))[1]) as load:
            time.sleep(1)
            ip("-n", name, "link", "set", f"{name}b", "down")
            cut = time.monotonic()
            time.sleep(8)
            expect(gateway.ask("GET", "/health/live").status == 200, "not even alive")
            replies = load.since(cut)
            ip("-n", name, "link", "set", f"{name}b", "up")
            took = serves(gateway, 10)
        expect(replies and all(r.status in (200, 207, 503) for r in replies), [r for r in replies if r.status not in (200, 207, 503)][:2])
        expect(sum(r.status == 503 for r in replies) > 20, "it did not notice")
        expect(max(r.ms for r in load.since()) < 2500, "slowest", max(r.ms for r in load.since()))
        expect(took <= 5, f"serving {took:.1f} s after the link was back")
        acked = [r.json["memory_id"] for r in load.since() if r.status in (200, 207)]
        expect(set(acked) <= set(world.contents()), "an acknowledged memory is lost")
        expect(gateway.resources()["threads"] <= before["threads"] + 4, "threads grew", before, gateway.resources())
    finally:
        if forwarder:
            forwarder.kill()
        if proxy:
            proxy.close()
        subprocess.run(["ip", "netns", "del", name])


def disk_error(world):
    """7: the disk answers EIO when PostgreSQL writes its log (strace), and PostgreSQL panics"""
    gateway, acked, lock = world.gateway().start(), {}, threading.Lock()

    def write(client, n, i):
        text = f"disk {n} {i}"
        reply = client.remember(1 + n, text)
        if reply.status in (200, 207):
            with lock:
                acked[reply.json["memory_id"]] = text
        return reply

    with Load(gateway.port, 8, write) as load:
        for _ in range(3):
            time.sleep(0.7)
            backends = [pid for (pid,) in world.psql("SELECT pid FROM pg_stat_activity WHERE application_name = 'memory-gateway'")]
            # Only those that serve: the server's own processes must be able to recover.
            tracer = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e",
                                       "inject=fdatasync:error=EIO:when=1"] + [w for pid in backends for w in ("-p", pid)])
            time.sleep(1)
            tracer.terminate()
            tracer.wait(10)
            serves(gateway)
    log = open(world.servers.get("postgres").log, errors="replace").read()
    expect("PANIC" in log and "Input/output error" in log, "PostgreSQL did not panic")
    expect(all(r.status in (200, 207, 503) for r in load.since()), [r for r in load.since() if r.status not in (200, 207, 503)][:2])
    stored = world.contents()
    lost = [i for i, text in acked.items() if stored.get(i) != text]
    expect(not lost, f"{len(lost)} of {len(acked)} acknowledged memories are lost")


def disk_full(world):
    """7: PostgreSQL's disk is full (a table space of 4 MB in memory)"""
    folder = tempfile.mkdtemp(prefix="full-", dir=world.servers.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs", folder], check=True)
    gateway = None
    try:
        subprocess.run(["chown", "postgres", folder])
        world.psql(f"CREATE TABLESPACE small LOCATION '{folder}'")
        world.psql("CREATE DATABASE small TABLESPACE pg_default")
        gateway = world.gateway(POSTGRES_DB="small", QDRANT_URL=world.environment["QDRANT_URL"]).start()
        kept = gateway.ask("POST", API + "/remember", {"client_id": 1, "content": "kept before the disk was full"}).json["memory_id"]
        world.psql("ALTER TABLE events SET TABLESPACE small", "small")
        client, refused = Client(gateway.port), None
        for i in range(400):
            reply = client.remember(1, f"filling {i} " + os.urandom(30000).hex())
            if reply.status == 503:
                refused = reply
                break
            expect(reply.status in (200, 207), reply)
        expect(refused is not None, "the disk did not fill")
        expect(refused.json.get("outcome") == "not_stored" and "tmpfs" not in refused.body.decode() and "extend" not in refused.body.decode(), refused)
        read = client.ask("GET", f"{API}/{kept}?client_id=1")
        expect(read.status == 200, "reading fails as well", read)
        expect(client.recall(1, "kept before the disk was full").status == 200, "recall fails as well")
        world.psql("ALTER TABLE events SET TABLESPACE pg_default", "small")
        serves(gateway)
    finally:
        if gateway:
            gateway.end(signal.SIGKILL)
        world.psql("DROP DATABASE IF EXISTS small WITH (FORCE)")
        world.psql("DROP TABLESPACE IF EXISTS small")
        subprocess.run(["umount", folder])


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


# ---------------------------------------------------------------- B, C. Qdrant, embeddings

def applied_then_killed(world):
    """16: Qdrant applies a point and dies before it answers: the retry leaves one point"""
    gateway = world.gateway().start()
    world.qdrant("POST", "/__test__/config", {"apply_then_drop": True})
    reply = gateway.ask("POST", API + "/remember", {"client_id": 1, "content": "applied, never answered"})
    expect(reply.status == 207 and reply.json["failed"] == ["qdrant"], reply)
    world.qdrant("POST", "/__test__/config", {})
    expect(gateway.wait_for_outbox(30) is not None, "it was not delivered again")
    identifier = reply.json["memory_id"]
    found = world.qdrant("POST", "/collections/events/points", {"ids": [identifier]}).json["result"]
    expect(len(found) == 1, found)
    hits = gateway.ask("POST", API + "/recall", {"client_id": 1, "query": "applied, never answered", "k": 3}).json["results"]
    expect([h["memory_id"] for h in hits].count(identifier) == 1, hits)


def changed_model(world):
    """28: another model takes the place of the first: the points name theirs, and doctor tells"""
    embedder = Embedder()
    environment = {"EMBEDDINGS_URL": f"http://{HOST}:{embedder.port}/v1", "EMBEDDINGS_MODEL": "first"}
    gateway = world.gateway(**environment).start()
    identifier = gateway.ask("POST", API + "/remember", {"client_id": 1, "content": "made by the first model"}).json["memory_id"]
    gateway.end()
    point = world.qdrant("POST", "/collections/events/points", {"ids": [identifier], "with_payload": True}).json["result"][0]
    expect(point["payload"]["model"] == "first", point)
    out = subprocess.run([world.binary, "doctor"], env={**os.environ, **gateway.environment, "EMBEDDINGS_MODEL": "second"},
                         capture_output=True, text=True, timeout=60)
    expect("first" in out.stdout + out.stderr, out.stdout, out.stderr)


def silent_names(world):
    """29: the name server says nothing: all deadlines hold, nothing piles up, and PostgreSQL is found where it was"""
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.53", 53))
    files = {name: f"{world.servers.root}/{name}" for name in ("resolv.conf", "hosts")}

    def put(name, text):
        with open(files[name], "w") as f:
            f.write(text)

    put("resolv.conf", "nameserver 127.0.0.53\noptions timeout:5 attempts:2\n")
    put("hosts", "127.0.0.1 localhost postgres.example\n")
    # In a mount namespace of its own, so that only the gateway reads them.
    mounts = " && ".join(f"mount --bind {path} /etc/{name}" for name, path in files.items())
    gateway = world.gateway(prefix=["unshare", "-m", "sh", "-c", f'{mounts} && exec "$0" "$@"'], POSTGRES_HOST="postgres.example",
                            EMBEDDINGS_URL="http://embeddings.example:9999/v1", EMBEDDINGS_MODEL="m")
    try:
        gateway.start()
        serves(gateway)
        put("hosts", "127.0.0.1 localhost\n")
        before = gateway.resources()
        with Load(gateway.port, 8, lambda c, n, i: c.recall(1, f"names {n} {i}") if i % 2 else c.remember(1, f"names {n} {i}")) as load:
            time.sleep(4)
            settled = load.since()
            world.servers.do("kill", "postgres")
            world.servers.do("start", "postgres")
            took = serves(gateway)
            time.sleep(4)
        replies = load.since()
        expect(len(settled) > 100 and all(r.status in (200, 207) for r in settled), [r for r in settled if r.status not in (200, 207)][:2])
        expect(all(r.json.get("degraded") for r in settled if "results" in r.json), "a recall that is not degraded")
        expect(all(r.status in (200, 207, 503) for r in replies), [r for r in replies if r.status not in (200, 207, 503)][:2])
        expect(max(r.ms for r in replies) < 2500, "slowest", max(r.ms for r in replies))
        expect(took <= 5, f"serving {took:.1f} s after PostgreSQL was back")
        after = gateway.resources()
        expect(after["threads"] <= before["threads"] + 12, "threads pile up", before, after)
    finally:
        silent.close()


# ---------------------------------------------------------------- E. Process

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
/* The wall clock jumps an hour back or forth, by turns of two seconds; the monotonic clock does not. */
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += (t->tv_sec / 2) % 2 ? 3600 : -3600;
    return result;
}
"""


def jumping_clock(world):
    """41: the wall clock jumps an hour back and forth every two seconds"""
    path = f"{world.servers.root}/clock"
    with open(path + ".c", "w") as f:
        f.write(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path + ".so", path + ".c", "-ldl"], check=True)
    gateway = world.gateway()
    gateway.start(LD_PRELOAD=path + ".so")
    with Load(gateway.port, 8, lambda c, n, i: c.remember(40 + n, f"clock {n} {i}") if i % 2 else c.recall(40 + n, f"clock {n} {i - 1}", k=1)) as load:
        time.sleep(9)
    replies = load.since()
    expect(all(r.status in (200, 207) for r in replies), [r for r in replies if r.status not in (200, 207)][:2])
    expect(max(r.ms for r in replies) < 2000, "slowest", max(r.ms for r in replies))
    expect(gateway.wait_for_outbox(30) is not None, "the outbox stands still")


def few_files(world):
    """42: ninety-six files, and nobody reads the log"""
    reader, writer = os.pipe()
    gateway = world.gateway(prefix=["prlimit", "--nofile=96:96"])
    gateway.log = os.fdopen(writer, "wb")  # never read: it fills
    gateway.start(LOG_LEVEL="debug")
    idle = []
    try:
        for _ in range(200):
            try:
                idle.append(socket.create_connection((HOST, gateway.port), 1))
            except OSError:
                break
        time.sleep(1)
        before = cpu(gateway)
        time.sleep(2)
        expect(cpu(gateway) - before < 1.0, "it spins without files:", cpu(gateway) - before, "s of processor in 2 s")
    finally:
        for s in idle:
            s.close()
    serves(gateway, 20)
    with Load(gateway.port, 4, lambda c, n, i: c.recall(1, f"log {n} {i}")) as load:
        time.sleep(3)
    expect(len(load.since()) > 100 and all(r.status == 200 for r in load.since()), "it stands still when its log is not read:", len(load.since()))
    os.close(reader)


def cpu(gateway):
    with open(f"/proc/{gateway.process.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def everything_down(world):
    """44: all three servers away, then all back at once"""
    gateway = world.gateway().start()
    client = Client(gateway.port)
    for name in ("postgres", "valkey", "qdrant"):
        world.servers.do("kill", name)
    for _ in range(20):
        for reply in (client.remember(1, "nowhere"), client.recall(1, "nowhere at all")):
            expect(reply.status == 503, reply)
    expect(client.ask("GET", "/health/live").status == 200, "not even alive")
    list(world.threads.map(lambda name: world.servers.do("start", name), ("postgres", "valkey", "qdrant")))
    took = serves(gateway, 10)
    expect(took <= 5, f"{took:.1f} s")


# ---------------------------------------------------------------- F. The edge

def client_gone(world):
    """45: the client is gone in the middle of its body: nothing is stored; after it: stored once"""
    gateway = world.gateway().start()
    whole = b'{"client_id": 77, "content": "the client was gone"}'
    head = b"POST " + API.encode() + b"/remember HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: gone-%d\r\nContent-Length: %d\r\n\r\n"
    for n, body in enumerate((whole[:20], whole)):
        with socket.create_connection((HOST, gateway.port), 5) as s:
            s.sendall(head % (n, len(whole)) + body)
    end = time.monotonic() + 10
    count = lambda: len(world.contents("client_id = 77"))
    while count() < 1 and time.monotonic() < end:
        time.sleep(0.05)
    expect(count() == 1, f"{count()} rows")
    reply = gateway.ask("POST", API + "/remember", whole, {"Idempotency-Key": "gone-1"})
    expect(reply.status in (200, 207) and count() == 1, reply, count())


def slow_clients(world):
    """46: hundreds of clients send a byte a second, others say nothing: the rest are served as before"""
    gateway = world.gateway().start()
    ask = lambda c, n, i: (time.sleep(0.005), c.recall(1, f"slow clients {i % 50}"))[1]
    with Load(gateway.port, 4, ask) as load:
        time.sleep(3)
    before = percentile([r.ms for r in load.since()], 0.99)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    slow = [socket.create_connection((HOST, gateway.port), 5) for _ in range(600)]
    idle = [socket.create_connection((HOST, gateway.port), 5) for _ in range(600)]
    stop, closed = threading.Event(), set()

    def drip():
        data = b"POST " + API.encode() + b"/remember HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000
        for place in range(len(data)):
            for s in slow:
                try:
                    s.send(data[place:place + 1])
                except OSError:
                    closed.add(s)
            if stop.wait(1):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with Load(gateway.port, 4, ask) as load:
            time.sleep(5)
        during = percentile([r.ms for r in load.since()], 0.99)
        expect(all(r.status == 200 for r in load.since()), [r for r in load.since() if r.status != 200][:2])
        expect(during < 2 * before + 10, f"p99 {before:.1f} → {during:.1f} ms")
        end = time.monotonic() + 45
        while len(closed) < len(slow) and time.monotonic() < end:
            time.sleep(1)
        expect(len(closed) == len(slow), f"{len(slow) - len(closed)} of {len(slow)} slow clients are still there")
    finally:
        stop.set()
        thread.join()
        for s in slow + idle:
            s.close()


def large_heads(world):
    """47: sixty-five thousand headers, one header of a megabyte, a target of a megabyte"""
    gateway = world.gateway().start()
    head = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    for data in (head + b"".join(b"A%d: b\r\n" % i for i in range(65000)) + b"\r\n", head + b"A: " + b"b" * (1 << 20) + b"\r\n\r\n",
                 b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n"):
        answer = raw(gateway, data)
        expect(answer[9:12] in (b"431", b"414", b"400", b""), answer[:100])
    expect(gateway.ask("GET", "/health/live").status == 200, "it is gone")


def smuggling(world):
    """48: two lengths, a length and chunks, bare line feeds, folded headers, chunks without measure"""
    gateway = world.gateway().start()
    inner = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    start = b"POST /api/v1/memory/recall HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    cases = {
        "length and chunks": start + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "two lengths": start + b"Content-Length: 4\r\nContent-Length: 40\r\n\r\n{}  " + inner,
        "bare line feeds": b"POST /api/v1/memory/recall HTTP/1.1\nHost: x\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n" + inner,
        "an endless chunk": start + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n" + inner,
        "chunked twice": start + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
        "a space before the colon": start + b"Content-Length : 4\r\n\r\n{}  " + inner,
        "a folded header": start + b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}" + inner,
    }
    for name, data in cases.items():
        answer = raw(gateway, data, 2)
        expect(answer.count(b"HTTP/1.1 200") == 0 or name == "a folded header" and b"HTTP/1.1 4" in answer, name, answer[:300])
    expect(gateway.ask("GET", "/health/live").status == 200, "it is gone")


# ---------------------------------------------------------------- G. The embedded store

def embedded_disk_full(world):
    """60: the disk under the embedded store is full (tmpfs): refused, still read and recalled, and served again with space"""
    folder = tempfile.mkdtemp(prefix="small-", dir=world.servers.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=True)
    gateway = Gateway(world.binary, {"MEMORY_DATA_DIR": folder, "CHAOS_FOLDER": world.servers.root})
    world.gateways.append(gateway)
    try:
        gateway.start()
        client, acked, refused = Client(gateway.port), {}, []
        for i in range(2000):
            text = f"filling {i} " + os.urandom(4000).hex()
            reply = client.remember(1, text)
            expect(reply.status in (200, 207, 503), reply)
            if reply.status == 503:
                expect(reply.json.get("outcome") == "not_stored" and b"disk" not in reply.body, reply)
                refused.append(text)
                if len(refused) == 20:
                    break
            else:
                acked[reply.json["memory_id"]] = text
        expect(len(refused) == 20, "the disk did not fill")
        some = list(acked)[::7]

        def all_there():
            for i in some:
                read = client.ask("GET", f"{API}/{i}?client_id=1")
                expect(read.status == 200 and read.json["content"] == acked[i], read)
            expect(client.recall(1, "filling 3").status == 200, "recall fails")

        all_there()
        gateway.end(signal.SIGKILL)
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        gateway.start()
        serves(gateway)
        client.close()
        all_there()
        for text in refused[:5]:
            found = client.recall(1, text.partition(" ")[2][:40], mode="keyword").json["results"]
            expect(text not in [hit["content"] for hit in found], "a refused memory is there")
    finally:
        gateway.end(signal.SIGKILL)
        subprocess.run(["umount", folder])


ROWS = [slow_network, reset_connections, link_down, disk_full, disk_error, too_many_connections, wrong_password, schema_missing,
        failover, idle_in_transaction, applied_then_killed, changed_model, silent_names, jumping_clock, few_files,
        everything_down, client_gone, slow_clients, large_heads, smuggling, embedded_disk_full]
