"""Who is let in, while that changes."""
import json
import os
import subprocess
import time

from rows.checks import expect
from world import API, Load


def last_key(world):
    """keys: the last live key is revoked under load: 401 for everyone from then on, with it, with another, and with none"""
    gateway = world.gateway().start()

    def keys(*words):
        out = subprocess.run([world.binary, "keys", *words], env={**os.environ, **gateway.environment},
                             capture_output=True, text=True, timeout=60)
        expect(out.returncode == 0, words, out.stdout, out.stderr)
        return out.stdout

    def status(key=None):
        headers = {"X-API-Key": key} if key else {}
        return gateway.ask("GET", f"{API}/events?client_id=7&limit=1", headers=headers).status

    def wait_for(code, key, seconds, what):
        end = time.monotonic() + seconds
        while status(key) != code:
            expect(time.monotonic() < end, what, status(key))
            time.sleep(0.1)

    created = json.loads(keys("create", "the-only-one", "--client", "7", "--json"))
    wait_for(401, None, 15, "a key was made, and the gateway is still open:")
    with Load(gateway.port, 4, lambda c, n, i: (time.sleep(0.01), c.ask(
            "GET", f"{API}/events?client_id=7&limit=1", headers={"X-API-Key": created["key"]}))[1]) as load:
        time.sleep(1)
        expect(all(r.status == 200 for r in load.since()), "the key does not serve", load.since()[:2])
        keys("revoke", str(created["id"]))
        wait_for(401, created["key"], 15, "the revoked key still serves:")
        ended = time.monotonic()
        # Longer than the gateway keeps what it knows of keys.
        while time.monotonic() - ended < 15:
            for key in (None, created["key"], "mg_" + "x" * 43):
                expect(status(key) == 401, "open again, with", "no key" if key is None else key, status(key))
            time.sleep(0.2)
    expect(all(r.status == 401 for r in load.since(ended)), [r for r in load.since(ended) if r.status != 401][:2])


ROWS = [last_key]
