#!/usr/bin/env python3
"""Measures how long gateway B serves what is old, after gateway A, which cannot reach Valkey, has written (answered 207) or
deleted (204). One number for each round: from A's answer until B's recall is right.

  servers.py run -- window.py GATEWAY [--rounds 40] [--most 1500]

Prints the distribution; fails when a round takes longer than --most milliseconds, or when B never served anything old.
"""
import argparse, http.client, json, os, subprocess, sys, time

from servers import free_port

HOST = "127.0.0.1"


def ask(port, method, path, body=None):
    c = http.client.HTTPConnection(HOST, port, timeout=15)
    try:
        c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        text = r.read()
        return r.status, json.loads(text) if text else None
    finally:
        c.close()


def start(binary, port, **extra):
    env = {**os.environ, "API_PORT": str(port), "LOG_LEVEL": "critical", **extra}
    process = subprocess.Popen([binary], env=env, stdin=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if ask(port, "GET", "/health/ready")[0] == 200:
                return process
        except OSError:
            pass
        time.sleep(0.02)
    process.kill()
    raise RuntimeError("the gateway did not start")


def recall(port, client):
    status, body = ask(port, "POST", "/api/v1/memory/recall", {"client_id": client, "query": "tea", "k": 10})
    assert status == 200, body
    return {r["memory_id"] for r in body["results"]}, body.get("cached", False)


def wait_for(port, client, right):
    """Milliseconds until a recall is right, and how many were not."""
    began, old = time.monotonic(), 0
    while True:
        found, _ = recall(port, client)
        if right(found):
            return (time.monotonic() - began) * 1000, old
        old += 1
        if time.monotonic() - began > 30:
            return 30_000, old


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gateway"); p.add_argument("--rounds", type=int, default=40); p.add_argument("--most", type=int, default=1500)
    a = p.parse_args()
    ports = [free_port(), free_port()]
    gateways = []
    # A's Valkey is a port where nobody listens. Its failures are at once: what is measured is the protocol.
    dead = free_port()
    try:
        gateways = [start(a.gateway, ports[1])]
        gateways.append(start(a.gateway, ports[0], VALKEY_HOST=HOST, VALKEY_PORT=str(dead)))
        times, old = {"write, 207": [], "delete, 204": []}, 0
        for n in range(a.rounds):
            client = n + 1
            status, first = ask(ports[1], "POST", "/api/v1/memory/remember", {"client_id": client, "content": f"tea number {n}"})
            assert status == 200, (status, first)
            for _ in range(3):
                recall(ports[1], client)
            status, second = ask(ports[0], "POST", "/api/v1/memory/remember", {"client_id": client, "content": f"tea again {n}"})
            assert status == 207 and second["failed"] == ["valkey"], (status, second)
            took, wrong = wait_for(ports[1], client, lambda found: second["memory_id"] in found)
            times["write, 207"].append(took); old += wrong
            for _ in range(3):
                recall(ports[1], client)
            status, _ = ask(ports[0], "DELETE", f"/api/v1/memory/{first['memory_id']}?client_id={client}")
            assert status == 204, status
            took, wrong = wait_for(ports[1], client, lambda found: first["memory_id"] not in found)
            times["delete, 204"].append(took); old += wrong
        failed = old == 0
        for name, values in times.items():
            values.sort()
            print(f"{name}: {len(values)} rounds, median {values[len(values) // 2]:.0f} ms, p95 {values[int(len(values) * 0.95)]:.0f} ms, "
                  f"longest {values[-1]:.0f} ms")
            failed = failed or values[-1] > a.most
        print(f"{old} recalls were old in between")
        return 1 if failed else 0
    finally:
        for process in gateways:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
