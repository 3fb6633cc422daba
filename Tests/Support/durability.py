#!/usr/bin/env python3
"""Is anything that was acknowledged ever lost? Starts the gateway, remembers 1,000 things from 32 connections, then kills
it with SIGKILL in the middle of 1,000 more; starts it again, and looks for every acknowledged memory in PostgreSQL and in
Qdrant. Wants the variables that servers.py sets:

  servers.py run -- durability.py .build/release/memory-gateway [--rounds N]
"""
import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request

from servers import free_port

COUNT, CONNECTIONS = 1000, 32


class Gateway:
    def __init__(self, binary, port):
        self.binary, self.port, self.process = binary, port, None

    def start(self):
        started = time.monotonic()
        self.process = subprocess.Popen([self.binary], env={**os.environ, "API_PORT": str(self.port), "LOG_LEVEL": "error"})
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=2) as answer:
                    if answer.status == 200:
                        return time.monotonic() - started
            except OSError:
                time.sleep(0.005)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def load(port, texts, ledger, after=None):
    """Sends every text once, from many connections; the ledger gets the id of each that was acknowledged."""
    lock, pending = threading.Lock(), list(texts)

    def worker():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while True:
            with lock:
                if not pending:
                    return
                text = pending.pop()
            try:
                body = json.dumps({"client_id": 1, "content": text})
                connection.request("POST", "/api/v1/memory/remember", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                continue
            if answer.status in (200, 207):
                with lock:
                    ledger[json.loads(data)["memory_id"]] = text
                    acknowledged = len(ledger)
                if after and acknowledged >= after[0]:
                    after[1]()

    threads = [threading.Thread(target=worker) for _ in range(CONNECTIONS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def rows():
    port, database = os.environ["POSTGRES_PORT"], os.environ["POSTGRES_DB"]
    out = subprocess.run(["psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-d", database, "-At", "-c",
                          "SELECT id || '|' || (payload ->> 'content') FROM events"],
                         check=True, capture_output=True, text=True).stdout
    return dict((int(i), text) for i, _, text in (line.partition("|") for line in out.splitlines()))


def points(ids):
    body = json.dumps({"ids": ids}).encode()
    request = urllib.request.Request(os.environ["QDRANT_URL"] + "/collections/events/points", body,
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return {point["id"] for point in json.load(answer)["result"]}


def round_of(binary, number):
    gateway, ledger = Gateway(binary, free_port()), {}
    ready = gateway.start()
    seconds = load(gateway.port, [f"round {number} first {i}" for i in range(COUNT)], ledger)
    whole = len(ledger)
    fatal = whole + random.randint(COUNT // 5, COUNT * 4 // 5)
    once = threading.Event()
    load(gateway.port, [f"round {number} second {i}" for i in range(COUNT)], ledger,
         after=(fatal, lambda: once.is_set() or once.set() or gateway.kill()))
    stored = rows()
    lost = [i for i, text in ledger.items() if stored.get(i) != text]
    again = gateway.start()
    restarted = time.monotonic()
    while True:
        missing = set(stored) - points(sorted(stored))
        waited = time.monotonic() - restarted
        if not missing or waited > 60:
            break
        time.sleep(0.1)
    gateway.process.terminate()
    clean = gateway.process.wait(30)
    print(f"round {number}: ready in {ready * 1000:.0f} ms; {whole} of {COUNT} remembered at {whole / seconds:.0f}/s; killed, "
          f"{len(ledger) - whole} of {COUNT} more acknowledged; {len(lost)} lost in PostgreSQL; restart ready in "
          f"{again * 1000:.0f} ms; {len(missing)} missing in Qdrant after {waited:.1f} s; exit {clean}", flush=True)
    return not lost and not missing and waited < 10 and whole == COUNT and clean == 0


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("binary")
    ap.add_argument("--rounds", type=int, default=3)
    a = ap.parse_args()
    results = [round_of(a.binary, number) for number in range(1, a.rounds + 1)]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(0 if all(results) else 1)
