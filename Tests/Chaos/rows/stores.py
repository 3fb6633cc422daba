"""The other stores, the provider of vectors, and all at once."""
import os
import socket
import subprocess
import time

from rows.checks import expect, serves
from world import API, HOST, Client, Embedder, Load


def applied_then_killed(world):
    """16: Qdrant applies a point and dies before it answers: the retry leaves one point"""
    gateway = world.gateway().start()
    world.qdrant("POST", "/__test__/config", {"apply_then_drop": True})
    reply = gateway.ask("POST", API + "/remember", {"client_id": 1, "content": "applied, never answered"})
    expect(reply.status == 207 and reply.json["failed"] == ["qdrant"], reply)
    world.qdrant("POST", "/__test__/config", {})
    expect(gateway.wait_for_outbox(30) is not None, "it was not delivered again")
    identifier = reply.json["memory_id"]
    found = world.qdrant("POST", "/collections/events/points", {"ids": [identifier]}).json["result"]
    expect(len(found) == 1, found)
    hits = gateway.ask("POST", API + "/recall", {"client_id": 1, "query": "applied, never answered", "k": 3}).json["results"]
    expect([h["memory_id"] for h in hits].count(identifier) == 1, hits)


def changed_model(world):
    """28: another model takes the place of the first: the points name theirs, and doctor tells"""
    embedder = Embedder()
    environment = {"EMBEDDINGS_URL": f"http://{HOST}:{embedder.port}/v1", "EMBEDDINGS_MODEL": "first"}
    gateway = world.gateway(**environment).start()
    identifier = gateway.ask("POST", API + "/remember", {"client_id": 1, "content": "made by the first model"}).json["memory_id"]
    gateway.end()
    point = world.qdrant("POST", "/collections/events/points", {"ids": [identifier], "with_payload": True}).json["result"][0]
    expect(point["payload"]["model"] == "first", point)
    out = subprocess.run([world.binary, "doctor"], env={**os.environ, **gateway.environment, "EMBEDDINGS_MODEL": "second"},
                         capture_output=True, text=True, timeout=60)
    expect("first" in out.stdout + out.stderr, out.stdout, out.stderr)


def everything_down(world):
    """44: all three servers away, then all back at once"""
    gateway = world.gateway().start()
    client = Client(gateway.port)
    for name in ("postgres", "valkey", "qdrant"):
        world.servers.do("kill", name)
    for _ in range(20):
        for reply in (client.remember(1, "nowhere"), client.recall(1, "nowhere at all")):
            expect(reply.status == 503, reply)
    expect(client.ask("GET", "/health/live").status == 200, "not even alive")
    list(world.threads.map(lambda name: world.servers.do("start", name), ("postgres", "valkey", "qdrant")))
    took = serves(gateway, 10)
    expect(took <= 5, f"{took:.1f} s")


def slow_provider(world):
    """24: the provider of vectors takes four seconds, and there is a backlog: recalls degrade within their time, none is refused"""
    embedder = Embedder()
    gateway = world.gateway(EMBEDDINGS_URL=f"http://{HOST}:{embedder.port}/v1", EMBEDDINGS_MODEL="m").start()
    client = Client(gateway.port)
    embedder.status = 500
    for start in range(0, 256, 64):
        reply = client.remember_batch(1, [f"backlog {start + j}" for j in range(64)])
        expect(reply.status in (200, 207), reply)
    expect(gateway.metric("memory_gateway_outbox_pending") > 100, "nothing is owed")
    embedder.status, embedder.delay = 200, 4
    time.sleep(2)  # the outbox asks for vectors now
    asked = lambda c, n, i: (time.sleep(0.05), c.recall(1, f"backlog {n} {i}") if i % 4 else c.remember(1, f"late {n} {i}"))[1]
    with Load(gateway.port, 6, asked) as load:
        time.sleep(12)
    replies = load.since()
    refused = [r for r in replies if r.status not in (200, 207)]
    late = [r for r in replies if r.ms > (1200 if b'"results"' in r.body else 2200)]
    expect(len(replies) > 50 and not refused, f"{len(refused)} of {len(replies)} were refused, such as", refused[:2])
    expect(not late, f"{len(late)} of {len(replies)} were late, such as", late[:2])
    embedder.delay = 0
    expect(gateway.wait_for_outbox(60) is not None, "the backlog is not delivered")


def erased_while_away(world):
    """32: a client is erased while Valkey is away: its conversation is served no more, and is gone from Valkey in the end"""
    gateway, client_id, secret = world.gateway().start(), 50, b"the-secret-of-a-conversation"
    path = f"{API}/sessions/s1/messages?client_id={client_id}"
    expect(gateway.ask("POST", API + "/remember", {"client_id": client_id, "content": "to be erased"}).status == 200, "no memory")
    message = {"client_id": client_id, "messages": [{"role": "user", "content": secret.decode()}]}
    reply = gateway.ask("POST", f"{API}/sessions/s1/messages", message)
    expect(reply.status in (200, 201), reply)
    expect(secret in gateway.ask("GET", path).body, "the conversation is not there")
    time.sleep(1.5)  # Valkey writes its log every second
    world.servers.do("kill", "valkey")
    reply = gateway.ask("DELETE", f"{API}/clients/{client_id}")
    expect(reply.status == 207, "an erasure that Valkey missed", reply)
    world.servers.do("start", "valkey")
    end, gone = time.monotonic() + 20, False
    while time.monotonic() < end and not gone:
        read = gateway.ask("GET", path)
        expect(secret not in read.body, "the erased conversation is served:", read)
        gone = read.status in (200, 404)
        time.sleep(0.05)
    expect(gone, "its sessions are never served again", read)
    with open_valkey(world) as valkey:
        valkey.sendall(b"KEYS *{c%d}*session*\r\n" % client_id)
        expect(valkey.recv(65536).startswith(b"*0"), "its conversation is still in Valkey")


def open_valkey(world):
    return socket.create_connection((HOST, world.ports["valkey"]), 5)


ROWS = [applied_then_killed, changed_model, slow_provider, erased_while_away, everything_down]
