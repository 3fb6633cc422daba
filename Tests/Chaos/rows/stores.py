"""The other stores, the provider of vectors, and all at once."""
import os
import subprocess

from rows.checks import expect, serves
from world import API, HOST, Client, Embedder


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
