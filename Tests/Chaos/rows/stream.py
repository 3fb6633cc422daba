"""The stream of events, when nothing happens."""
import time

from rows.checks import cpu, expect
from world import API, Follower


def idle_stream(world):
    """stream: four followers and an idle minute: less than three seconds of processor, at most two words a second to each"""
    gateway = world.gateway().start()
    followers = [Follower(gateway.port) for _ in range(4)]
    try:
        time.sleep(3)
        before, said = cpu(gateway), sum(f.quiet for f in followers)
        time.sleep(60)
        used, said = cpu(gateway) - before, sum(f.quiet for f in followers) - said
        expect(used < 3, f"{used:.1f} s of processor in a minute")
        expect(0 < said <= 60 * 2 * len(followers), f"{said} times nothing was said to {len(followers)} followers")
        # After the quiet they must still hear at once.
        reply = gateway.ask("POST", API + "/events", {"event_type": "task.late", "event_source": "chaos", "payload": {}})
        expect(reply.status in (200, 201), reply)
        end = time.monotonic() + 10
        while not all(reply.json["id"] in f.heard for f in followers):
            expect(time.monotonic() < end, "what happens after the quiet is not heard", [f.heard for f in followers])
            time.sleep(0.05)
    finally:
        for follower in followers:
            follower.close()


ROWS = [idle_stream]
