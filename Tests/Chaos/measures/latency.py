"""N8: latency."""
import time

from measures.result import Result
from world import HOST, Client, Embedder, Load, percentile


def latency(world, rows, own):
    """Recall cached and computed, remember, and full text of a client that has many rows."""
    embedder = Embedder()
    gateway = world.gateway(EMBEDDINGS_URL=f"http://{HOST}:{embedder.port}/v1", EMBEDDINGS_MODEL="chaos").start()
    client = Client(gateway.port)
    for start in range(0, 512, 64):
        client.remember_batch(5, [f"latency {start + j} about topic {j}" for j in range(64)])

    def measure(body, seconds=5):
        with Load(gateway.port, 4, body) as load:
            time.sleep(seconds)
        replies = [r for r in load.since() if r.status in (200, 207)]
        times = [r.ms for r in replies]
        return percentile(times, 0.95), percentile(times, 0.99), len(times)

    def paced(call):
        def body(client, n, i):
            time.sleep(0.02)
            return call(client, n, i)
        return body

    for i in range(20):
        client.recall(5, f"topic {i}")
    warm = measure(paced(lambda c, n, i: c.recall(5, f"topic {i % 20}")))
    cold = measure(paced(lambda c, n, i: c.recall(5, f"never asked {n} {i}")))
    write = measure(paced(lambda c, n, i: c.remember(6, f"written {n} {i}")))
    world.psql("""INSERT INTO client_profiles (client_id, user_id) SELECT i, 'seed-' || i FROM generate_series(4000, 4010) i
        ON CONFLICT DO NOTHING""")
    world.psql(f"""INSERT INTO events (event_type, event_source, client_id, payload, metadata)
        SELECT 'memory:fact', 'seed', CASE WHEN i <= {own} THEN 4000 ELSE 4001 + i % 10 END,
            jsonb_build_object('content', 'note ' || i || ' about subject ' || i % 5000 || ' and theme ' || i % 97 || ' of the day',
                'memory_type', 'fact', 'memory_scope', 'user', 'tags', '[]'::jsonb), '{{}}'
        FROM generate_series(1, {rows}) i""")
    world.psql("VACUUM ANALYZE events")
    world.servers.do("kill", "qdrant")
    questions = ("subject {}", "what was the theme {} about", "note of the day {}", "subject {} and theme of note")
    measure(paced(lambda c, n, i: c.recall(4000, f"warm up {i}")), 2)
    text = measure(paced(lambda c, n, i: c.recall(4000, questions[i % 4].format(i % 5000))))
    world.servers.do("start", "qdrant")
    world.psql("DELETE FROM events WHERE event_source = 'seed'")
    gateway.end()
    show = lambda m: f"{m[0]:.0f}/{m[1]:.0f} ms"
    return [Result("N8", "calls timed; a p95 over its bound counts as a failure (recall 200, remember 500, full text 150 ms)",
                   warm[2] + cold[2] + write[2] + text[2],
                   (warm[0] > 200) + (cold[0] > 200) + (write[0] > 500) + (text[0] > 150),
                   f"p95/p99: recall cached {show(warm)}, computed {show(cold)}; remember {show(write)}; full text with "
                   f"{own:,} of {rows:,} rows {show(text)}",
                   warm[1] <= 400 and cold[0] <= 200 and write[0] <= 500 and text[0] <= 150)]
