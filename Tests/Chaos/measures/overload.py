"""N14: overload."""
import re
import subprocess

from measures.result import Result
from world import HOST, Client


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
