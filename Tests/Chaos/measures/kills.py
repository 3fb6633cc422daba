"""N1, N2: kill -9."""
import signal
import threading
import time

from measures.result import Result
from world import Client, Load


class Ledger:
    """What was asked for, by key, and what came of it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acked, self.refused, self.unknown, self.dropped = {}, {}, {}, {}

    def note(self, key, contents, reply):
        with self.lock:
            if reply.status in (200, 201, 207):
                receipts = reply.json.get("results", [reply.json])
                for content, receipt in zip(contents, receipts):
                    self.acked[receipt["memory_id"]] = content
            elif reply.status == 503 and reply.json.get("outcome") == "not_stored":
                self.refused[key] = contents
            elif reply.status == 503:
                self.unknown[key] = contents
            else:
                self.dropped[key] = contents


def kill_rounds(world, rounds):
    """SIGKILL to the gateway, to PostgreSQL and to both in turn, under load; then every promise is looked up."""
    gateway, ledger = world.gateway().start(), Ledger()
    writers, in_flight, odd, slow = 16, 0, [], []
    for number in range(rounds * 3):
        target = ("gateway", "postgres", "both")[number % 3]

        def write(client, n, i, number=number):
            key = f"k{number}-{n}-{i}"
            if i % 3 == 0:
                contents = [f"{key} batch {j}" for j in range(16)]
                reply = client.remember_batch(n + 1, contents, key)
            else:
                contents = [f"{key} single"]
                reply = client.remember(n + 1, contents[0], key)
            ledger.note(key, contents, reply)
            if reply.status is None or reply.status == 503:
                time.sleep(0.02)
            return reply

        with Load(gateway.port, writers, write) as load:
            time.sleep(world.random.uniform(0.3, 0.8))
            if target != "gateway":
                world.servers.do("kill", "postgres")
            if target != "postgres":
                gateway.end(signal.SIGKILL)
            time.sleep(0.1)
            if target != "gateway":
                world.servers.do("start", "postgres")
            if target != "postgres":
                gateway.start()
            time.sleep(0.2)
        in_flight += writers
        odd += [r for r in load.since() if r.status not in (200, 207, 503, None)]
        slow += [r for r in load.since() if r.ms > 2500]
    # What nobody could answer for is asked again with its key.
    client, retried = Client(gateway.port), 0
    for key, contents in list(ledger.unknown.items()) + list(ledger.dropped.items()):
        owner = int(key.split("-")[1]) + 1
        for _ in range(50):
            reply = (client.remember(owner, contents[0], key) if len(contents) == 1
                     else client.remember_batch(owner, contents, key))
            if reply.status in (200, 207):
                break
            time.sleep(0.1)
        ledger.note(key, contents, reply)
        retried += 1
    stored = world.contents()
    counts = {}
    for text in stored.values():
        counts[text] = counts.get(text, 0) + 1
    lost = [i for i, text in ledger.acked.items() if stored.get(i) != text]
    false_refusals = [t for texts in ledger.refused.values() for t in texts if t in counts]
    twice = [t for t, c in counts.items() if c > 1]
    missing = [t for texts in (ledger.unknown | ledger.dropped).values() for t in texts if counts.get(t) != 1]
    gateway.end()
    return [
        Result("N1", f"acknowledged memories lost in {rounds} rounds of kill -9 each of the gateway, PostgreSQL and both",
               len(ledger.acked), len(lost), f"{len(odd)} other answers", not lost and not odd),
        Result("N2", "503 without `unknown` whose memory was stored all the same; retries with the same key that did not end "
               "in exactly one row",
               len(ledger.refused) + retried, len(false_refusals) + len(twice) + len(missing),
               f"{len(ledger.refused)} refused, {len(ledger.unknown)} unknown (at most {in_flight} in flight), "
               f"{len(ledger.dropped)} cut off; {len(slow)} took over 2.5 s",
               not false_refusals and not twice and not missing and len(ledger.unknown) <= in_flight),
    ]
