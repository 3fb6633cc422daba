"""N16: the stream of events."""
import subprocess
import threading
import time

from measures.result import Result
from world import API, Client, Follower, Load

LATE = """BEGIN; INSERT INTO events (event_type, event_source, payload, metadata)
    SELECT 'task.late', 'chaos', '{}', '{}' FROM generate_series(1, 300); SELECT pg_sleep(1.5); COMMIT"""


def stream(world, count):
    """Sixteen writers of singles and batches, and transactions that take their ids long before they commit: a follower must
    get every event once."""
    gateway, stopping = world.gateway().start(), threading.Event()
    follower = Follower(gateway.port)
    client = Client(gateway.port)
    while not follower.heard:  # from here on it follows
        client.ask("POST", API + "/events", {"event_type": "task.first", "event_source": "chaos", "payload": {}})
        time.sleep(0.2)
    first = int(world.psql("SELECT max(id) FROM events")[0][0])

    def late():
        while not stopping.is_set():
            subprocess.run(["psql", "-q", "-h", "127.0.0.1", "-p", str(world.ports["postgres"]), "-U", "postgres", "-d",
                            "postgres", "-c", LATE], stdout=subprocess.DEVNULL, check=True)

    def write(client, n, i):
        if i % 4 == 0:
            return client.remember_batch(1 + n, [f"streamed {n} {i} {j}" for j in range(64)])
        return client.remember(1 + n, f"streamed {n} {i}")

    threads = [threading.Thread(target=late) for _ in range(2)]
    for thread in threads:
        thread.start()
    stored = lambda: {int(i) for (i,) in world.psql(f"SELECT id FROM events WHERE id > {first}")}
    with Load(gateway.port, 16, write) as load:
        end = time.monotonic() + 600
        while len(stored()) < count and time.monotonic() < end:
            time.sleep(1)
    stopping.set()
    for thread in threads:
        thread.join()
    wanted, settled = stored(), time.monotonic()
    while not wanted <= set(follower.heard) and time.monotonic() - settled < 30 and not follower.ended:
        time.sleep(0.2)
    took = time.monotonic() - settled
    heard = [i for i in follower.heard if i > first]
    lost, twice = wanted - set(heard), len(heard) - len(set(heard))
    follower.close()
    gateway.end()
    odd = [r for r in load.since() if r.status not in (200, 207)]
    for reply in odd[:3]:
        print("   stream:", reply)
    return [Result("N16", "events that a follower of the stream did not get, or got twice, under 16 writers and transactions of "
                   "300 events that commit 1.5 s after they took their ids", len(wanted), len(lost) + twice,
                   f"{len(lost)} lost, {twice} twice; the last was heard {took:.1f} s after the last write; {len(odd)} writes "
                   "refused", not lost and not twice and not odd)]
