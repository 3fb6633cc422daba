#!/usr/bin/env python3
"""A TCP proxy that fails on purpose. Prints its port, and stops when its input ends.

  fault_proxy.py TARGET_PORT FAULT

Faults: cut-answer:TEXT   forwards what holds TEXT, swallows the answer, closes (once)
        cut-request:TEXT  closes instead of forwarding what holds TEXT (once)
        delay:MS          forwards every answer so much later
        blackhole         accepts, reads, answers nothing
        garbage           answers with bytes that mean nothing
"""
import os, socket, sys, threading, time

from servers import close_sockets

target, (fault, _, argument) = int(sys.argv[1]), sys.argv[2].partition(":")
lock, left = threading.Lock(), [1]


def is_due(data):
    with lock:
        if left[0] and argument.encode() in data:
            left[0] -= 1
            return True
    return False


def serve(client):
    if fault == "blackhole":
        while client.recv(65536):
            pass
        return
    if fault == "garbage":
        client.recv(65536)
        client.sendall(bytes(range(256)) * 16)
        return close_sockets(client)
    server = socket.create_connection(("127.0.0.1", target))
    swallowing = threading.Event()

    def answers():
        try:
            while data := server.recv(65536):
                if swallowing.is_set():
                    return close_sockets(client, server)
                if fault == "delay":
                    time.sleep(int(argument) / 1000)
                client.sendall(data)
        except OSError:
            pass
        close_sockets(client, server)

    threading.Thread(target=answers, daemon=True).start()
    try:
        while data := client.recv(65536):
            if fault == "cut-request" and is_due(data):
                return close_sockets(client, server)
            if fault == "cut-answer" and is_due(data):
                swallowing.set()
            server.sendall(data)
    except OSError:
        pass
    close_sockets(client, server)


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)


def accept():
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
os._exit(0)
