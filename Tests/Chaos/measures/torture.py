"""N15: torture."""
import time

from measures.result import Result
from world import HOST, Client, Embedder, Plan, Proxy


def torture(world, every):
    """Each chunk of bytes between the gateway and its four dependencies is lost once in each way, in a remember and in a
    recall: the codes of the contract, exactly one row for a key, and the right answer as soon as the fault is gone."""
    embedder, plan = Embedder(), Plan()
    proxies = {name: Proxy(name, world.ports[name], plan) for name in ("postgres", "valkey", "qdrant")}
    proxies["embedder"] = Proxy("embedder", embedder.port, plan)
    environment = world.variables({name: proxies[name].port for name in ("postgres", "valkey", "qdrant")})
    environment["EMBEDDINGS_URL"] = f"http://{HOST}:{proxies['embedder'].port}/v1"
    gateway = world.gateway(**environment, EMBEDDINGS_MODEL="torture").start()
    client, problems, cases, steps, slowest = Client(gateway.port), [], 0, {}, 0

    def healthy(number):
        """Waits until a write and a read go through whole, as after the breakers' pause."""
        for attempt in range(400):
            a = client.remember(1, f"probe {number} {attempt}")
            b = client.recall(1, f"probe {number} {attempt}")
            if a.status == 200 and b.status == 200 and not b.json.get("degraded"):
                return True
            time.sleep(0.05)
        return False

    healthy("start")
    known = client.remember(2, "the reference memory about green tea").json["memory_id"]
    for call in ("remember", "recall"):
        counts = []
        for n in range(3):
            plan.arm()
            if call == "remember":
                client.remember(1, f"count {n}", f"count-{n}")
            else:
                client.recall(2, f"green tea {n}")
            counts.append(plan.count)
        steps[call] = max(counts)
        for kind in Plan.KINDS:
            for at in range(1, steps[call] + 1, every):
                cases += 1
                key = f"torture-{call}-{kind}-{at}"
                plan.arm(at, kind)
                if call == "remember":
                    reply = client.remember(1, key, key)
                else:
                    reply = client.recall(2, f"reference {key}")
                hit = plan.hit
                plan.arm()
                slowest = max(slowest, reply.ms)
                allowed = reply.status in (200, 207) or reply.status == 503 and reply.json.get("code")
                if not allowed or reply.ms > 2500:
                    problems.append((key, hit, reply))
                if reply.status == 200 and call == "recall":
                    found = [r["memory_id"] for r in reply.json["results"]]
                    if found != [known]:
                        problems.append((key, hit, reply))
                if call == "remember":
                    outcome = reply.json.get("outcome")
                    rows = lambda: world.psql(f"SELECT count(*) FROM events WHERE payload ->> 'content' = '{key}'")[0][0]
                    if reply.status == 503 and outcome == "not_stored" and rows() != "0":
                        problems.append((key, hit, "stored all the same"))
                    if reply.status in (200, 207) and rows() != "1":
                        problems.append((key, hit, "acknowledged, not stored"))
                if not healthy(f"{call} {kind} {at}"):
                    problems.append((key, hit, "it does not recover"))
                if call == "remember":
                    # A row that is locked by a connection that was cut off is free within seconds.
                    for _ in range(5):
                        again = client.remember(1, key, key)
                        if again.status in (200, 207):
                            break
                    if again.status not in (200, 207) or rows() != "1":
                        problems.append((key, hit, "the same key again:", again, rows()))
                else:
                    again = client.recall(2, f"reference {key}")
                    if [r["memory_id"] for r in again.json.get("results", [])] != [known] or again.json.get("degraded"):
                        problems.append((key, hit, "the recall again:", again))
    owed = gateway.wait_for_outbox(60)
    if gateway.process.poll() is not None:
        problems.append("the process ended")
    for problem in problems[:10]:
        print("   torture:", problem)
    gateway.end()
    for proxy in proxies.values():
        proxy.close()
    return [Result("N15", f"of the {steps['remember']} chunks of a remember and the {steps['recall']} of a recall, each failed "
                   "once by error, timeout, garbage and cut: cases that broke an invariant", cases, len(problems),
                   f"slowest answer {slowest:.0f} ms; outbox {'drained' if owed is not None else 'NOT drained'}",
                   not problems and owed is not None)]
