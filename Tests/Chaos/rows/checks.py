"""What every row asks."""
import os
import socket
import time

from world import HOST, Client


def expect(truth, *what):
    if not truth:
        raise AssertionError(" ".join(str(w) for w in what))


def serves(gateway, seconds=10):
    """Waits until a remember and a recall go through; how long it took."""
    started, client = time.monotonic(), Client(gateway.port)
    while time.monotonic() - started < seconds:
        a, b = client.remember(1, f"serves {time.monotonic()}"), client.recall(1, f"serves {time.monotonic()}")
        if a.status in (200, 207) and b.status == 200:
            return time.monotonic() - started
        time.sleep(0.05)
    raise AssertionError(f"it does not serve again in {seconds} s: {a} {b}")


def raw(gateway, data, seconds=5):
    """Bytes in, bytes out, until the server closes or says nothing for so long."""
    answer = b""
    with socket.create_connection((HOST, gateway.port), 5) as s:
        s.settimeout(seconds)
        try:
            s.sendall(data)
            while chunk := s.recv(65536):
                answer += chunk
        except OSError:
            pass
    return answer


def cpu(gateway):
    with open(f"/proc/{gateway.process.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
