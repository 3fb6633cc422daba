#!/usr/bin/env python3
"""Breaks everything that can break, and counts what did not hold.

  chaos.py GATEWAY [--long] [--only N6,row5,stalled] [--seed 1] [--output docs/reliability.md]

With --only, what was measured takes the place of its like in the page.

Starts PostgreSQL, Valkey and Qdrant by itself, measures the numbers N1 to N16, provokes the rows of the fault catalogue that
need a process, a socket or a disk to fail, and writes both tables between the marks of the page. Some ten minutes; --long
is hours of the same: 200 rounds of each kill, a million requests. Exits with 1 when anything did not hold.
"""
import argparse
import os
import re
import subprocess
import sys
import time
import traceback

import measures
import rows
from world import World

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "Benchmarks")


def stand_ins(self):
    """The fast stand-ins of ../shared/bench where they are: overload is the gateway's then, and not the Python front's."""
    folder = os.path.join(BENCH, "..", "..", "shared", "bench")
    if not os.path.isdir(folder):
        return {}
    sys.path.insert(0, BENCH)
    import bench
    started, environment = bench.start_stand_ins(folder, self.servers.root)
    self.children += started
    return environment


def measurements(world, a):
    """Name and function of each number."""
    long = a.long
    return {
        "N1": lambda: measures.kill_rounds(world, 200 if long else 18),
        "N3": lambda: measures.backlog(world, 10_000),
        "N4": lambda: measures.drift(world),
        "N5": lambda: measures.canaries(world, 100_000 if long else 10_000),
        "N6": lambda: measures.single_failures(world),
        "N7": lambda: measures.without_postgres(world),
        "N8": lambda: measures.latency(world, 1_000_000 if long else 200_000, 100_000),
        "N9": lambda: measures.fuzzed(world, 1_000_000 if long else 30_000, a.seed),
        "N11": lambda: measures.resources(world, 1_000_000 if long else 20_000),
        "N13": lambda: measures.shutdowns(world, 100 if long else 20),
        "N14": lambda: measures.overload(world),
        "N15": lambda: measures.torture(world, 1),
        "N16": lambda: measures.stream(world, 100_000 if long else 20_000),
    }


def fresh(a):
    world = World(a.gateway, a.seed)
    world.children, world.stand_ins = [], lambda: stand_ins(world)
    return world


def run(name, a, body):
    """One measurement in a world of its own, so that none finds what another left behind."""
    started = time.monotonic()
    world = fresh(a)
    try:
        return body(world)
    finally:
        world.close()
        for child in world.children:
            child.kill()
        print(f"  ({name}: {time.monotonic() - started:.0f} s)", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gateway"); p.add_argument("--long", action="store_true"); p.add_argument("--only", default="")
    p.add_argument("--seed", type=int, default=1); p.add_argument("--output")
    a = p.parse_args()
    wanted = {w.strip() for w in a.only.split(",") if w.strip()}
    results, found = [], []
    for name in measurements(None, a):
        if wanted and name not in wanted:
            continue
        shown = len(results)
        try:
            results += run(name, a, lambda world: measurements(world, a)[name]())
        except Exception as error:
            traceback.print_exc()
            results.append(measures.Result(name, "it could not be measured", 0, 1, repr(error)[:200], False))
        for result in results[shown:]:
            print(result.row(), flush=True)
    for row in rows.ROWS:
        number = rows.name(row)
        if wanted and not wanted & {f"row{number}", row.__name__}:
            continue
        try:
            run(f"row {number}", a, row)
            found.append((row.__doc__, "held"))
        except Exception as error:
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            found.append((row.__doc__, f"DID NOT HOLD: {error}"[:300].replace("|", "/")))
        print(f"row {found[-1][0]}: {found[-1][1]}", flush=True)
    failed = sum(not r.met for r in results) + sum(h != "held" for _, h in found)
    if a.output:
        write(a, results, found) if not wanted else replace(a, results, found)
    print(f"{len(results) + len(found) - failed} held, {failed} did not")
    sys.exit(1 if failed else 0)


def commit():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def replace(a, results, found):
    """Puts what was measured again in the place of what is there, with its own commit; what is new comes behind its like."""
    with open(a.output) as f:
        before, mark, rest = f.read().partition("<!-- chaos -->\n")
    table, end, after = rest.partition("<!-- end -->")
    lines, own = table.splitlines(), f"({'--long, ' if a.long else ''}commit {commit()})"

    def put(start, line, kind):
        places = [i for i, old in enumerate(lines) if old.startswith(start)]
        last = max(i for i, old in enumerate(lines) if re.match(kind, old))
        lines[slice(places[0], places[0] + 1) if places else slice(last + 1, last + 1)] = [line]

    for r in results:
        r.measured += f" {own}"
        put(f"| {r.number} |", r.row(), r"\| N\d")
    for what, held in found:
        put(f"| {what} |", f"| {what} | {held} {own} |", r"\| [^|]+: ")
    with open(a.output, "w") as f:
        f.write(before + mark + "\n".join(lines) + "\n" + end + after)


def write(a, results, found):
    """Puts both tables into the page, between its marks."""
    lines = [f"{time.strftime('%Y-%m-%d')}, commit {commit()}, seed {a.seed}, `make chaos{' CHAOS=--long' if a.long else ''}`, "
             f"{os.cpu_count()} cores; PostgreSQL, valkey-server and the Qdrant engine on the same machine.", "",
             "| | what is counted | n | failures | rate, 95 % bound | measured | met |", "|---|---|---:|---:|---:|---|---|"]
    lines += [r.row() for r in results]
    lines += ["", "| row of the catalogue | |", "|---|---|"]
    lines += [f"| {what} | {held} |" for what, held in found]
    with open(a.output) as f:
        before, _, rest = f.read().partition("<!-- chaos -->\n")
    _, _, after = rest.partition("<!-- end -->")
    with open(a.output, "w") as f:
        f.write(f"{before}<!-- chaos -->\n" + "\n".join(lines) + f"\n<!-- end -->{after}")


if __name__ == "__main__":
    main()
