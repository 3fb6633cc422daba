#!/usr/bin/env python3
"""Measures the gateway against the floor of the machine, in the same run, and prints a table of ratios.

  servers.py run -- bench.py GATEWAY BARE_SERVER [--stand-ins DIR] [--seconds 4] [--rounds 3] [--only TEXT] [--long]
  servers.py run -- bench.py GATEWAY BARE_SERVER --against BINARY [--stand-ins DIR] [--rounds 9]

With --against, only two builds are compared, by their processor time for a request; more than 2 % is a failure.

PostgreSQL and Valkey are real. With --stand-ins (../shared/bench) the vector store and the embedding provider are canned
and fast, so that the gateway is measured and not them; without, the real Qdrant engine behind its Python front serves, and
vectors are lexical: cold recall and remember then say more of the front than of the gateway.
"""
import argparse, http.client, json, os, re, shutil, signal, socket, sqlite3, statistics, subprocess, sys, tempfile
import threading, time

HOST, CONNECTIONS = "127.0.0.1", 32
API = "/api/v1/memory"


def free_port():
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


RUNNING = []  # what must not outlive this process


class Gateway:
    def __init__(self, binary, extra=None, embedded=False):
        self.port = free_port()
        env = {k: v for k, v in os.environ.items() if not (embedded and re.match("POSTGRES|VALKEY|QDRANT|EMBED", k))}
        env.update(API_PORT=str(self.port), LOG_LEVEL="error", **(extra or {}))
        started = time.monotonic()
        self.process = subprocess.Popen([binary], env=env, stdin=subprocess.DEVNULL)
        RUNNING.append(self.process)
        while True:
            try:
                if self.get("/health/ready")[0] == 200:
                    break
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() - started > 30:
                raise RuntimeError("the gateway did not start")
            time.sleep(0.002)
        self.ready_ms = (time.monotonic() - started) * 1000

    def get(self, path):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def post(self, path, body):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        connection.request("POST", API + path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        out = answer.read()
        connection.close()
        assert answer.status in (200, 201, 207), (answer.status, out)
        return json.loads(out)

    def rss_mb(self):
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def wrk(port, lua, seconds, connections=CONNECTIONS):
    """Requests a second, p50/p95/p99 in ms, and how many answers were no 2xx."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua + """
done = function(summary, latency)
    io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(95), latency:percentile(99), summary.errors.status + summary.errors.timeout))
end""")
        script.flush()
        out = subprocess.run(["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "-s", script.name, f"http://{HOST}:{port}"],
                             capture_output=True, text=True, check=True).stdout
    n, us, p50, p95, p99, errors = map(int, re.search(r"RESULT (.*)", out).group(1).split())
    return {"rate": n * 1e6 / us, "p50": p50 / 1000, "p95": p95 / 1000, "p99": p99 / 1000, "errors": errors, "count": n}


# A counter of its own for each thread, so that no two requests are the same.
THREAD = "local id = 0; setup = function(t) id = id + 1; t:set('id', id) end\ncounter = 0\n"


def get_lua(path):
    return f"request = function() return wrk.format('GET', '{path}') end"


def cold_lua(client, tag, delay=0):
    pace = f"delay = function() return {delay} end\n" if delay else ""
    return THREAD + pace + f"""request = function() counter = counter + 1
    return wrk.format('GET', '{API}/recall?client_id={client}&k=5&query=what+of+{tag}' .. id .. 'x' .. counter) end"""


def post_lua(path, body):
    return THREAD + f"""request = function() counter = counter + 1
    return wrk.format('POST', '{API}{path}', {{['Content-Type'] = 'application/json'}}, {body}) end"""


REMEMBER = """'{"client_id": 1, "content": "memory ' .. id .. ' ' .. counter .. ' of a user who prefers morning deep work"}'"""
BATCH = """'{"memories": [' .. string.rep('{"client_id": 1, "content": "memory ' .. id .. ' ' .. counter .. ' of a user who prefers morning deep work"}', 64, ',') .. ']}'"""


def psql(sql):
    subprocess.run([BIN + "/psql", "-q", "-h", HOST, "-p", os.environ["POSTGRES_PORT"], "-U", "postgres", "-d", "postgres",
                    "-v", "ON_ERROR_STOP=1", "-c", sql], check=True, stdout=subprocess.DEVNULL)


def pgbench(seconds):
    """Rows a second that PostgreSQL stores one by one from 32 prepared connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("""INSERT INTO floor_events (event_type, event_source, client_id, payload, metadata) VALUES
            ('memory.fact', 'memory-gateway', 1, '{"content": "memory 1 2 of a user who prefers morning deep work", "memory_type": "fact", "memory_scope": "user", "tags": []}', '{}');""")
        script.flush()
        out = subprocess.run([BIN + "/pgbench", "-n", "-M", "prepared", "-c", "32", "-j", "2", "-T", str(seconds),
                              "-f", script.name, "-h", HOST, "-p", os.environ["POSTGRES_PORT"], "-U", "postgres", "postgres"],
                             capture_output=True, text=True, check=True).stdout
    return float(re.search(r"tps = ([\d.]+)", out).group(1))


def median(rounds):
    values = sorted(rounds)
    return statistics.median(values), values[0], values[-1]


class Table:
    def __init__(self):
        self.rows = []

    def ratio(self, case, values, floors, must, goal, note=""):
        """Medians of several rounds, and the ratio of each round to the floor that was measured beside it."""
        m, low, high = median([v / f for v, f in zip(values, floors)])
        self.add(case, f"{statistics.median(values):,.0f}/s", f"{statistics.median(floors):,.0f}/s", m, low, high, must, goal,
                 m >= must, note)

    def add(self, case, value, floor, m, low, high, must, goal, met, note=""):
        self.rows.append((case, value, floor, f"{m:.2f}", f"{low:.2f}…{high:.2f}", must, goal, "yes" if met else "NO", note))
        print(f"  {case}: {m:.2f} ({low:.2f}…{high:.2f}), must {must}, goal {goal}: {'met' if met else 'NOT MET'} {note}", flush=True)

    def markdown(self):
        lines = ["| case | here | floor | median | min…max | must | goal | met |", "|---|---:|---:|---:|---:|---:|---:|---|"]
        for case, value, floor, m, spread, must, goal, met, note in self.rows:
            lines.append(f"| {case}{' (' + note + ')' if note else ''} | {value} | {floor} | {m} | {spread} | {must} | {goal} | {met} |")
        return "\n".join(lines)


def start_stand_ins(folder, work):
    """fastqdrant and fastembed, compiled here; their variables."""
    started, env = [], {}
    for name, flags in (("fastqdrant", ["-pthread"]), ("fastembed", [])):
        subprocess.run(["cc", "-O2", *flags, "-o", f"{work}/{name}", f"{folder}/{name}.c", "-lm"], check=True)
        port = free_port()
        command = [f"{work}/{name}"] + (["--port", str(port), "--hits", "100"] if name == "fastqdrant" else [str(port), "1536"])
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        env["QDRANT_URL" if name == "fastqdrant" else "EMBEDDINGS_URL"] = f"http://{HOST}:{port}" + ("/v1" if name == "fastembed" else "")
    env["EMBEDDINGS_MODEL"] = "stand-in"
    time.sleep(0.3)
    return started, env


def main():
    global BIN
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gateway"); p.add_argument("bare")
    p.add_argument("--stand-ins"); p.add_argument("--seconds", type=int, default=4); p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", default=""); p.add_argument("--long", action="store_true", help="the million of mixed requests, and of events")
    p.add_argument("--output"); p.add_argument("--against", help="another build, to be compared with in rounds of a second")
    a = p.parse_args()
    BIN = sorted(__import__("glob").glob("/usr/lib/postgresql/*/bin"))[-1]
    work = tempfile.mkdtemp(prefix="memory-bench-")
    table, children, extra = Table(), [], {}
    wanted = lambda name: a.only in name
    try:
        if a.stand_ins:
            children, extra = start_stand_ins(a.stand_ins, work)
        if a.against:
            import against
            against.bench.BIN = BIN
            sys.exit(not against.compare(a.gateway, a.against, extra, children, max(5, a.rounds), 1))
        gateway = Gateway(a.gateway, extra)
        # Ids 1…100 are what the stand-in finds.
        for start in range(0, 128, 64):
            gateway.post("/remember/batch", {"memories": [
                {"client_id": 1, "content": f"memory number {start + i}: the user prefers morning deep work"} for i in range(64)]})
        cached = f"{API}/recall?client_id=1&query=deep+work&k=5"
        for _ in range(3):
            body = gateway.get(cached)[1]
        assert json.loads(body)["cached"], body
        with open(f"{work}/bytes", "wb") as f:
            f.write(body)
        bare_port = free_port()
        children.append(subprocess.Popen([a.bare, str(bare_port), f"{work}/bytes"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(0.5)
        psql("DROP TABLE IF EXISTS floor_events; CREATE TABLE floor_events (LIKE events INCLUDING ALL)")

        cold_peak = None
        if wanted("recall"):
            bare, warm, cold = [], [], []
            for n in range(a.rounds):
                bare.append(wrk(bare_port, get_lua("/bytes"), a.seconds)["rate"])
                warm.append(wrk(gateway.port, get_lua(cached), a.seconds))
                cold.append(wrk(gateway.port, cold_lua(1, f"r{n}"), a.seconds))
            assert not any(r["errors"] for r in warm + cold), (warm, cold)
            table.ratio("recall, cached in Valkey", [r["rate"] for r in warm], bare, 0.5, 0.75)
            table.ratio("recall, cold", [r["rate"] for r in cold], bare, 0.15, 0.3,
                        f"p50 {statistics.median(r['p50'] for r in cold):.1f} ms, p99 {statistics.median(r['p99'] for r in cold):.1f} ms at full load")
            cold_peak = statistics.median(r["rate"] for r in cold)
            pace = max(1, round(CONNECTIONS * 1000 / (cold_peak / 2)))
            half = [wrk(gateway.port, cold_lua(1, f"h{n}", pace), a.seconds) for n in range(a.rounds)]
            m, low, high = median([r["p99"] for r in half])
            table.add("recall p99 at half of peak load, ms", f"{statistics.median(r['rate'] for r in half):,.0f}/s", "", m, low, high, "10", "3", m <= 10)

        if wanted("remember"):
            floor, single, batch = [], [], []
            for _ in range(a.rounds):
                floor.append(pgbench(a.seconds))
                single.append(wrk(gateway.port, post_lua("/remember", REMEMBER), a.seconds))
                batch.append(wrk(gateway.port, post_lua("/remember/batch", BATCH), a.seconds, 8))
            assert not any(r["errors"] for r in single + batch), (single, batch)
            table.ratio("remember, durable, all three stores", [r["rate"] for r in single], floor, 0.5, 1.2,
                        f"p50 {statistics.median(r['p50'] for r in single):.1f} ms")
            table.ratio("remember/batch of 64, per memory", [r["rate"] * 64 for r in batch], floor, 2, 5)

        if wanted("session"):
            short, long = [], []
            message = lambda session: f"""'{{"client_id": 1, "messages": [{{"role": "user", "content": "hello ' .. counter .. '"}}]}}'"""
            gateway.post("/sessions/long/messages", {"client_id": 1, "messages": [{"role": "user", "content": "x"}] * 100})
            for _ in range(9):
                gateway.post("/sessions/long/messages", {"client_id": 1, "messages": [{"role": "user", "content": "x"}] * 100})
            for n in range(a.rounds):
                # Many sessions, so that none of them gets long.
                short_lua = THREAD + f"""request = function() counter = counter + 1
    return wrk.format('POST', '{API}/sessions/s{n}-' .. id .. '-' .. (counter % 20000) .. '/messages', {{['Content-Type'] = 'application/json'}}, {message('s')}) end"""
                short.append(wrk(gateway.port, short_lua, a.seconds)["rate"])
                long.append(wrk(gateway.port, post_lua("/sessions/long/messages", message("long")), a.seconds)["rate"])
            table.ratio("session append at 1,000 messages ÷ at 10", long, short, 0.8, 1.0)

        if wanted("mixed"):
            target = 1_000_000 if a.long else 200_000
            lua = THREAD + f"""local json = {{['Content-Type'] = 'application/json'}}
request = function() counter = counter + 1
    local kind = counter % 10
    if kind < 6 then return wrk.format('GET', '{API}/recall?client_id=1&k=5&query=topic+' .. (counter % 500)) end
    if kind < 7 then return wrk.format('GET', '{API}/recall?client_id=1&k=5&query=new+' .. id .. 'x' .. counter) end
    if kind < 8 then return wrk.format('POST', '{API}/remember', json, {REMEMBER}) end
    if kind < 9 then return wrk.format('POST', '{API}/sessions/m' .. (counter % 100) .. '/messages', json, '{{"client_id": 1, "messages": [{{"role": "user", "content": "hello"}}]}}') end
    return wrk.format('GET', '{API}/events?limit=10&client_id=1') end"""
            done, samples = 0, []
            while done < target:
                r = wrk(gateway.port, lua, 10)
                assert not r["errors"], r
                done += r["count"]
                samples.append(gateway.rss_mb())
            settled = samples[max(0, len(samples) // 4):]
            drift = (settled[-1] - settled[0]) / settled[0]
            table.add(f"RSS after {done:,} mixed requests, MB", f"{r['rate']:,.0f}/s", "", samples[-1], min(samples), max(samples), "96", "48",
                      samples[-1] <= 96 and drift < 0.1, f"drift {drift * 100:+.0f} %")
        gateway.stop()

        if wanted("start"):
            times = []
            for _ in range(a.rounds + 2):
                g = Gateway(a.gateway, extra)
                times.append(g.ready_ms)
                g.stop()
            m, low, high = median(times)
            table.add("start to ready, three servers, ms", "", "", m, low, high, "300", "100", m <= 300)

        if wanted("growth"):
            large = 1_000_000 if a.long else 200_000
            p95 = {}
            for events in (10_000, large):
                psql(f"""INSERT INTO events (event_type, event_source, client_id, payload, metadata) SELECT 'memory:fact', 'memory-gateway', 1,
                    jsonb_build_object('content', 'event number ' || i || ' about topic ' || i % 1000, 'memory_type', 'fact', 'memory_scope', 'user', 'tags', '[]'::jsonb), '{{}}'
                    FROM generate_series((SELECT count(*) FROM events) + 1, {events}) i""")
                psql("VACUUM ANALYZE events"); psql("CHECKPOINT")
                g = Gateway(a.gateway, extra)
                wrk(g.port, cold_lua(1, f"w{events}"), 2, 8)
                p95[events] = [wrk(g.port, cold_lua(1, f"g{events}-{n}"), a.seconds, 8)["p95"] for n in range(a.rounds)]
                g.stop()
            m, low, high = median([x / y for x, y in zip(sorted(p95[large]), sorted(p95[10_000]))])
            table.add(f"recall p95 with {large:,} events ÷ with 10,000", f"{statistics.median(p95[large]):.1f} ms", f"{statistics.median(p95[10_000]):.1f} ms",
                      m, low, high, "1.5", "1.1", m <= 1.5)

        if wanted("embedded"):
            floor, rates = [], []
            for n in range(a.rounds):
                floor.append(sqlite_floor(f"{work}/floor{n}.db", a.seconds))
                g = Gateway(a.gateway, {"MEMORY_DATA_DIR": f"{work}/embedded{n}"}, embedded=True)
                r = wrk(g.port, post_lua("/remember", REMEMBER), a.seconds)
                assert not r["errors"], r
                rates.append(r["rate"])
                g.stop()
            table.ratio("embedded: remember ÷ sqlite3's single inserts", rates, floor, 1, 5)
    finally:
        running = RUNNING + (sys.modules["bench"].RUNNING if "bench" in sys.modules else [])
        for child in children + running:
            child.kill()
        shutil.rmtree(work, ignore_errors=True)
    print("\n" + table.markdown())
    if a.output:
        write(a.output, table, a)


def sqlite_floor(path, seconds):
    """Durable inserts a second, one by one, on one connection."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL"); db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, event_type TEXT, client_id INTEGER, payload TEXT, metadata TEXT)")
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        db.execute("INSERT INTO events (event_type, client_id, payload, metadata) VALUES ('memory:fact', 1, ?, '{}')",
                   (f'{{"content": "memory {count} of a user who prefers morning deep work"}}',))
        count += 1
    return count / seconds


def write(path, table, a):
    """Puts the table into the page, between its two marks."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    head = (f"{time.strftime('%Y-%m-%d')}, commit {commit}, {os.cpu_count()} cores ({cpu}), {a.rounds} rounds of {a.seconds} s, "
            f"{'stand-ins for Qdrant and embeddings' if a.stand_ins else 'the real Qdrant engine behind its Python front, lexical vectors'}.")
    with open(path) as f:
        text = f.read()
    before, _, rest = text.partition("<!-- table -->\n")
    _, _, after = rest.partition("<!-- end -->")
    with open(path, "w") as f:
        f.write(f"{before}<!-- table -->\n{head}\n\n{table.markdown()}\n<!-- end -->{after}")


if __name__ == "__main__":
    main()
