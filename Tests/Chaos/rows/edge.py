"""Clients that hang up, drip, or speak bad HTTP."""
import resource
import socket
import threading
import time

from rows.checks import expect, raw
from world import API, HOST, Load, percentile


def client_gone(world):
    """45: the client is gone in the middle of its body: nothing is stored; after it: stored once"""
    gateway = world.gateway().start()
    whole = b'{"client_id": 77, "content": "the client was gone"}'
    head = b"POST " + API.encode() + b"/remember HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: gone-%d\r\nContent-Length: %d\r\n\r\n"
    for n, body in enumerate((whole[:20], whole)):
        with socket.create_connection((HOST, gateway.port), 5) as s:
            s.sendall(head % (n, len(whole)) + body)
    end = time.monotonic() + 10
    count = lambda: len(world.contents("client_id = 77"))
    while count() < 1 and time.monotonic() < end:
        time.sleep(0.05)
    expect(count() == 1, f"{count()} rows")
    reply = gateway.ask("POST", API + "/remember", whole, {"Idempotency-Key": "gone-1"})
    expect(reply.status in (200, 207) and count() == 1, reply, count())


def slow_clients(world):
    """46: hundreds of clients send a byte a second, others say nothing: the rest are served as before"""
    gateway = world.gateway().start()
    ask = lambda c, n, i: (time.sleep(0.005), c.recall(1, f"slow clients {i % 50}"))[1]
    with Load(gateway.port, 4, ask) as load:
        time.sleep(3)
    before = percentile([r.ms for r in load.since()], 0.99)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    slow = [socket.create_connection((HOST, gateway.port), 5) for _ in range(600)]
    idle = [socket.create_connection((HOST, gateway.port), 5) for _ in range(600)]
    stop, closed = threading.Event(), set()

    def drip():
        data = b"POST " + API.encode() + b"/remember HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000
        for place in range(len(data)):
            for s in slow:
                try:
                    s.send(data[place:place + 1])
                except OSError:
                    closed.add(s)
            if stop.wait(1):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with Load(gateway.port, 4, ask) as load:
            time.sleep(5)
        during = percentile([r.ms for r in load.since()], 0.99)
        expect(all(r.status == 200 for r in load.since()), [r for r in load.since() if r.status != 200][:2])
        expect(during < 2 * before + 10, f"p99 {before:.1f} → {during:.1f} ms")
        end = time.monotonic() + 45
        while len(closed) < len(slow) and time.monotonic() < end:
            time.sleep(1)
        expect(len(closed) == len(slow), f"{len(slow) - len(closed)} of {len(slow)} slow clients are still there")
    finally:
        stop.set()
        thread.join()
        for s in slow + idle:
            s.close()


def large_heads(world):
    """47: sixty-five thousand headers, one header of a megabyte, a target of a megabyte"""
    gateway = world.gateway().start()
    head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
    for data in (head + b"".join(b"A%d: b\r\n" % i for i in range(65000)) + b"\r\n", head + b"A: " + b"b" * (1 << 20) + b"\r\n\r\n",
                 b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        answer = raw(gateway, data)
        expect(answer[9:12] in (b"431", b"414", b"400", b""), answer[:100])
    expect(gateway.ask("GET", "/health/live").status == 200, "it is gone")


def smuggling(world):
    """48: two lengths, a length and chunks, bare line feeds, folded headers, chunks without measure"""
    gateway = world.gateway().start()
    inner = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    start = b"POST /api/v1/memory/recall HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    cases = {
        "length and chunks": start + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "two lengths": start + b"Content-Length: 4\r\nContent-Length: 40\r\n\r\n{}  " + inner,
        "bare line feeds": b"POST /api/v1/memory/recall HTTP/1.1\nHost: localhost\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n" + inner,
        "an endless chunk": start + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n" + inner,
        "chunked twice": start + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
        "a space before the colon": start + b"Content-Length : 4\r\n\r\n{}  " + inner,
        "a folded header": start + b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}" + inner,
    }
    for name, data in cases.items():
        answer = raw(gateway, data, 2)
        expect(answer.count(b"HTTP/1.1 200") == 0 or name == "a folded header" and b"HTTP/1.1 4" in answer, name, answer[:300])
    expect(gateway.ask("GET", "/health/live").status == 200, "it is gone")


ROWS = [client_gone, slow_clients, large_heads, smuggling]
