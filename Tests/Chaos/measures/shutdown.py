"""N13: shutdown."""
import signal
import time

from measures.result import Result
from world import Load, percentile


def shutdowns(world, rounds):
    """SIGTERM under load: whoever was accepted is answered."""
    failed, never_read, total, times, codes = [], 0, 0, [], set()
    gateway = world.gateway()
    for number in range(rounds):
        gateway.start()
        asked = []

        def write(client, n, i, number=number, asked=asked):
            time.sleep(0.01)
            # A connection for each request, so that none is closed while it is idle: what is not refused was accepted.
            client.close()
            text = f"shutdown {number} {n} {i}"
            reply = client.remember(1 + n, text)
            if "Refused" in str(reply.error):
                return None
            asked.append((reply, text))
            return reply

        with Load(gateway.port, 8, write) as load:
            time.sleep(0.5)
            started = time.monotonic()
            codes.add(gateway.end(signal.SIGTERM))
            times.append(time.monotonic() - started)
        replies = load.since()
        stored = set(world.contents().values())
        cut = [(r, text) for r, text in asked if r.status not in (200, 207)]
        failed += [r for r, text in cut if text in stored or r.status is not None]
        never_read += sum(r.status is None and text not in stored for r, text in cut)
        total += len(replies)
    return [Result("N13", f"requests that were accepted and not answered in {rounds} SIGTERMs under load", total, len(failed),
                   f"exit in {percentile(times, 0.95):.2f} s (p95), {max(times):.2f} s at most, codes {sorted(codes)}; "
                   + (repr(failed[0]) if failed else f"{never_read} connections reset in the kernel's queue, their request never read"), not failed and max(times) <= 30 and codes == {0})]
