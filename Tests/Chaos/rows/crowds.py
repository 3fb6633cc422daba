"""One who asks for much, beside others who ask for little."""
import threading
import time

from rows.checks import expect, serves
from world import API, Client, Load

MIB = 1 << 20


def filled(start, unit, end, size):
    """A body of a size, of many equal parts."""
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def sent(gateway, method, path, bodies):
    """Sends bodies at once, each on its own connection; the answers."""
    replies = [None] * len(bodies)

    def send(n):
        replies[n] = Client(gateway.port, timeout=120).ask(method, path, bodies[n])

    threads = [threading.Thread(target=send, args=(n,)) for n in range(len(bodies))]
    for thread in threads:
        thread.start()
    return threads, replies


def large_bodies(world):
    """51: sixteen bodies of 16 MiB at once, twice: never over 200 MB, and the gateway is alive meanwhile"""
    gateway = world.gateway().start()
    serves(gateway)
    size, numbers, objects = 16 * MIB - 1, b'{"memories":[],"x":[0', b'{"memories":[],"x":[{}'
    bodies = [filled(numbers, b",0", b"]}", size) if n % 2 else filled(objects, b",{}", b"]}", size) for n in range(16)]
    slowest, codes = 0, set()
    for path in ("/remember/batch", "/docs"):
        threads, replies = sent(gateway, "POST", API + path, bodies)
        while any(thread.is_alive() for thread in threads):
            alive = gateway.ask("GET", "/health/live")
            expect(alive.status == 200, "not alive", alive)
            slowest = max(slowest, alive.ms)
            time.sleep(0.01)
        codes |= {r.status for r in replies}
        expect(all(r.status in (200, 400, 413, 422, 503) for r in replies), [r for r in replies][:3])
    serves(gateway)
    expect(gateway.peak() < 200, f"{gateway.peak():.0f} MB at its peak; answers {codes}; alive within {slowest:.0f} ms")
    expect(slowest < 1000, f"alive within {slowest:.0f} ms only; answers {codes}; {gateway.peak():.0f} MB at its peak")


def documents_beside(world):
    """crowd: eight documents of 6 MiB at once: another tenant's remembers keep their two seconds, its recalls their one"""
    gateway = world.gateway().start()
    serves(gateway)
    word = lambda n, i: f"chapter {n} paragraph {i} of a long book about tea and its keepers. "
    bodies = [{"doc_id": f"book-{n}", "client_id": 500 + n, "content": "".join(word(n, i) for i in range(6 * MIB // 68))}
              for n in range(8)]

    def small(client, n, i):
        time.sleep(0.02)
        return client.recall(1, f"beside {i % 7} {n}") if i % 2 else client.remember(1, f"beside {n} {i}")

    with Load(gateway.port, 4, small) as load:
        threads, replies = sent(gateway, "POST", API + "/docs", bodies)
        for thread in threads:
            thread.join()
    beside = load.since()
    late = [r for r in beside if r.status not in (200, 207) or r.ms > (1200 if b'"results"' in r.body else 2200)]
    expect(len(beside) > 20 and not late, f"{len(late)} of {len(beside)} were refused or late, such as", late[:3])
    expect(all(r.status in (200, 201, 207, 503) for r in replies), [r for r in replies if r.status not in (200, 201, 207, 503)][:2])
    expect(any(r.status != 503 for r in replies), "not one of the documents was stored", replies[:1])


ROWS = [large_bodies, documents_beside]
