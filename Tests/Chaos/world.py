"""What the chaos driver works with: real servers, a gateway, proxies that fail on purpose, and a ledger."""
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Support"))
from servers import Servers, close_sockets, free_port  # noqa: E402

HOST, API = "127.0.0.1", "/api/v1/memory"


class Reply:
    """One answer, or the error of the connection; how long it took, in milliseconds."""

    def __init__(self, status, body, ms, error=None):
        self.status, self.body, self.ms, self.error = status, body, ms, error

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    def __repr__(self):
        return f"{self.status or self.error} in {self.ms:.0f} ms: {self.body[:160]!r}"


class Client:
    """One kept connection; it connects again after an error."""

    def __init__(self, port, timeout=15):
        self.port, self.timeout, self.connection = port, timeout, None

    def ask(self, method, path, body=None, headers=None):
        started = time.monotonic()
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(HOST, self.port, timeout=self.timeout)
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            self.connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = self.connection.getresponse()
            text = answer.read()
            if answer.will_close:
                self.close()
            return Reply(answer.status, text, (time.monotonic() - started) * 1000)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Reply(None, b"", (time.monotonic() - started) * 1000, repr(error))

    def remember(self, client, content, key=None):
        return self.ask("POST", API + "/remember", {"client_id": client, "content": content},
                        {"Idempotency-Key": key} if key else None)

    def remember_batch(self, client, contents, key=None):
        return self.ask("POST", API + "/remember/batch",
                        {"memories": [{"client_id": client, "content": c} for c in contents]},
                        {"Idempotency-Key": key} if key else None)

    def recall(self, client, query, k=5, **fields):
        return self.ask("POST", API + "/recall", {"client_id": client, "query": query, "k": k, **fields})

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class Gateway:
    """The program under test, as a process."""

    def __init__(self, binary, environment, port=None, prefix=()):
        self.binary, self.environment, self.prefix = binary, environment, list(prefix)
        self.port, self.process, self.log = port or free_port(), None, None

    def start(self, wait=True, **extra):
        environment = {**os.environ, **self.environment, "API_PORT": str(self.port), "LOG_LEVEL": "warning", **extra}
        self.log = self.log or open(f"{self.environment['CHAOS_FOLDER']}/gateway-{self.port}.log", "ab")
        self.process = subprocess.Popen(self.prefix + [self.binary], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=30):
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if self.ask("GET", "/health/ready").status == 200:
                return (time.monotonic() - started) * 1000
            if self.process.poll() is not None:
                raise RuntimeError(f"the gateway ended with {self.process.returncode}")
            time.sleep(0.005)
        raise RuntimeError("the gateway did not get ready")

    def ask(self, method, path, body=None, headers=None):
        client = Client(self.port)
        try:
            return client.ask(method, path, body, headers)
        finally:
            client.close()

    def metric(self, name):
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None

    def wait_for_outbox(self, seconds):
        """How long until nothing is owed, in seconds; None when that did not come."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if self.metric("memory_gateway_outbox_pending") == 0:
                return time.monotonic() - started
            time.sleep(0.1)
        return None

    def resources(self):
        pid = self.process.pid
        with open(f"/proc/{pid}/statm") as f:
            rss = int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
        return {"rss": rss, "fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task"))}

    def peak(self):
        """The most memory that the process ever had, in MB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(next(line for line in f if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6

    def lines(self):
        """What it has logged so far."""
        with open(self.log.name, errors="replace") as f:
            return f.read().splitlines()

    def end(self, number=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
        return self.process.returncode if self.process else None


class Embedder(ThreadingHTTPServer):
    """An embedding provider: the same text gives the same vector, other texts others. It can be slow, and refuse."""
    daemon_threads = True

    def __init__(self):
        super().__init__((HOST, 0), self.Handler)
        self.status, self.delay = 200, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.port = self.server_address[1]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize, disable_nagle_algorithm = -1, True  # one packet for an answer, at once

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [{"index": i, "embedding": self.vector(text)} for i, text in enumerate(inputs)]
            answer = json.dumps({"data": data, "model": body.get("model")}).encode()
            time.sleep(self.server.delay)
            self.send_response(self.server.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def vector(self, text):
            rng = random.Random(hashlib.sha256(text.encode()).digest())
            return [rng.gauss(0, 1) for _ in range(64)]


class Plan:
    """Counts the steps that pass all proxies, and makes one of them fail: each chunk of bytes, there or back, is one."""
    KINDS = ("error", "timeout", "garbage", "cut")

    def __init__(self):
        self.lock, self.count, self.at, self.kind, self.hit = threading.Lock(), 0, None, None, None

    def arm(self, at=None, kind=None):
        with self.lock:
            self.count, self.at, self.kind, self.hit = 0, at, kind, None

    def step(self, name):
        with self.lock:
            self.count += 1
            if self.count == self.at:
                self.hit = name
                return self.kind
        return None


class Proxy:
    """A TCP proxy in front of one server: a port of this machine, or a pair of host and port."""

    def __init__(self, name, target, plan=None, host=HOST):
        self.name, self.plan, self.delay, self.slice = name, plan or Plan(), 0, None
        self.target = target if isinstance(target, tuple) else (HOST, target)
        self.listener = socket.create_server((host, 0), backlog=256)
        self.port, self.sockets, self.lock = self.listener.getsockname()[1], set(), threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.sockets |= {client, server}
            for source, sink, way in ((client, server, ">"), (server, client, "<")):
                threading.Thread(target=self.pump, args=(source, sink, way), daemon=True).start()

    def pump(self, source, sink, way):
        try:
            while data := source.recv(1 << 18):
                fault = self.plan.step(self.name + way)
                if fault == "cut":
                    break
                if fault == "error":
                    return self.reset(source, sink)
                if fault == "timeout":
                    time.sleep(20)
                    break
                if fault == "garbage":
                    data = random.Random(len(data)).randbytes(max(16, len(data)))
                if way == "<" and self.delay:
                    time.sleep(self.delay)
                if way == "<" and self.slice:
                    for i in range(0, min(len(data), 2000), self.slice):
                        sink.sendall(data[i:i + self.slice])
                    data = data[2000:]
                sink.sendall(data)
        except OSError:
            pass
        self.close_pair(source, sink)

    def reset(self, *sockets):
        for s in sockets:
            try:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
        self.close_pair(*sockets)

    def close_pair(self, *sockets):
        with self.lock:
            self.sockets -= set(sockets)
        close_sockets(*sockets)

    def reset_all(self):
        with self.lock:
            alive = list(self.sockets)
        self.reset(*alive)

    def close(self):
        self.listener.close()
        self.reset_all()


class World:
    """The servers of one run and what they hold."""

    def __init__(self, binary, seed):
        self.binary, self.random, self.servers = binary, random.Random(seed), Servers()
        self.gateways, self.threads = [], ThreadPoolExecutor(64)
        names = ("postgres", "valkey", "qdrant")
        self.ports = dict(zip(names, self.threads.map(lambda n: self.servers.do("start", n), names)))
        self.environment = self.variables(self.ports)

    def variables(self, ports):
        return {"POSTGRES_HOST": HOST, "POSTGRES_PORT": str(ports["postgres"]), "POSTGRES_DB": "postgres",
                "POSTGRES_USER": "postgres", "VALKEY_HOST": HOST, "VALKEY_PORT": str(ports["valkey"]),
                "QDRANT_URL": f"http://{HOST}:{ports['qdrant']}", "CHAOS_FOLDER": self.servers.root}

    def gateway(self, prefix=(), **extra):
        gateway = Gateway(self.binary, {**self.environment, **extra}, prefix=prefix)
        self.gateways.append(gateway)
        return gateway

    def psql(self, sql, database="postgres"):
        """The rows of a statement, each a list of texts."""
        out = subprocess.run(["psql", "-h", HOST, "-p", str(self.ports["postgres"]), "-U", "postgres", "-d", database,
                              "-v", "ON_ERROR_STOP=1", "-At", "-F", "\x1f", "-c", sql], capture_output=True, text=True)
        if out.returncode:
            raise RuntimeError(out.stderr)
        return [line.split("\x1f") for line in out.stdout.splitlines()]

    def contents(self, clients="TRUE"):
        """What is stored: texts by id."""
        return {int(i): text for i, text in self.psql(
            f"SELECT id, payload ->> 'content' FROM events WHERE event_type LIKE 'memory:%' AND {clients}")}

    def qdrant(self, method, path, body=None):
        client = Client(self.ports["qdrant"], timeout=60)
        try:
            return client.ask(method, path, body)
        finally:
            client.close()

    def points(self):
        """The ids of all points of memories."""
        found, offset = set(), None
        while True:
            body = {"limit": 1000, "with_payload": False, **({"offset": offset} if offset is not None else {})}
            result = self.qdrant("POST", "/collections/events/points/scroll", body).json.get("result", {})
            found |= {p["id"] for p in result.get("points", [])}
            offset = result.get("next_page_offset")
            if offset is None:
                return found

    def close(self):
        for gateway in self.gateways:
            gateway.end(signal.SIGKILL)
        self.servers.close()


class Follower:
    """Follows the stream of events on a thread: the ids that were heard, and how often it was told that nothing happened."""

    def __init__(self, port, query=""):
        self.heard, self.quiet, self.ended = [], 0, False
        self.socket = socket.create_connection((HOST, port))
        self.socket.sendall(f"GET {API}/events/stream{query} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            with self.socket.makefile("rb") as lines:
                for line in lines:
                    if line.startswith(b"id: "):
                        self.heard.append(int(line[4:]))
                    elif line.startswith(b":"):
                        self.quiet += 1
        except OSError:
            pass
        self.ended = True

    def close(self):
        close_sockets(self.socket)
        self.thread.join(5)


class Load:
    """Threads that call a function until they are told to stop, each with a connection of its own."""

    def __init__(self, port, workers, body, timeout=15):
        self.replies, self.lock, self.stopping = [], threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(n, port, body, timeout), daemon=True) for n in range(workers)]

    def work(self, n, port, body, timeout):
        client, number = Client(port, timeout), 0
        while not self.stopping.is_set():
            number += 1
            reply = body(client, n, number)
            if reply is not None:
                with self.lock:
                    self.replies.append((time.monotonic(), reply))
        client.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def since(self, moment=0):
        with self.lock:
            return [reply for at, reply in self.replies if at >= moment]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def bound(failures, n):
    """The upper bound of the rate of failures, with 95 % certainty: 3/n when none was seen (the rule of three)."""
    return f"< {3 / n:.1e}" if not failures and n else "–"


if __name__ == "__main__":  # world.py HOST TARGET_HOST TARGET_PORT: a proxy in another network namespace, until its input ends
    print(Proxy("forward", (sys.argv[2], int(sys.argv[3])), host=sys.argv[1]).port, flush=True)
    sys.stdin.read()
