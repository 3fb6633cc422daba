"""N5: tenants."""
import re
import socket
import time

from measures.result import Result
from world import API, HOST, Client, Load


def canaries(world, count):
    """Fifty clients, each with a word of its own; many callers hang up before the answer. Nobody may see another's word."""
    gateway, clients, hung, leaks = world.gateway().start(), range(3000, 3050), [0], []
    words = {c: f"canary{c * 7919}x" for c in clients}
    client = Client(gateway.port)
    for c in clients:
        client.remember_batch(c, [f"{words[c]} likes tea number {i}" for i in range(8)])
    every = re.compile(rb"canary(\d+)x")

    def ask(client, n, i):
        c = 3000 + (n * 31 + i * 17) % 50
        if i % 4 == 0:  # hangs up while the answer is made
            try:
                with socket.create_connection((HOST, gateway.port), 5) as s:
                    body = f'{{"client_id": {c}, "query": "tea {i % 500}"}}'
                    s.sendall(f"POST {API}/recall HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                              f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            except OSError:
                pass
            hung[0] += 1
            return None
        reply = client.recall(c, f"tea {i % 50}", k=3) if i % 2 else client.ask("GET", f"{API}/events?client_id={c}&limit=3")
        found = {int(x) for x in every.findall(reply.body)}
        if found - {c * 7919}:
            leaks.append((c, reply.body[:200]))
        if reply.status != 200 or not found:
            odd.append(reply)
        return reply

    done, odd = 0, []
    while done < count:
        with Load(gateway.port, 24, ask) as load:
            time.sleep(5)
        done += len(load.since())
    for reply in odd[:5]:
        print("   canaries:", reply)
    gateway.end()
    return [Result("N5", f"answers with a word of another of 50 clients; beside them {hung[0]:,} callers hung up", done,
                   len(leaks), f"{len(odd)} answers were no 200 with the client's own words", not leaks and not odd)]
