"""Networks that are slow, reset, go down, or have no names."""
import os
import socket
import subprocess
import sys
import time

import world as world_module
from rows.checks import expect, serves
from world import Load, Proxy


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
        forwarder = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, os.path.abspath(world_module.__file__), far, near,
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


ROWS = [slow_network, reset_connections, link_down, silent_names]
