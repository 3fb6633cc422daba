"""N3, N4: the outbox and the reconciler."""
import time

from measures.result import Result
from world import Client, Load, percentile


def backlog(world, count):
    """Qdrant away while memories are written, then back."""
    gateway = world.gateway().start()

    def live(client, n, i):
        time.sleep(0.02)
        return client.remember(900 + n, f"live {n} {i}")

    with Load(gateway.port, 2, live) as load:
        time.sleep(3)
    before = percentile([r.ms for r in load.since()], 0.95)
    gateway.wait_for_outbox(30)
    world.servers.do("kill", "qdrant")
    client = Client(gateway.port)
    for start in range(0, count, 64):
        reply = client.remember_batch(7, [f"backlog {i} of the outage" for i in range(start, min(count, start + 64))])
        assert reply.status in (200, 207), reply
    owed = gateway.metric("memory_gateway_outbox_pending")
    world.servers.do("start", "qdrant")
    with Load(gateway.port, 2, live) as load:
        seconds = gateway.wait_for_outbox(180)
    during = percentile([r.ms for r in load.since() if r.status == 200], 0.95)
    missing = set(world.contents("client_id = 7")) - world.points()
    gateway.end()
    took = f"{seconds:.1f} s" if seconds is not None else "not in 180 s"
    return [Result("N3", f"points missing after an outage of Qdrant in which {count:,} memories were written", count,
                   len(missing), f"{owed:,.0f} owed, delivered in {took}; p95 of a remember meanwhile {during:.0f} ms "
                   f"(before {before:.0f} ms)", not missing and seconds is not None and seconds <= 30 and during < 2 * before + 5)]


def drift(world):
    """Qdrant forgets its last points, then a whole collection; the reconciler has one cycle."""
    gateway, waits, failures = world.gateway().start(), [], 0
    client = Client(gateway.port)
    for i in range(0, 512, 64):
        client.remember_batch(8, [f"drift {i + j}" for j in range(64)])
    gateway.wait_for_outbox(30)

    def forget_last():
        world.qdrant("POST", "/collections/events/points/delete?wait=true", {"points": sorted(world.points())[-100:]})

    def drop():
        world.qdrant("DELETE", "/collections/events")

    for fault in (forget_last, drop):
        fault()
        client.remember(8, f"after {fault.__name__}")
        started = time.monotonic()
        while time.monotonic() - started < 90:
            difference = set(world.contents()) ^ world.points()
            if not difference:
                break
            time.sleep(0.5)
        waits.append(time.monotonic() - started)
        failures += len(difference)
    rows = len(world.contents())
    gateway.end()
    return [Result("N4", "ids that differ between PostgreSQL and Qdrant after points were forgotten, and after the collection "
                   "was dropped", rows, failures, " and ".join(f"{w:.0f} s" for w in waits) + " until equal",
                   failures == 0 and max(waits) <= 75)]
