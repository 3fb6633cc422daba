#!/usr/bin/env python3
"""Two gateways behind nginx, stopped (SIGTERM) and killed (SIGKILL) in turn under load, and started again.

  servers.py run -- rolling.py GATEWAY [--rounds 4] [--writers 6]

Each writer remembers something through the proxy, with an Idempotency-Key, and asks for it through the proxy at once: what
it wrote must be there, whichever gateway answers. Fails when any request fails, a recall is stale, a memory is missing or
stored twice, or the outbox does not drain.
"""
import argparse, http.client, json, os, shutil, signal, subprocess, sys, tempfile, threading, time

from servers import free_port

HOST = "127.0.0.1"


def ask(port, method, path, body=None, headers=None):
    c = http.client.HTTPConnection(HOST, port, timeout=15)
    try:
        c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        r = c.getresponse()
        text = r.read() or b"null"
        # A proxy's own error page is no answer of ours.
        return r.status, json.loads(text) if r.getheader("Content-Type", "").startswith("application/json") else text[:80]
    finally:
        c.close()


def start(binary, port):
    process = subprocess.Popen([binary], env={**os.environ, "API_PORT": str(port), "LOG_LEVEL": "error"}, stdin=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if ask(port, "GET", "/health/ready")[0] == 200:
                return process
        except OSError:
            pass
        time.sleep(0.02)
    raise RuntimeError("the gateway did not start")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gateway"); p.add_argument("--rounds", type=int, default=4); p.add_argument("--writers", type=int, default=6)
    a = p.parse_args()
    work = tempfile.mkdtemp(prefix="rolling-")
    ports, proxy = [free_port(), free_port()], free_port()
    gateways, nginx, failures, done, stop = [], None, [], [0] * a.writers, threading.Event()
    try:
        gateways = [start(a.gateway, port) for port in ports]
        with open(f"{work}/nginx.conf", "w") as f:
            f.write(f"""daemon off; pid {work}/pid; error_log {work}/error.log; user root;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  upstream gateways {{ {' '.join(f'server {HOST}:{port} max_fails=0;' for port in ports)} }}
  server {{ listen {HOST}:{proxy};
    location / {{ proxy_pass http://gateways; proxy_set_header Host $http_host; proxy_connect_timeout 1s;
      # A POST may go to the other gateway as well: its Idempotency-Key makes it one memory.
      proxy_next_upstream error timeout http_502 http_504 non_idempotent; proxy_next_upstream_tries 2; }} }} }}""")
        nginx = subprocess.Popen(["nginx", "-c", f"{work}/nginx.conf", "-p", work])
        time.sleep(0.5)

        def writer(n):
            number = 0
            while not stop.is_set():
                number += 1
                text = f"writer{n} number{number} unique{n}x{number}"
                try:
                    status, body = ask(proxy, "POST", "/api/v1/memory/remember", {"client_id": n + 1, "content": text},
                                       {"Idempotency-Key": f"{n}-{number}"})
                    if status not in (200, 207):
                        failures.append((status, body))
                        continue
                    status, found = ask(proxy, "POST", "/api/v1/memory/recall",
                                        {"client_id": n + 1, "query": f"unique{n}x{number}", "k": 1, "sources": ["events"]})
                    if status != 200:
                        failures.append((status, found))
                    elif not body.get("failed") and [r["memory_id"] for r in found["results"]] != [body["memory_id"]]:
                        failures.append(("stale", text, found["results"][:1]))
                    done[n] = number
                except OSError as error:
                    failures.append((repr(error), text))

        threads = [threading.Thread(target=writer, args=(n,)) for n in range(a.writers)]
        for t in threads:
            t.start()
        for n in range(a.rounds):
            for i in (0, 1):
                time.sleep(1)
                gateways[i].send_signal(signal.SIGTERM if n % 2 == 0 else signal.SIGKILL)
                gateways[i].wait()
                gateways[i] = start(a.gateway, ports[i])
                print(f"round {n + 1}: gateway {i + 1} {'stopped' if n % 2 == 0 else 'killed'} and started, {sum(done)} written, {len(failures)} failures", flush=True)
        stop.set()
        for t in threads:
            t.join()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            text = http_text(ports[0], "/metrics")
            if "memory_gateway_outbox_pending 0.0" in text:
                break
            time.sleep(0.2)
        else:
            failures.append("the outbox did not drain")
        for n in range(a.writers):
            lines = http_text(ports[1], f"/api/v1/memory/clients/{n + 1}/export").splitlines()
            contents = [json.loads(line)["content"] for line in lines]
            if len(contents) != len(set(contents)):
                failures.append(f"client {n + 1}: a memory is stored twice")
            missing = {f"writer{n} number{i} unique{n}x{i}" for i in range(1, done[n] + 1)} - set(contents)
            if missing:
                failures.append(f"client {n + 1}: {len(missing)} memories are missing")
    finally:
        for process in gateways + ([nginx] if nginx else []):
            process.kill()
        shutil.rmtree(work, ignore_errors=True)
    print(f"{sum(done)} memories written and read through {a.rounds * 2} restarts: {len(failures)} failures")
    for failure in failures[:10]:
        print("  ", failure)
    sys.exit(1 if failures else 0)


def http_text(port, path):
    c = http.client.HTTPConnection(HOST, port, timeout=30)
    c.request("GET", path)
    text = c.getresponse().read().decode()
    c.close()
    return text


main()
