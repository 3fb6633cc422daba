"""N11: what the process holds."""
import time

from measures.result import Result
from world import API, Load

LARGE = (16 << 20) - 1  # the most that a body may have
LIMIT = 200  # what the container has, in MB


def resources(world, requests):
    """Mixed requests while stores are bounced, and a body of 16 MiB every second; what the process holds before and after, and
    at its peak."""
    gateway = world.gateway().start()
    bodies = [start + unit * ((LARGE - len(start) - 2) // len(unit)) + b"]}" for start, unit in (
        (b'{"memories":[],"x":[0', b",0"), (b'{"memories":[],"x":[{}', b",{}"), (b'{"memories":[],"x":["a"', b',"a"'))]

    def run(count, bounce=False):
        done, moment = 0, 0
        while done < count:
            with Load(gateway.port, 16, lambda c, n, i: c.recall(1 + n % 4, f"topic {i % 300}") if i % 4 else
                      c.remember(1 + n % 4, f"text {n} {i}")) as load, Load(
                          gateway.port, 1, lambda c, n, i: (time.sleep(1), c.ask(
                              "POST", API + "/remember/batch", bodies[i % 3]))[1], timeout=60):
                time.sleep(5)
                if bounce:
                    server = ("qdrant", "valkey", "postgres")[moment % 3]
                    moment += 1
                    world.servers.do("kill", server)
                    time.sleep(1)
                    world.servers.do("start", server)
                time.sleep(5)
            done += len(load.since())
        gateway.wait_for_outbox(60)
        time.sleep(3)
        return done

    run(requests // 2)
    first = gateway.resources()
    total = run(requests, bounce=True)
    last, peak = gateway.resources(), gateway.peak()
    gateway.end()
    drift = (last["rss"] - first["rss"]) / first["rss"]
    return [Result("N11", "resources that grew over mixed requests with bodies of 16 MiB among them and each store killed in turn", total,
                   (last["fds"] > first["fds"] + 4) + (last["threads"] > first["threads"] + 2) + (drift > 0.1) + (peak >= LIMIT),
                   f"RSS {first['rss']:.0f} → {last['rss']:.0f} MB ({drift * 100:+.0f} %), {peak:.0f} at its peak, files {first['fds']} → {last['fds']}, "
                   f"threads {first['threads']} → {last['threads']}",
                   drift <= 0.1 and last["fds"] <= first["fds"] + 4 and last["threads"] <= first["threads"] + 2
                   and peak < LIMIT)]
