"""N9: fuzzed HTTP."""
import json
import random
import re
import socket
import threading
from urllib.parse import quote

from measures.result import Result
from world import API, HOST


def request(method, path, body=None, chunked=False):
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
    if body is None:
        return head + b"\r\n"
    head += b"Content-Type: application/json\r\n"
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def described(gateway):
    """A request for each operation of the served description, with its own example: no route that does not exist."""
    document = gateway.ask("GET", "/openapi.json").json
    schemas = document["components"]["schemas"]
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method not in ("get", "post", "put", "patch", "delete") or path.endswith("/stream"):
                continue
            query = []
            for parameter in operation.get("parameters", []):
                if "$ref" in parameter:
                    parameter = document["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
                value = quote(str(parameter.get("example", 1)), safe="")
                if parameter["in"] == "path":
                    path = path.replace("{" + parameter["name"] + "}", value)
                elif parameter["in"] == "query" and (parameter.get("required") or parameter["name"] in ("client_id", "limit")):
                    query.append(f"{parameter['name']}={value}")
            body = None
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = content["application/json"]["schema"]
                if "$ref" in schema:
                    schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
                body = json.dumps(schema.get("example", {})).encode()
            elif content:
                body = b"{}\n"
            found.append(request(method.upper(), path + ("?" + "&".join(query) if query else ""), body, len(found) % 5 == 0))
    return found


def large():
    """Bodies of several KiB to a quarter of a MiB, nested, wide and long."""
    text = " ".join(f"paragraph {i} of a text about tea." for i in range(300))
    deep = {"leaf": 1}
    for _ in range(8):
        deep = {"in": [deep, {"a": None}]}
    batch = {"memories": [{"client_id": 1, "content": f"item {i} {text[:200]}", "metadata": {f"k{j}": j for j in range(20)}}
                          for i in range(64)]}
    bodies = [("/remember/batch", batch), ("/docs", {"doc_id": "fuzz", "client_id": 1, "content": text * 20}),
              ("/remember", {"client_id": 1, "content": text, "metadata": deep}),
              ("/remember", {"client_id": 1, "content": "wide", "metadata": {f"key {i}": i for i in range(900)}}),
              ("/recall", {"client_id": 1, "query": text[:4000], "k": 100, "metadata": {f"k{j}": j for j in range(32)}}),
              ("/graph/batch", {"nodes": [{"node_id": f"fuzz:{i}", "node_type": "thing", "properties": deep}
                                          for i in range(200)], "edges": []}),
              ("/sessions/fuzz/messages", {"client_id": 1, "messages": [{"role": "user", "content": text[:2000]}] * 50})]
    return [request("POST", API + path, json.dumps(body).encode(), n % 3 == 0) for n, (path, body) in enumerate(bodies)]


TOKENS = [b"\x00", b"\r\n", b"\n", b"%00", b"%2e%2e/", b"//", b"{", b"[" * 40, b"1e999", b"-1", b"9223372036854775808", b'"',
          b"\\ud800", b"\xff\xfe", b"client_id", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"NaN", b"null",
          b"A" * 4096, b"\xe2\x80\xae", b"true"]


def mutated(rng, seeds):
    whole = rng.choice(seeds)
    # In half of the cases only the body, and its length is right: what is behind the frame is reached as well.
    head, _, body = whole.partition(b"\r\n\r\n")
    inside = body and b"Content-Length" in head and rng.random() < 0.5
    data = bytearray(body if inside else whole)
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
    if inside:
        head = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(data), head)
        return head + b"\r\n\r\n" + bytes(data)
    return bytes(data)


def raw_answer(gateway, data):
    try:
        with socket.create_connection((HOST, gateway.port), 5) as s:
            s.settimeout(5)
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return s.recv(65536)
    except OSError:
        return b""


def fuzzed(world, count, seed):
    """Mutated bytes on raw sockets, one in twenty of a large body; the process must live, and answer nothing but its own
    refusals."""
    gateway = world.gateway().start()
    small, big = described(gateway), large()
    odd, done, lock = [], [0], threading.Lock()
    for data in small + big:  # each of them as it is: a seed that is refused at the door finds nothing
        head, _, body = raw_answer(gateway, data).partition(b"\r\n\r\n")
        status = head[9:12]
        refused = status[:1] != b"2" if data in big else status in (b"405", b"") or b"no such route" in body
        if refused or status[:1] == b"5":
            odd.append((data, head + body[:200]))

    def fuzz(n):
        rng = random.Random(f"{seed}-{n}")
        for _ in range(count // 16):
            data = mutated(rng, big if rng.random() < 0.05 else small)
            answer = raw_answer(gateway, data)
            for _ in range(3):  # a machine that is busy may make one late; what the input is at fault for stays
                if answer[9:12] != b"503":
                    break
                answer = raw_answer(gateway, data)
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
                   len(odd) + (not alive), f"the same process; {len(small)} operations of the description, {len(big)} large bodies"
                   if alive else "the process ended", alive and not odd)]
