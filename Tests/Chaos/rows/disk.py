"""Disks that are full, or fail."""
import os
import signal
import subprocess
import tempfile
import threading
import time

from rows.checks import expect, serves
from world import API, Client, Gateway, Load


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


ROWS = [disk_full, disk_error, embedded_disk_full]
