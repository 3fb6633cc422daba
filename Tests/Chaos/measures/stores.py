"""N6, N7: one store away."""
import time

from measures.result import Result
from world import Load, percentile


def mix(client, n, i):
    time.sleep(0.005)
    return client.recall(1 + n, f"question {i % 40}", k=3) if i % 3 else client.remember(1 + n, f"text {n} {i}")


def single_failures(world):
    """Qdrant, then Valkey, killed and frozen: the contract's codes and the time they take."""
    gateway, bad, total, notes = world.gateway().start(), 0, 0, []
    with Load(gateway.port, 6, mix) as load:
        time.sleep(6)
    healthy = percentile([r.ms for r in load.since()], 0.99)
    ok = True
    for server in ("qdrant", "valkey"):
        for harm, heal in (("kill", "start"), ("pause", "resume")):
            with Load(gateway.port, 6, mix) as load:
                world.servers.do(harm, server)
                time.sleep(2)
                settled = time.monotonic()
                time.sleep(4)
                replies, later = load.since(), load.since(settled)
                world.servers.do(heal, server)
            bad += sum(r.status not in (200, 207) for r in replies)
            total += len(replies)
            p99 = percentile([r.ms for r in later], 0.99)
            ok = ok and p99 <= 2 * healthy + 20
            notes.append(f"{server} {'killed' if harm == 'kill' else 'frozen'} {p99:.0f} ms")
            gateway.wait_for_outbox(30)
    gateway.end()
    return [Result("N6", "answers other than 200 or 207 while Qdrant or Valkey was killed or frozen", total, bad,
                   f"p99 healthy {healthy:.0f} ms; from two seconds on: " + ", ".join(notes), bad == 0 and ok)]


def without_postgres(world):
    """PostgreSQL killed and frozen: honest refusals, quick ones once the breaker is open, and a quick return."""
    gateway, notes, odd, hung, total, ok = world.gateway().start(), [], 0, 0, 0, True

    def write(client, n, i):
        time.sleep(0.01)
        return client.remember(1 + n, f"away {n} {i}")

    for harm, heal in (("kill", "start"), ("pause", "resume")):
        with Load(gateway.port, 8, write) as load:
            world.servers.do(harm, "postgres")
            started = time.monotonic()
            time.sleep(5)
            replies = load.since(started)
            world.servers.do(heal, "postgres")
            back = time.monotonic()
            while time.monotonic() - back < 15 and not any(r.status == 200 for r in load.since(back)):
                time.sleep(0.01)
            returned = time.monotonic() - back
        before = percentile([r.ms for r in load.since(started)[:60]], 0.99)
        after = percentile([r.ms for r in replies[100:] if r.status == 503], 0.99)
        odd += sum(r.status not in (200, 207, 503) for r in load.since())
        hung += sum(r.ms > 2000 for r in load.since())
        total += len(load.since())
        ok = ok and before <= 1200 and after <= 50 and returned <= 5
        notes.append(f"{'killed' if harm == 'kill' else 'frozen'}: first 503s p99 {before:.0f} ms, later {after:.0f} ms, "
                     f"serving {returned:.1f} s after it was back")
    gateway.end()
    return [Result("N7", "answers that were no contract answer, or took over two seconds, while PostgreSQL was away", total,
                   odd + hung, "; ".join(notes), odd + hung == 0 and ok)]
