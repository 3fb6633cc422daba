"""Rows of the fault catalogue that need a process, a socket or a disk to fail: each function provokes one and asserts what must
follow. The others are Swift tests (docs/reliability.md names them)."""
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time

from world import API, HOST, Client, Embedder, Load, Proxy, percentile


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


ROWS = {5: slow_network, 6: reset_connections, 7: disk_full, 8: too_many_connections, 9: wrong_password, 10: schema_missing,
        14: idle_in_transaction, 16: applied_then_killed, 28: changed_model, 41: jumping_clock, 42: few_files,
        44: everything_down, 45: client_gone, 46: slow_clients, 47: large_heads, 48: smuggling}
