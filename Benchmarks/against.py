"""Two builds side by side: rounds of a second, by turns, on the same servers, each build with a database and keys of its own.

What counts is the processor time of a request, of the gateway and of its stores: on a machine that does other things as well
the number of requests a second says little. `bench.py NEW BARE --against OLD`.
"""
import glob
import os
import resource
import statistics
import subprocess
import sys

import bench

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Tests", "Support"))
from servers import family  # noqa: E402

# What a change may cost: processor time of a request, new divided by old.
LIMIT = 1.02


def listener(port):
    """The process that listens on a port of this machine."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) in inodes:
                return int(link.split("/")[2])
        except OSError:
            continue
    raise RuntimeError(f"nobody listens on {port}")


def used(pids):
    """Nanoseconds of processor time of all threads, and how often one gave way to another."""
    time, switches = 0, 0
    for pid in pids:
        for task in glob.glob(f"/proc/{pid}/task/*"):
            try:
                with open(f"{task}/schedstat") as f:
                    time += int(f.read().split()[0])
                with open(f"{task}/status") as f:
                    switches += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
            except (OSError, IndexError):
                continue  # it has just ended
    return time, switches


def children_time():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (u.ru_utime + u.ru_stime) * 1e9


class Build:
    """One of the two: its gateway, and what it has stored."""

    def __init__(self, name, binary, extra):
        self.name = name
        subprocess.run([bench.BIN + "/createdb", "-h", bench.HOST, "-p", os.environ["POSTGRES_PORT"], "-U", "postgres",
                        f"against_{name}"], check=True)
        self.gateway = bench.Gateway(binary, {**extra, "POSTGRES_DB": f"against_{name}", "VALKEY_KEY_PREFIX": name})
        # Ids 1…100 are what the stand-in finds.
        for start in range(0, 128, 64):
            self.gateway.post("/remember/batch", {"memories": [
                {"client_id": 1, "content": f"memory number {start + i}: the user prefers morning deep work"}
                for i in range(64)]})

    def round(self, lua, connections, seconds, stores):
        """Microseconds of a request: of the gateway, of the stores, of the load generator; its switches; requests a second."""
        mine, others = [self.gateway.process.pid], [pid for store in stores for pid in family(store)]
        before = used(mine), used(others), children_time()
        r = bench.wrk(self.gateway.port, lua, seconds, connections)
        # A backend of PostgreSQL that came meanwhile counts from its beginning.
        others = [pid for store in stores for pid in family(store)]
        after = used(mine), used(others), children_time()
        assert not r["errors"], (self.name, r)
        count = r["count"]
        return {"gateway": (after[0][0] - before[0][0]) / count / 1000, "stores": (after[1][0] - before[1][0]) / count / 1000,
                "load": (after[2] - before[2]) / count / 1000, "switches": (after[0][1] - before[0][1]) / count,
                "rate": r["rate"]}


def compare(new, old, extra, stand_ins, rounds, seconds):
    """Prints the table; whether nothing became slower than it may."""
    ports = [int(os.environ["POSTGRES_PORT"]), int(os.environ["VALKEY_PORT"])]
    stores = [listener(port) for port in ports] + [child.pid for child in stand_ins]
    builds = [Build("new", new, extra), Build("old", old, extra)]
    cached = f"{bench.API}/recall?client_id=1&query=deep+work&k=5"
    cases = {
        "recall, cached": (lambda n: bench.get_lua(cached), bench.CONNECTIONS),
        "recall, cold": (lambda n: bench.cold_lua(1, f"a{n}"), bench.CONNECTIONS),
        "remember": (lambda n: bench.post_lua("/remember", bench.REMEMBER), bench.CONNECTIONS),
        "batch of 64": (lambda n: bench.post_lua("/remember/batch", bench.BATCH), 8),
    }
    print("| case | gateway, µs: new, old | stores, µs | load, µs | switches | requests/s | gateway ÷ | gateway + stores ÷ (least…most) | "
          "least ÷ least | met |")
    print("|---|---|---|---|---|---|---:|---:|---:|---|")
    met = True
    for case, (lua, connections) in cases.items():
        found = {"new": [], "old": []}
        for build in builds:  # warm
            build.round(lua(f"w{build.name}"), connections, seconds, stores)
        for n in range(rounds):
            for build in builds if n % 2 else builds[::-1]:
                found[build.name].append(build.round(lua(n), connections, seconds, stores))
        middle = lambda name, what: statistics.median(r[what] for r in found[name])
        ratios = [(a["gateway"] + a["stores"]) / (b["gateway"] + b["stores"]) for a, b in zip(found["new"], found["old"])]
        alone = statistics.median(a["gateway"] / b["gateway"] for a, b in zip(found["new"], found["old"]))
        # What else the machine does can only add to the time of a round: the least of each is its own.
        least = min(r["gateway"] + r["stores"] for r in found["new"]) / min(r["gateway"] + r["stores"] for r in found["old"])
        both = statistics.median(ratios)
        fine = min(both, least) <= LIMIT
        met = met and fine
        pair = lambda what, digits=0: f"{middle('new', what):,.{digits}f}, {middle('old', what):,.{digits}f}"
        print(f"| {case} | {pair('gateway')} | {pair('stores')} | {pair('load')} | {pair('switches', 1)} | {pair('rate')} | "
              f"{alone:.3f} | {both:.3f} ({min(ratios):.3f}…{max(ratios):.3f}) | {least:.3f} | {'yes' if fine else 'NO'} |", flush=True)
    for build in builds:
        build.gateway.stop()
    return met
