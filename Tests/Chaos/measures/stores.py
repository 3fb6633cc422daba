"""N6, N7: one store away."""
import time

from measures.result import Result
from world import API, Load, percentile


def mix(client, n, i):
    time.sleep(0.005)
    return client.recall(1 + n, f"question {i % 40}", k=3) if i % 3 else client.remember(1 + n, f"text {n} {i}")


class Neighbors:
    """Whoever else asks: a health check every tenth of a second, and four who read and write sessions, so that one of them is
    nearly always under way. What they wait for must not be waited for by others."""

    def __init__(self, gateway):
        self.health = Load(gateway.port, 1, lambda c, n, i: (time.sleep(0.1), c.ask("GET", "/health"))[1])
        self.sessions = Load(gateway.port, 4, self.session)

    @staticmethod
    def session(client, n, i):
        time.sleep(0.002)
        path = f"{API}/sessions/n{n}/messages"
        if i % 5:
            return client.ask("GET", f"{path}?client_id=1")
        return client.ask("POST", path, {"client_id": 1, "messages": [{"role": "user", "content": f"message {i}"}]})

    def __enter__(self):
        self.health.__enter__()
        self.sessions.__enter__()
        return self

    def __exit__(self, *_):
        self.health.__exit__()
        self.sessions.__exit__()

    def odd(self):
        """Answers that are none of the contract, or took longer than theirs may."""
        return [r for r in self.health.since() if r.status not in (200, 503) or r.ms > 2000] + [
            r for r in self.sessions.since() if r.status not in (200, 201, 503, 504) or r.ms > 1200]


def late(reply):
    """Whether an answer took longer than its call has, with a tenth of a second for the load generator."""
    return reply.ms > (1100 if b'"results"' in reply.body else 2100)


def single_failures(world):
    """Qdrant, then Valkey, killed and frozen, each three times: the contract's codes and the time they take, from the first
    millisecond on, with health checks and sessions beside them."""
    gateway, bad, total, notes = world.gateway().start(), [], 0, []
    with Neighbors(gateway), Load(gateway.port, 6, mix) as load:
        time.sleep(6)
    healthy = percentile([r.ms for r in load.since()], 0.99)
    ok = True
    for server in ("qdrant", "valkey"):
        for harm, heal in (("kill", "start"), ("pause", "resume")):
            first, later = [], []
            for _ in range(3):
                with Neighbors(gateway) as neighbors, Load(gateway.port, 6, mix) as load:
                    time.sleep(0.5)
                    world.servers.do(harm, server)
                    time.sleep(2)
                    settled = time.monotonic()
                    time.sleep(1.2)
                    first, later = first + load.since(), later + load.since(settled)
                    world.servers.do(heal, server)
                bad += [r for r in load.since() if r.status not in (200, 207) or late(r)] + neighbors.odd()
                total += len(load.since())
                gateway.wait_for_outbox(30)
            p99, worst = percentile([r.ms for r in later], 0.99), max(r.ms for r in first)
            ok = ok and p99 <= 2 * healthy + 20
            notes.append(f"{server} {'killed' if harm == 'kill' else 'frozen'} {worst:.0f} and {p99:.0f} ms")
    for reply in bad[:5]:
        print("   single failures:", reply)
    gateway.end()
    return [Result("N6", "answers other than 200 or 207, or later than their budget, from the moment on in which Qdrant or Valkey "
                   "was killed or frozen, beside health checks and sessions", total, len(bad),
                   f"p99 healthy {healthy:.0f} ms; the slowest of all, and p99 from two seconds on: " + ", ".join(notes),
                   not bad and ok)]


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
