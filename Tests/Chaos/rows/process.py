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
from world import API, HOST, Client, Load

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
    """42: ninety-six files, and more clients than that"""
    gateway = world.gateway(prefix=["prlimit", "--nofile=96:96"]).start()
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


def waiting(reader):
    """How many bytes nobody has read from a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, count)
    return count[0]


def unread_log(world):
    """42: nobody reads the log, and its pipe is full: the gateway serves as before, and SIGTERM ends it"""
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    gateway = world.gateway()
    gateway.log = os.fdopen(writer, "wb")  # never read: it fills
    gateway.start(LOG_LEVEL="debug")
    try:
        # Requests that succeed say nothing; those without a store do.
        for name in ("qdrant", "postgres"):
            world.servers.do("kill", name)
        with Load(gateway.port, 4, lambda c, n, i: (time.sleep(0.01), c.recall(1, f"log {n} {i}"))[1], timeout=5) as load:
            end = time.monotonic() + 20
            while waiting(reader) < size - 1024 and time.monotonic() < end:
                time.sleep(0.1)
            expect(waiting(reader) >= size - 1024, "the pipe did not fill:", waiting(reader), "of", size)
            full = time.monotonic()
            time.sleep(5)
            alive = gateway.ask("GET", "/health/live")
        expect(alive.status == 200 and alive.ms < 1000, "not alive once its log is full:", alive)
        replies = load.since(full)
        odd = [r for r in replies if r.status not in (200, 503) or r.ms > 2500]
        expect(len(replies) > 100 and not odd, len(replies), "answers once its log is full;", odd[:2])
        for name in ("qdrant", "postgres"):
            world.servers.do("start", name)
        serves(gateway, 20)
        gateway.process.send_signal(signal.SIGTERM)
        try:
            gateway.process.wait(15)
        except subprocess.TimeoutExpired:
            expect(False, "SIGTERM does not end it")
        expect(gateway.process.returncode == 0, "it ended with", gateway.process.returncode)
    finally:
        os.close(reader)


def outage_lines(world):
    """log: PostgreSQL is away for fifteen seconds under load: lines for the beginning and the end, not for each request"""
    gateway = world.gateway().start()
    before = len(gateway.lines())
    with Load(gateway.port, 4, lambda c, n, i: (time.sleep(0.01), c.remember(1 + n, f"outage {n} {i}"))[1]) as load:
        world.servers.do("kill", "postgres")
        time.sleep(15)
        world.servers.do("start", "postgres")
        serves(gateway)
        time.sleep(2)
    refused, lines = sum(r.status == 503 for r in load.since()), gateway.lines()[before:]
    expect(refused > 500, "too few were refused to tell:", refused)
    expect(lines, "an outage, and nothing in the log")
    expect(len(lines) <= 20, f"{len(lines)} lines for {refused} refusals, such as", lines[len(lines) // 2])


def stalled(world):
    """stall: the gateway itself stands still for 100 to 500 ms, again and again, under load: no store is blamed, nobody refused"""
    gateway = world.gateway().start()
    client = Client(gateway.port)
    for i in range(20):
        client.remember(1, f"stall {i}")

    def mixed(c, n, i):
        if i % 6 == 0:
            return c.remember(1 + n, f"stalled {n} {i}")
        if i % 6 == 1:
            return c.ask("GET", f"{API}/sessions/s{n}/messages?client_id=1")
        return c.recall(1 + n, f"stall {i % 40}" if i % 6 < 4 else f"stall {n} {i}")

    with Load(gateway.port, 16, mixed) as load:
        time.sleep(1)
        for _ in range(60):
            gateway.process.send_signal(signal.SIGSTOP)
            time.sleep(world.random.uniform(0.1, 0.5))
            gateway.process.send_signal(signal.SIGCONT)
            time.sleep(world.random.uniform(0.02, 0.12))
    replies = load.since()
    refused = [r for r in replies if r.status not in (200, 207)]
    expect(len(replies) > 500 and not refused, f"{len(refused)} of {len(replies)}, such as", refused[:2])
    blamed = [line for line in gateway.lines() if "away" in line]
    expect(not blamed, len(blamed), "lines say that a store is away, such as", blamed[:1])


ROWS = [jumping_clock, few_files, unread_log, outage_lines, stalled]
