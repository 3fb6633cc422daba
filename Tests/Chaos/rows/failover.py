"""Servers that take each other's place, and stores that are there and take nothing."""
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

from rows.checks import expect, serves
from world import HOST, Client, Gateway, Load, Proxy


def valkey(port, *words):
    """Says something to a Valkey server; the beginning of its answer."""
    with socket.create_connection((HOST, port), 5) as s:
        s.settimeout(5)
        s.sendall(" ".join(words).encode() + b"\r\n")
        return s.recv(65536).decode(errors="replace")


def until(what, holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        expect(time.monotonic() < end, "it did not come to pass:", what)
        time.sleep(0.02)


def there_and_back(world):
    """35: Valkey fails over to its replica and back, to a primary that knows nothing of the writes in between: no stale recall"""
    first, second = world.ports["valkey"], world.servers.do("start", "valkey-replica")
    proxy = Proxy("valkey", first)
    gateway = world.gateway(VALKEY_PORT=str(proxy.port)).start()
    client = Client(gateway.port)

    def moves(port):
        proxy.target = (HOST, port)
        proxy.reset_all()

    try:
        for n in range(5):
            world.servers.do("start", "valkey-replica")
            valkey(second, "REPLICAOF", HOST, str(first))
            until("the replica follows", lambda: "master_link_status:up" in valkey(second, "INFO", "replication"))
            texts = {f"tea {n} at four", f"tea {n} at five"}
            until("the first is everywhere", lambda: client.remember(1 + n, f"tea {n} at four").status == 200)
            until("its recall is cached", lambda: client.recall(1 + n, "tea").json.get("cached"))
            valkey(second, "REPLICAOF", "NO", "ONE")
            moves(second)
            # Orphaned, as a primary is that comes back to find another in its place.
            valkey(first, "REPLICAOF", HOST, "1")
            until("the second is everywhere", lambda: client.remember(1 + n, f"tea {n} at five").status == 200)
            world.servers.do("kill", "valkey-replica")
            valkey(first, "REPLICAOF", "NO", "ONE")
            moves(first)
            end, answers = time.monotonic() + 3, 0
            while time.monotonic() < end:
                reply = client.recall(1 + n, "tea")
                found = {hit["content"] for hit in reply.json.get("results", [])}
                expect(reply.status == 200 and texts <= found, f"round {n}, stale:", reply)
                answers += 1
            expect(answers > 10 and client.recall(1 + n, "tea").json["cached"], "never cached again", answers)
    finally:
        proxy.close()


def frozen_primary(world):
    """11: the primary freezes, and its synchronous standby, named beside it, is promoted: nothing is lost, nor given to the old one"""
    old, new = world.ports["postgres"], world.servers.do("follow", "postgres-standby", "postgres")
    world.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    world.psql("SELECT pg_reload_conf()")
    until("the standby follows", lambda: world.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == [["1"]], 20)
    gateway = world.gateway(DATABASE_URL=f"postgres://postgres@{HOST}:{old},{HOST}:{new}/postgres").start()
    acked, lock = {}, threading.Lock()

    def write(client, n, i):
        text = f"frozen {n} {i}"
        reply = client.remember(1 + n, text)
        if reply.status in (200, 207):
            with lock:
                acked[reply.json["memory_id"]] = text
        return reply

    try:
        with Load(gateway.port, 8, write) as load:
            time.sleep(2)
            world.servers.do("pause", "postgres")
            time.sleep(1)
            world.servers.do("promote", "postgres-standby")
            took = serves(gateway, 10)
            world.servers.do("resume", "postgres")
            time.sleep(3)
        replies = load.since()
        expect(all(r.status in (200, 207, 503) for r in replies), [r for r in replies if r.status not in (200, 207, 503)][:2])
        bare = [r for r in replies if r.status == 503 and not r.json.get("outcome")]
        expect(not bare, "a 503 without an outcome", bare[:2])
        expect(max(r.ms for r in replies) < 2500, "slowest", max(r.ms for r in replies))
        expect(took <= 5, f"serving {took:.1f} s after the promotion")
        world.ports["postgres"] = new
        stored = world.contents()
        lost = [i for i, text in acked.items() if stored.get(i) != text]
        expect(len(acked) > 100 and not lost, f"{len(lost)} of {len(acked)} acknowledged memories are lost")
        sessions = world.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'memory-gateway'")
        expect(int(sessions[0][0]) > 0, "nobody writes to the new primary")
    finally:
        world.ports["postgres"] = old


def standby_missing(world):
    """11: the synchronous standby is missing: a first start opens its port, writes are unknown or not stored, reads go on"""
    world.psql("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    world.psql("SELECT pg_reload_conf()")
    gateway = world.gateway().start(wait=False)
    try:
        until("the port is open", lambda: gateway.ask("GET", "/health/live").status == 200, 20)
        expect(gateway.ask("GET", "/health/ready").status == 503, "ready without a schema")
        world.psql("ALTER SYSTEM RESET synchronous_standby_names")
        world.psql("SELECT pg_reload_conf()")
        serves(gateway, 20)
        kept = Client(gateway.port).remember(1, "kept").json["memory_id"]
        world.psql("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
        world.psql("SELECT pg_reload_conf()")
        time.sleep(0.2)
        with Load(gateway.port, 16, lambda c, n, i: c.remember(1 + n, f"missing {n} {i}")) as load:
            time.sleep(6)
            moment = time.monotonic()
            while time.monotonic() < moment + 3:
                read = gateway.ask("GET", f"/api/v1/memory/{kept}?client_id=1")
                expect(read.status == 200, "reading fails as well", read)
        replies = load.since()
        expect(replies and all(r.status == 503 and r.json.get("outcome") for r in replies), [r for r in replies if r.status != 503][:2])
        expect(max(r.ms for r in replies) < 2500, "slowest", max(r.ms for r in replies))
        waiting = int(world.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")[0][0])
        expect(0 < waiting <= 16, waiting, "commits wait")
    finally:
        world.psql("ALTER SYSTEM RESET synchronous_standby_names")
        world.psql("SELECT pg_reload_conf()")
    serves(gateway, 20)


def full_disk_is_not_ready(world):
    """60: a gateway whose own disk is full is not ready, says so, and is again once there is space"""
    folder = tempfile.mkdtemp(prefix="small-", dir=world.servers.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=True)
    gateway = Gateway(world.binary, {"MEMORY_DATA_DIR": folder, "CHAOS_FOLDER": world.servers.root})
    world.gateways.append(gateway)
    try:
        client, refused = Client(gateway.start().port), 0
        for i in range(2000):
            refused += client.remember(1, f"filling {i} " + os.urandom(4000).hex()).status == 503
            if refused == 20:
                break
        expect(refused == 20, "the disk did not fill")
        until("it is not ready", lambda: gateway.ask("GET", "/health/ready").status == 503, 3)
        expect(gateway.ask("GET", "/health").json["dependencies"]["sqlite"] == "read-only", gateway.ask("GET", "/health"))
        # What little the background writes must not make it ready.
        for _ in range(15):
            time.sleep(0.2)
            expect(gateway.ask("GET", "/health/ready").status == 503, "ready, and the disk is still full")
        expect(client.recall(1, "filling 3").status == 200, "recall fails")
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        until("it is ready", lambda: gateway.ask("GET", "/health/ready").status == 200, 5)
        serves(gateway)
    finally:
        gateway.end(signal.SIGKILL)
        subprocess.run(["umount", folder])


ROWS = [there_and_back, frozen_primary, standby_missing, full_disk_is_not_ready]
