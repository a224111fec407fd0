"""Run servers that answer over TCP and UDP, in a container and on the host, and ask them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from rootless.kernel.find_program import find_program
from tests.support.checkout import TIMEOUT

ENGINES = ("pasta", "slirp4netns")
PYTHON = "/usr/bin/python3"  # the host's, which a container of `run --host` has, too
# Answer on a port of all addresses; say when.
SERVE = """
import os, signal, socket, sys, threading
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
port = int(sys.argv[1])
tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(("::", port))
def answer_udp():
    while True:
        data, peer = udp.recvfrom(100)
        udp.sendto(b"inside " + data, peer)
threading.Thread(target=answer_udp, daemon=True).start()
print("up", flush=True)
while True:
    connection, _ = tcp.accept()
    connection.sendall(b"inside " + connection.recv(100))
    connection.close()
"""
# Ask servers, each named as PROTOCOL,NAME,PORT,FAMILY,PATIENCE: print a line for each, with the answer or the error.
ASK = """
import socket, sys, time
def ask(protocol, name, port, family, patience):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    end = time.monotonic() + int(patience)
    while True:
        try:
            found = socket.getaddrinfo(name, int(port), int(family), kind)[0]
            with socket.socket(found[0], kind) as sock:
                sock.settimeout(2)
                if protocol == "tcp":
                    sock.connect(found[4])
                    sock.sendall(b"ask")
                else:  # not connected: over IPv6 Debian 12's pasta answers from another of its addresses
                    sock.sendto(b"ask", found[4])
                return sock.recv(100).decode()
        except OSError as error:
            if time.monotonic() > end:
                return type(error).__name__
            time.sleep(0.1)
for words in sys.argv[1:]:
    print(ask(*words.split(",")))
"""
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def needs(engine: str) -> None:
    """Skip a test where an engine is missing, or cannot make a tun device."""
    lacking = missing(engine)
    if lacking:
        pytest.skip(lacking)
    if not os.path.exists(PYTHON):
        pytest.skip(f"this machine lacks {PYTHON}")


def missing(engine: str) -> str:
    """Return what an engine lacks here, "" if it works."""
    if not find_program(engine):
        return f"this machine lacks {engine} (Debian: {'passt' if engine == 'pasta' else engine})"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun cannot be opened: {error.strerror}"
    return ""


def free_port() -> int:
    """Return a number that no socket of any family or protocol has."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = int(sock.getsockname()[1])
        try:
            with contextlib.ExitStack() as stack:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = stack.enter_context(socket.socket(socket.AF_INET6, kind))
                    probe.bind(("::", port))
            return port
        except OSError:
            continue


def ask(protocol: str, address: str, port: int) -> str:
    """Return what a server of this machine answers, the name of the error otherwise."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        sock.settimeout(TIMEOUT)
        try:
            sock.connect((address, port))
            sock.sendall(b"ask")
            return sock.recv(100).decode() or "nothing"
        except OSError as error:
            return type(error).__name__


@contextlib.contextmanager
def host_server(address: str) -> Iterator[int]:
    """Serve on a loopback address of the host, over TCP and UDP; yield the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    port = free_port()
    tcp = socket.create_server((address, port), family=family)
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, port))

    def answer_tcp() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = tcp.accept()
                with connection:
                    connection.sendall(b"host " + connection.recv(100))

    def answer_udp() -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = udp.recvfrom(100)
                if not peer:  # it is shut down
                    return
                udp.sendto(b"host " + data, peer)

    threads = [threading.Thread(target=life, daemon=True) for life in (answer_tcp, answer_udp)]
    for thread in threads:
        thread.start()
    try:
        yield port
    finally:
        for sock in (tcp, udp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
