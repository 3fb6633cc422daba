"""The gateway's own process: its clock, its files, its log, its pauses."""
import array
import fcntl
import os
import signal
import socket
import subprocess
import termios
import time

from rows.checks import cpu, expect, serves
from world import HOST, Client, Load


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
/* The wall clock jumps an hour back or forth, by turns of two seconds; the monotonic clock does not. */
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += (t->tv_sec / 2) % 2 ? 3600 : -3600;
    return result;
}
"""


def jumping_clock(world):
    """41: the wall clock jumps an hour back and forth every two seconds"""
    path = f"{world.servers.root}/clock"
    with open(path + ".c", "w") as f:
        f.write(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path + ".so", path + ".c", "-ldl"], check=True)
    gateway = world.gateway()
    gateway.start(LD_PRELOAD=path + ".so")
    with Load(gateway.port, 8, lambda c, n, i: c.remember(40 + n, f"clock {n} {i}") if i % 2 else c.recall(40 + n, f"clock {n} {i - 1}", k=1)) as load:
        time.sleep(9)
    replies = load.since()
    expect(all(r.status in (200, 207) for r in replies), [r for r in replies if r.status not in (200, 207)][:2])
    expect(max(r.ms for r in replies) < 2000, "slowest", max(r.ms for r in replies))
    expect(gateway.wait_for_outbox(30) is not None, "the outbox stands still")


def few_files(world):
    """42: ninety-six files, and nobody reads the log"""
    reader, writer = os.pipe()
    gateway = world.gateway(prefix=["prlimit", "--nofile=96:96"])
    gateway.log = os.fdopen(writer, "wb")  # never read: it fills
    gateway.start(LOG_LEVEL="debug")
    idle = []
    try:
        for _ in range(200):
            try:
                idle.append(socket.create_connection((HOST, gateway.port), 1))
            except OSError:
                break
        time.sleep(1)
        before = cpu(gateway)
        time.sleep(2)
        expect(cpu(gateway) - before < 1.0, "it spins without files:", cpu(gateway) - before, "s of processor in 2 s")
    finally:
        for s in idle:
            s.close()
    serves(gateway, 20)
    with Load(gateway.port, 4, lambda c, n, i: c.recall(1, f"log {n} {i}")) as load:
        time.sleep(3)
    expect(len(load.since()) > 100 and all(r.status == 200 for r in load.since()), "it stands still when its log is not read:", len(load.since()))
    os.close(reader)
