"""The numbers N1 to N15: each function measures one and answers a Result."""
import random
import re
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from world import API, HOST, Client, Embedder, Load, Plan, Proxy, bound, percentile


@dataclass
class Result:
    number: str
    what: str
    n: int
    failures: int
    measured: str
    met: bool

    def row(self):
        return (f"| {self.number} | {self.what} | {self.n:,} | {self.failures} | {bound(self.failures, self.n)} | "
                f"{self.measured} | {'yes' if self.met else 'NO'} |")


# ---------------------------------------------------------------- N1, N2: kill -9

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


# ---------------------------------------------------------------- N3, N4: the outbox and the reconciler

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


# ---------------------------------------------------------------- N5: tenants

def canaries(world, count):
    """Fifty clients, each with a word of its own; many callers hang up before the answer. Nobody may see another's word."""
    gateway, clients, hung, leaks = world.gateway().start(), range(3000, 3050), [0], []
    words = {c: f"canary{c * 7919}x" for c in clients}
    client = Client(gateway.port)
    for c in clients:
        client.remember_batch(c, [f"{words[c]} likes tea number {i}" for i in range(8)])
    every = re.compile(rb"canary(\d+)x")

    def ask(client, n, i):
        c = 3000 + (n * 31 + i * 17) % 50
        if i % 4 == 0:  # hangs up while the answer is made
            try:
                with socket.create_connection((HOST, gateway.port), 5) as s:
                    body = f'{{"client_id": {c}, "query": "tea {i % 500}"}}'
                    s.sendall(f"POST {API}/recall HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                              f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            except OSError:
                pass
            hung[0] += 1
            return None
        reply = client.recall(c, f"tea {i % 50}", k=3) if i % 2 else client.ask("GET", f"{API}/events?client_id={c}&limit=3")
        found = {int(x) for x in every.findall(reply.body)}
        if found - {c * 7919}:
            leaks.append((c, reply.body[:200]))
        if reply.status != 200 or not found:
            odd.append(reply)
        return reply

    done, odd = 0, []
    while done < count:
        with Load(gateway.port, 24, ask) as load:
            time.sleep(5)
        done += len(load.since())
    for reply in odd[:5]:
        print("   canaries:", reply)
    gateway.end()
    return [Result("N5", f"answers with a word of another of 50 clients; beside them {hung[0]:,} callers hung up", done,
                   len(leaks), f"{len(odd)} answers were no 200 with the client's own words", not leaks and not odd)]


# ---------------------------------------------------------------- N6, N7: one store away

def mix(client, n, i):
    time.sleep(0.005)
    return client.recall(1 + n, f"question {i % 40}", k=3) if i % 3 else client.remember(1 + n, f"text {n} {i}")


def single_failures(world):
    """Qdrant, then Valkey, killed and frozen: the contract's codes and the time they take."""
    gateway, results, bad, total, notes = world.gateway().start(), [], 0, 0, []
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


# ---------------------------------------------------------------- N8: latency

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
    world.psql(f"""INSERT INTO client_profiles (client_id, user_id) SELECT i, 'seed-' || i FROM generate_series(4000, 4010) i
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


# ---------------------------------------------------------------- N9: fuzzed HTTP

SEEDS = [
    b'POST /api/v1/memory/remember HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n'
    b'{"client_id": 1, "content": "fuzzed"}'[:36],
    b'POST /api/v1/memory/recall HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n'
    b'{"client_id": 1, "query": "tea" } ',
    b"GET /api/v1/memory/recall?client_id=1&query=tea&k=5 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/memory/events?client_id=1&limit=10&since=2026-01-01T00:00:00Z HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /api/v1/memory/search/hybrid HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'1a\r\n{"client_id":1,"query":"a"}\r\n0\r\n\r\n',
    b'PATCH /api/v1/memory/1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n'
    b'{"content":"other"}',
    b"DELETE /api/v1/memory/999999?client_id=1 HTTP/1.1\r\nHost: x\r\n\r\n",
]
TOKENS = [b"\x00", b"\r\n", b"\n", b"%00", b"%2e%2e/", b"//", b"{", b"[" * 40, b"1e999", b"-1", b"9223372036854775808", b'"',
          b"\\ud800", b"\xff\xfe", b"client_id", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"NaN", b"null",
          b"A" * 4096, b"\xe2\x80\xae", b"true"]


def mutated(rng):
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data) + 1)
        choice = rng.randrange(5)
        if choice == 0 and place < len(data):
            data[place] = rng.randrange(256)
        elif choice == 1:
            data[place:place] = rng.choice(TOKENS)
        elif choice == 2:
            del data[place:place + rng.randint(1, 12)]
        elif choice == 3 and place < len(data):
            data[place:place] = data[place:place + rng.randint(1, 30)]
        else:
            data[place:place + 1] = bytes([rng.randrange(256)])
    return bytes(data)


def fuzzed(world, count, seed):
    """Mutated bytes on raw sockets; the process must live, and answer nothing but its own refusals."""
    gateway = world.gateway().start()
    odd, done, lock = [], [0], threading.Lock()

    def fuzz(n):
        rng = random.Random(f"{seed}-{n}")
        for _ in range(count // 16):
            data = mutated(rng)
            try:
                with socket.create_connection((HOST, gateway.port), 5) as s:
                    s.settimeout(2)
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    answer = s.recv(65536)
            except OSError:
                answer = b""
            status = answer[9:12]
            with lock:
                done[0] += 1
                if status[:1] == b"5":
                    odd.append((data, answer[:200]))

    threads = [threading.Thread(target=fuzz, args=(n,)) for n in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alive = gateway.process.poll() is None and gateway.ask("GET", "/health/ready").status == 200
    for data, answer in odd[:5]:
        print("   fuzz:", data[:300], "->", answer)
    gateway.end()
    return [Result("N9", "fuzzed requests after which the process was gone, or that were answered with a 5xx", done[0],
                   len(odd) + (not alive), "the same process" if alive else "the process ended", alive and not odd)]


# ---------------------------------------------------------------- N11: resources

def resources(world, requests):
    """Mixed requests while stores are bounced; what the process holds before and after."""
    gateway = world.gateway().start()

    def run(count, bounce=False):
        done, moment = 0, 0
        while done < count:
            with Load(gateway.port, 16, lambda c, n, i: c.recall(1 + n % 4, f"topic {i % 300}") if i % 4 else
                      c.remember(1 + n % 4, f"text {n} {i}")) as load:
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
    last = gateway.resources()
    gateway.end()
    drift = (last["rss"] - first["rss"]) / first["rss"]
    return [Result("N11", "resources that grew over mixed requests with each store killed in turn", total,
                   (last["fds"] > first["fds"] + 4) + (last["threads"] > first["threads"] + 2) + (drift > 0.1),
                   f"RSS {first['rss']:.0f} → {last['rss']:.0f} MB ({drift * 100:+.0f} %), files {first['fds']} → {last['fds']}, "
                   f"threads {first['threads']} → {last['threads']}",
                   drift <= 0.1 and last["fds"] <= first["fds"] + 4 and last["threads"] <= first["threads"] + 2
                   and last["rss"] < 200)]


# ---------------------------------------------------------------- N13: shutdown

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


# ---------------------------------------------------------------- N14: overload

LUA = """counter = 0
local id = 0
setup = function(t) id = id + 1; t:set('id', id) end
request = function() counter = counter + 1
    return wrk.format('GET', '/api/v1/memory/recall?client_id=1&k=5&query=what+of+%s' .. id .. 'x' .. counter) end
done = function(summary, latency)
    io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.duration, latency:percentile(99),
        summary.errors.status + summary.errors.timeout + summary.errors.connect + summary.errors.read)) end"""


def wrk(world, gateway, connections, seconds, tag):
    path = f"{world.servers.root}/load.lua"
    with open(path, "w") as f:
        f.write(LUA % tag)
    out = subprocess.run(["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", path,
                          f"http://{HOST}:{gateway.port}"], capture_output=True, text=True, check=True).stdout
    n, us, p99, errors = map(int, re.search(r"RESULT (.*)", out).group(1).split())
    return {"good": (n - errors) * 1e6 / us, "p99": p99 / 1000, "errors": errors, "n": n}


def overload(world):
    """Sixteen times the connections that already fill the gateway; then the usual load again."""
    embedder = world.stand_ins()
    gateway = world.gateway(**embedder).start()
    client = Client(gateway.port)
    for start in range(0, 128, 64):
        client.remember_batch(1, [f"overload {start + j} topic" for j in range(64)])
    wrk(world, gateway, 32, 2, "w")
    peak = wrk(world, gateway, 32, 5, "p")
    storm = wrk(world, gateway, 512, 8, "s")
    after = wrk(world, gateway, 32, 5, "a")
    calm = wrk(world, gateway, 4, 3, "c")
    gateway.end()
    share, back = storm["good"] / peak["good"], after["good"] / peak["good"]
    return [Result("N14", "of peak goodput kept with 512 connections instead of 32 (must be 80 %), and right after", storm["n"],
                   (share < 0.8) + (back < 0.8), f"peak {peak['good']:,.0f}/s; overloaded {share * 100:.0f} % with "
                   f"{storm['errors']:,} refused and p99 {storm['p99']:.0f} ms; afterwards {back * 100:.0f} %, p99 at 4 "
                   f"connections {calm['p99']:.0f} ms", share >= 0.8 and back >= 0.8)]


# ---------------------------------------------------------------- N15: torture

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
