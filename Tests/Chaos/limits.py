#!/usr/bin/env python3
"""Runs the gateway within the limits of its container, half a processor and 200 MB, and measures what it does there.

  limits.py GATEWAY [--seconds 10] [--connections 8,64,256,512] [--without bodies] [--output docs/reliability.md]

All stores are healthy and outside of these limits. A mixed load comes from 8, 64, 256 and 512 connections (load.c); then sixteen
bodies of 16 MiB at once, of three kinds. Exits with 1 when a bound is missed; without control groups it says so, and exits
with 0. The numbers go between the marks `<!-- limits -->` and `<!-- end limits -->` of the page.
"""
import argparse
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

from chaos import commit, stand_ins
from world import API, HOST, Client, World, percentile

PROCESSORS, MEGABYTES = 0.5, 200
FOLDER = os.path.dirname(os.path.abspath(__file__))
# What the log says of stores that do not serve. None of them is away here.
AWAY = re.compile(r"away|unavailable|cannot be reached|lost|breaker|did not answer|no answer|deadline", re.I)


class NoGroups(Exception):
    pass


class Limits:
    """A control group with half a processor and 200 MB, of either version."""

    def __init__(self, name):
        self.folders = []
        try:
            if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
                self.second(f"/sys/fs/cgroup/{name}")
            else:
                self.first("cpu", name, {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": int(PROCESSORS * 100_000)})
                self.first("memory", name, {"memory.limit_in_bytes": MEGABYTES << 20})
        except OSError as error:
            self.close()
            raise NoGroups(f"control groups cannot be made here: {error}") from error

    def first(self, controller, name, values):
        folder = f"/sys/fs/cgroup/{controller}/{name}"
        if not os.path.isdir(os.path.dirname(folder)):
            raise OSError(f"there is no controller {controller}")
        self.make(folder, values)

    def second(self, folder):
        with open(f"{os.path.dirname(folder)}/cgroup.subtree_control", "w") as f:
            f.write("+cpu +memory")
        self.make(folder, {"cpu.max": f"{int(PROCESSORS * 100_000)} 100000", "memory.max": MEGABYTES << 20})

    def make(self, folder, values):
        os.mkdir(folder)
        self.folders.append(folder)
        for name, value in values.items():
            with open(f"{folder}/{name}", "w") as f:
                f.write(str(value))

    @property
    def prefix(self):
        """A command that goes into the group and becomes another."""
        return ["sh", "-c", " && ".join(f"echo $$ > {f}/cgroup.procs" for f in self.folders) + ' && exec "$0" "$@"']

    def throttled(self):
        """For how many of its seconds the group was stopped for want of processor."""
        with open(f"{self.folders[0]}/cpu.stat") as f:
            stat = dict(line.split() for line in f)
        return int(stat["throttled_usec"]) / 1e6 if "throttled_usec" in stat else int(stat["throttled_time"]) / 1e9

    def close(self):
        for folder in self.folders:
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.1)


class Findings:
    """What was measured, and what was missed."""

    def __init__(self):
        self.rows, self.missed = [], []

    def add(self, what, measured, *bounds):
        missed = [text for holds, text in bounds if not holds]
        self.missed += [f"{what}: {text}" for text in missed]
        self.rows.append((what, measured, "; ".join(missed) or "yes"))
        print(f"  {what}: {measured}: {'held' if not missed else 'MISSED: ' + '; '.join(missed)}", flush=True)


def peak(gateway):
    with open(f"/proc/{gateway.process.pid}/status") as f:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in f if line.startswith("VmHWM"))


def new_log(gateway, offset):
    """The lines that were logged since, and where the log ends now."""
    with open(gateway.log.name, errors="replace") as f:
        f.seek(offset)
        return f.read().splitlines(), f.tell()


def says_away(lines):
    return [line[:300] for line in lines if AWAY.search(line)]


def calm(gateway):
    """Twenty requests one after the other, right after the load: the slowest in ms, and how many were not whole."""
    client, replies = Client(gateway.port), []
    for n in range(10):
        replies.append(client.ask("GET", f"{API}/recall?client_id=1&k=5&query=calm+{time.monotonic()}"))
        replies.append(client.remember(9, f"calm {time.monotonic()}"))
    client.close()
    return max(r.ms for r in replies), [r for r in replies if r.status != 200 or r.json.get("degraded")]


def loaded(world, gateway, load, connections, seconds, found):
    offset = new_log(gateway, 0)[1]
    throttled = world.limits.throttled()
    out = subprocess.run([load, str(gateway.port), str(connections), str(seconds), f"c{connections}"], capture_output=True, text=True)
    if out.returncode:
        raise RuntimeError(out.stderr)
    r = json.loads(out.stdout)
    throttled = world.limits.throttled() - throttled
    slowest, unwell = calm(gateway)
    away = says_away(new_log(gateway, offset)[0])
    answers = max(1, r["answers"])
    refused, marked = r["overloaded"] / answers, (r["degraded"] + r["partial"]) / answers
    few = connections <= 64
    bounds = [
        (r["other"] == 0, f"{r['other']} answers were neither 2xx nor `overloaded`: {r['problem']}"),
        (r["broken"] + r["unanswered"] == 0, f"{r['broken']} connections broke, {r['unanswered']} requests had no answer"),
        (not away, f"{len(away)} lines of the log speak of stores that are away: {away[:1]}"),
        (max(r["slowest"], r["slowest_refusal"]) <= 2500, f"an answer took {max(r['slowest'], r['slowest_refusal']):.0f} ms"),
        (not unwell, f"not calm at once: {unwell[:1]}"),
        (slowest <= 500, f"not calm at once: {slowest:.0f} ms"),
        (not few or r["overloaded"] == 0, f"{r['overloaded']} were refused"),
        (not few or marked <= 0.001, f"{marked:.2%} degraded"),
        (few or refused <= 0.05, f"{refused:.1%} were refused"),
    ]
    found.add(f"{connections} connections",
              f"{r['rate']:.0f}/s good, {r['overloaded']} of {answers} refused, {r['degraded']} degraded, {r['partial']} partial, p50 {r['p50']:.0f} ms, "
              f"p99 {r['p99']:.0f} ms, slowest {r['slowest']:.0f} ms; then {slowest:.0f} ms; throttled {throttled:.1f} s; RSS {peak(gateway):.0f} MB", *bounds)
    if "--verbose" in sys.argv:
        print("   ", r, flush=True)
    return r["rate"]


# MARK: Sixteen bodies of 16 MiB

SIZE = 16 << 20


def numbers():
    head, tail = b'{"memories":[],"x":[0', b']}'
    return "/remember/batch", head + b",0" * ((SIZE - len(head) - len(tail)) // 2) + tail


def memories():
    texts = (f"memory {n} of a long conversation: " + "the user prefers morning deep work. " * 1700 for n in range(256))
    return "/remember/batch", json.dumps({"memories": [{"client_id": 8, "content": t} for t in texts]}).encode()[:SIZE]


def document():
    text = "".join(f"Paragraph {n} speaks of morning deep work and of what comes of it.\n\n" for n in range(220_000))
    return "/docs", json.dumps({"doc_id": "handbook", "client_id": 8, "content": text[:SIZE - 100_000 - 2 * text[:SIZE].count(chr(10))]}).encode()


def send_body(port, path, body, replies):
    """Sends one body, and reads the answer as soon as it comes."""
    started = time.monotonic()
    client = Client(port, timeout=60)
    replies.append(client.ask("POST", API + path, body))
    client.close()


def bodies(gateway, name, make, found):
    offset = new_log(gateway, 0)[1]
    path, body = make()
    replies, live, done = [], [], threading.Event()

    def watch():
        client = Client(gateway.port)
        while not done.is_set():
            live.append(client.ask("GET", "/health/live"))
            time.sleep(0.02)
        client.close()

    threads = [threading.Thread(target=send_body, args=(gateway.port, path, body, replies)) for _ in range(16)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    alive = gateway.process.poll() is None
    statuses = {}
    for reply in replies:
        key = f"{reply.status or 'none'}{' ' + reply.json.get('code', '') if reply.status and reply.status >= 400 else ''}"
        statuses[key] = statuses.get(key, 0) + 1
    known = [r for r in replies if r.status and (r.status < 300 or r.status in (400, 413, 422) or r.json.get("code") == "overloaded")]
    slowest = max(r.ms for r in live)
    away = says_away(new_log(gateway, offset)[0])
    rss = peak(gateway) if alive else 0
    found.add(f"sixteen bodies of 16 MiB: {name}",
              f"{', '.join(f'{n} × {s}' for s, n in sorted(statuses.items()))}; `/health/live` within {slowest:.0f} ms; RSS {rss:.0f} MB",
              (alive, "the process ended"), (rss < MEGABYTES, f"RSS {rss:.0f} MB"),
              (len(known) == 16, f"answers that were not expected: {[r for r in replies if r not in known][:2]}"),
              (all(r.status == 200 for r in live), "`/health/live` failed"),
              (slowest <= 1000, f"`/health/live` took {slowest:.0f} ms"), (not away, f"the log speaks of stores that are away: {away[:1]}"))
    return alive


def prepare(world, gateway):
    """What client 1 is asked about; the stand-in for Qdrant finds the ids 1 to 100."""
    client = Client(gateway.port, timeout=60)
    for start in range(0, 128, 64):
        reply = client.remember_batch(1, [f"memory number {start + i}: the user prefers morning deep work" for i in range(64)])
        assert reply.status in (200, 207), reply
    gateway.wait_for_outbox(60)
    client.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gateway"); p.add_argument("--seconds", type=int, default=10); p.add_argument("--output")
    p.add_argument("--connections", default="8,64,256,512"); p.add_argument("--without", default="")
    p.add_argument("--verbose", action="store_true"); p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    a = p.parse_args()
    try:
        limits = Limits(f"memory-gateway-limits-{os.getpid()}")
    except NoGroups as error:
        print(f"Skipped, nothing was measured: {error}.")
        return
    world = World(a.gateway, 1)
    world.children, world.limits = [], limits
    found = Findings()
    try:
        load = f"{world.servers.root}/load"
        subprocess.run(["cc", "-O2", "-o", load, f"{FOLDER}/load.c"], check=True)
        environment = stand_ins(world)
        gateway = world.gateway(prefix=limits.prefix, **environment, **dict(s.split("=", 1) for s in a.set)).start()
        prepare(world, gateway)
        counts = [int(c) for c in a.connections.split(",") if c]
        for c in counts[:1]:  # the first second of a process is not what is measured
            subprocess.run([load, str(gateway.port), str(c), "2", "warm"], capture_output=True)
        rates = {c: loaded(world, gateway, load, c, a.seconds, found) for c in counts}
        if len(rates) > 1:
            share = rates[counts[-1]] / max(rates.values())
            found.add(f"goodput at {counts[-1]} connections ÷ best", f"{share:.0%}", (share >= 0.9, f"{share:.0%}"))
        if "bodies" not in a.without:
            for name, make in (("numbers that nobody asked for", numbers), ("256 memories", memories), ("a document", document)):
                if not bodies(gateway, name, make, found):
                    gateway.start()
        stand_in = "fast stand-ins for Qdrant and the embedding provider" if environment else "the Qdrant engine behind its Python front, lexical vectors"
        if a.output:
            write(a, found, stand_in)
    finally:
        world.close()
        for child in world.children:
            child.kill()
        limits.close()
    print(f"{len(found.missed)} bounds missed")
    sys.exit(1 if found.missed else 0)


def write(a, found, stand_in):
    """Puts the table into the page, between its marks."""
    lines = [f"{time.strftime('%Y-%m-%d')}, commit {commit()}, `make limits`: {PROCESSORS} processors and {MEGABYTES} MB in a control group, {a.seconds} s each; "
             f"PostgreSQL and valkey-server on the same machine ({os.cpu_count()} cores), {stand_in}. Half cached recalls, the rest cold recalls, remembers, "
             "batches of 16, session messages.", "", "| | measured | held |", "|---|---|---|"]
    lines += [f"| {what} | {measured} | {held.replace('|', '/')} |" for what, measured, held in found.rows]
    with open(a.output) as f:
        before, mark, rest = f.read().partition("<!-- limits -->\n")
    _, _, after = rest.partition("<!-- end limits -->")
    with open(a.output, "w") as f:
        f.write(f"{before}<!-- limits -->\n" + "\n".join(lines) + f"\n<!-- end limits -->{after}")


if __name__ == "__main__":
    main()
