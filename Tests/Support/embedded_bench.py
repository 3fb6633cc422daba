#!/usr/bin/env python3
"""Measures the embedded gateway: start to ready, memory, remembers a second, recall latency at several sizes, and whether
kill -9 loses anything.

  embedded_bench.py BINARY [--sizes 1000,10000,100000] [--dims 0] [--kills N]

--dims D supplies vectors of D random numbers (zero-padded to 1536) with each memory, instead of lexical ones.
"""
import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

WORDS = [f"word{i}" for i in range(5000)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Gateway:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.port = binary, folder, free_port()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("POSTGRES", "VALKEY", "QDRANT", "DATABASE"))}
        self.env = {**clean, "MEMORY_DATA_DIR": folder, "API_PORT": str(self.port), "LOG_LEVEL": "error"}

    def start(self):
        started = time.monotonic()
        self.process = subprocess.Popen([self.binary], env=self.env)
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=2):
                    return (time.monotonic() - started) * 1000
            except OSError:
                time.sleep(0.002)

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait()


def text(rng):
    return " ".join(rng.choices(WORDS, weights=WEIGHTS, k=14))


WEIGHTS = [1 / (i + 10) for i in range(len(WORDS))]


def post(connection, path, body):
    connection.request("POST", "/api/v1/memory" + path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def remember(gateway, count, dims, rng):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=120)
    started = time.monotonic()
    for at in range(0, count, 64):
        items = []
        for _ in range(min(64, count - at)):
            item = {"client_id": 1, "content": text(rng)}
            if dims:
                item["embedding"] = [round(rng.gauss(0, 1), 4) for _ in range(dims)] + [0] * (1536 - dims)
            items.append(item)
        status, answer = post(connection, "/remember/batch", {"memories": items})
        assert status in (200, 207), answer
    return count / (time.monotonic() - started)


def singles(gateway, count, workers, client):
    lock, left, rng = threading.Lock(), [count], random.Random(1)

    def work():
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        while True:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
                content = text(rng)
            assert post(connection, "/remember", {"client_id": client, "content": content})[0] == 200

    threads = [threading.Thread(target=work) for _ in range(workers)]
    started = time.monotonic()
    [t.start() for t in threads]
    [t.join() for t in threads]
    return count / (time.monotonic() - started)


def recall(gateway, count, rng):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    times = []
    connection.request("GET", "/api/v1/memory/recall?client_id=1&query=warm")  # reads the vectors from the file
    connection.getresponse().read()
    for _ in range(count):
        query = urllib.parse.urlencode({"client_id": 1, "query": " ".join(rng.choices(WORDS, k=6))})
        started = time.perf_counter()
        connection.request("GET", "/api/v1/memory/recall?" + query)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        times.append((time.perf_counter() - started) * 1000)
        assert answer.status == 200 and not body["cached"] and not body["degraded"], body
    times = sorted(times[5:])
    return times[len(times) // 2], times[int(len(times) * 0.95)]


def kills(binary, rounds):
    folder, acknowledged, lock = tempfile.mkdtemp(prefix="memory-kill-"), {}, threading.Lock()
    gateway = Gateway(binary, folder)

    def writer(number, stop):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
        n = 0
        while not stop.is_set():
            n += 1
            try:
                status, answer = post(connection, "/remember", {"client_id": number, "content": f"{number} {n} {time.time()}"})
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                continue
            if status in (200, 207):
                with lock:
                    acknowledged[answer["memory_id"]] = True

    for round_number in range(rounds):
        gateway.start()
        stop = threading.Event()
        threads = [threading.Thread(target=writer, args=(i + 1, stop)) for i in range(4)]
        [t.start() for t in threads]
        time.sleep(random.uniform(0.02, 0.25))
        gateway.stop(signal.SIGKILL)
        stop.set()
        [t.join() for t in threads]
    file = sqlite3.connect(os.path.join(folder, "memory.db"))
    check = file.execute("PRAGMA integrity_check").fetchone()[0]
    stored = {row[0] for row in file.execute("SELECT id FROM events")}
    file.close()
    lost = set(acknowledged) - stored
    shutil.rmtree(folder)
    print(f"{rounds} kills: {len(acknowledged)} acknowledged, {len(lost)} lost, integrity_check: {check}", flush=True)
    return not lost and check == "ok"


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("binary")
    ap.add_argument("--sizes", default="1000,10000,100000")
    ap.add_argument("--dims", type=int, default=0)
    ap.add_argument("--kills", type=int, default=200)
    a = ap.parse_args()
    sys.excepthook = lambda *failure: (subprocess.run(["kill", str(gateway.process.pid)]), sys.__excepthook__(*failure))
    rng, folder = random.Random(7), tempfile.mkdtemp(prefix="memory-bench-")
    gateway = Gateway(a.binary, folder)
    first = gateway.start()
    print(f"start to ready: {first:.0f} ms with a new file; RSS idle {gateway.rss():.0f} MB", flush=True)
    print(f"remember, one at a time from 32 connections: {singles(gateway, 3000, 32, 2):.0f}/s, "
          f"from 1: {singles(gateway, 500, 1, 3):.0f}/s", flush=True)
    stored = 0
    for size in map(int, a.sizes.split(",")):
        rate = remember(gateway, size - stored, a.dims, rng)
        stored = size
        p50, p95 = recall(gateway, 105, rng)
        print(f"{size} memories of one client: batches of 64 at {rate:.0f}/s; recall p50 {p50:.1f} p95 {p95:.1f} ms; "
              f"RSS {gateway.rss():.0f} MB", flush=True)
    gateway.stop()
    again = gateway.start()
    started = time.monotonic()
    urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/api/v1/memory/recall?client_id=1&query=word1").read()
    cold = (time.monotonic() - started) * 1000
    print(f"after a restart: ready in {again:.0f} ms; first recall {cold:.0f} ms; RSS {gateway.rss():.0f} MB; "
          f"file {os.path.getsize(os.path.join(folder, 'memory.db')) / 1e6:.0f} MB", flush=True)
    gateway.stop()
    shutil.rmtree(folder)
    if a.kills and not kills(a.binary, a.kills):
        raise SystemExit(1)
