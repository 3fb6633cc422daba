"""N9: fuzzed HTTP."""
import random
import socket
import threading

from measures.result import Result
from world import HOST


SEEDS = [
    b'POST /api/v1/memory/remember HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n'
    b'{"client_id": 1, "content": "fuzzed"}'[:36],
    b'POST /api/v1/memory/recall HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n'
    b'{"client_id": 1, "query": "tea" } ',
    b"GET /api/v1/memory/recall?client_id=1&query=tea&k=5 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/memory/events?client_id=1&limit=10&since=2026-01-01T00:00:00Z HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /api/v1/memory/search/hybrid HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'1a\r\n{"client_id":1,"query":"a"}\r\n0\r\n\r\n',
    b'PATCH /api/v1/memory/1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n'
    b'{"content":"other"}',
    b"DELETE /api/v1/memory/999999?client_id=1 HTTP/1.1\r\nHost: x\r\n\r\n",
]
TOKENS = [b"\x00", b"\r\n", b"\n", b"%00", b"%2e%2e/", b"//", b"{", b"[" * 40, b"1e999", b"-1", b"9223372036854775808", b'"',
          b"\\ud800", b"\xff\xfe", b"client_id", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"NaN", b"null",
          b"A" * 4096, b"\xe2\x80\xae", b"true"]


def mutated(rng):
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data) + 1)
        choice = rng.randrange(5)
        if choice == 0 and place < len(data):
            data[place] = rng.randrange(256)
        elif choice == 1:
            data[place:place] = rng.choice(TOKENS)
        elif choice == 2:
            del data[place:place + rng.randint(1, 12)]
        elif choice == 3 and place < len(data):
            data[place:place] = data[place:place + rng.randint(1, 30)]
        else:
            data[place:place + 1] = bytes([rng.randrange(256)])
    return bytes(data)


def fuzzed(world, count, seed):
    """Mutated bytes on raw sockets; the process must live, and answer nothing but its own refusals."""
    gateway = world.gateway().start()
    odd, done, lock = [], [0], threading.Lock()

    def fuzz(n):
        rng = random.Random(f"{seed}-{n}")
        for _ in range(count // 16):
            data = mutated(rng)
            try:
                with socket.create_connection((HOST, gateway.port), 5) as s:
                    s.settimeout(2)
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    answer = s.recv(65536)
            except OSError:
                answer = b""
            status = answer[9:12]
            with lock:
                done[0] += 1
                if status[:1] == b"5":
                    odd.append((data, answer[:200]))

    threads = [threading.Thread(target=fuzz, args=(n,)) for n in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alive = gateway.process.poll() is None and gateway.ask("GET", "/health/ready").status == 200
    for data, answer in odd[:5]:
        print("   fuzz:", data[:300], "->", answer)
    gateway.end()
    return [Result("N9", "fuzzed requests after which the process was gone, or that were answered with a 5xx", done[0],
                   len(odd) + (not alive), "the same process" if alive else "the process ended", alive and not odd)]
