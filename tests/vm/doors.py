"""Ports as they are asked for, and inputs that never end."""

import socket
import subprocess
import threading
import time

from changes import listening
from ground import LONG, fail, milliseconds, until

# Fifty would be a minute of their own.
RESTARTS = 4
AT_ONCE = 3


def doors(edges):
    """One port for two addresses, ports below 1024, ports of what lives short, and restarts: all as asked, none left (case 13)"""
    engine = edges.engine()
    port = free_port()
    serve(engine, "four", f"127.0.0.1:{port}:80")
    serve(engine, "six", f"[::1]:{port}:80")
    for host, name in [("127.0.0.1", b"four\n"), ("::1", b"six\n")]:
        until(lambda: heard(host, port) == name, LONG, lambda: f"{host} says {heard(host, port)}")
    low = free_port(range(1023, 512, -1))
    serve(engine, "low", f"127.0.0.1:{low}:80")
    until(lambda: heard("127.0.0.1", low) == b"low\n", LONG, f"port {low}")
    began = milliseconds()
    engine.docker("kill", "low")
    ended = milliseconds()
    until(lambda: is_free(low), LONG, "a port is not given up", pause=0.005)
    edges.ground.say(f"   port {low} is free {milliseconds() - ended} ms after `docker kill` was done, which took {ended - began} ms")
    engine.docker("rm", "-f", "four", "six", "low")
    for _ in range(5):
        engine.docker("run", "--rm", "-p", "127.0.0.1::80", "box", "true")
    until(lambda: not listening(engine), LONG, lambda: f"of what lived short is open {listening(engine)}")
    began = milliseconds()
    restarting = [threading.Thread(target=restart, args=(engine, f"again-{number}")) for number in range(AT_ONCE)]
    for each in restarting:
        each.start()
    for each in restarting:
        each.join(LONG)
    until(lambda: len(listening(engine)) == AT_ONCE, LONG, lambda: f"open is {listening(engine)}")
    edges.ground.say(f"   {AT_ONCE * RESTARTS} restarts in {milliseconds() - began} ms, {AT_ONCE} ports open")
    engine.docker("rm", "-f", *(f"again-{number}" for number in range(AT_ONCE)))
    until(lambda: not listening(engine), LONG, lambda: f"open is {listening(engine)}")
    edges.dropped(engine)


def restart(engine, name):
    serve(engine, name, "127.0.0.1::80")
    for _ in range(RESTARTS):
        engine.docker("restart", "-t", "0", name)


def serve(engine, name, port):
    engine.docker("run", "-d", "--name", name, "--hostname", name, "-p", port, "box", "nc", "-ll", "-p", "80", "-e", "hostname")


def heard(host, port):
    try:
        with socket.create_connection((host, port), 10) as connection:
            connection.settimeout(10)
            return connection.makefile("rb").read()
    except OSError:
        return b""


def is_free(port):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free_port(among=range(20000, 30000)):
    for port in among:
        with socket.socket(socket.AF_INET6) as six:
            try:
                six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                six.bind(("::", port))
                return port
            except OSError:
                continue
    fail("no port is free")


def inputs(edges):
    """Inputs that end at once, and inputs that never end while the container does (case 3)"""
    engine = edges.engine()
    engine.docker("run", "-i", "--rm", "box", "cat")
    for command in [["run", "-i", "--rm", "box", "sh", "-c", "echo out"], ["run", "-i", "-a", "stdin", "-a", "stdout", "box", "echo", "out"]]:
        process = engine.open(*command, stdin=subprocess.PIPE)
        if (out := process.stdout.read()) != b"out\n":
            fail(f"{command}: {out} came out")
        if process.wait(LONG):
            fail(f"{command}: {process.returncode}")
        process.stdin.close()
    engine.docker("run", "-d", "-i", "--name", "waits", "box", "sh", "-c", "read -r line; echo got $line")
    process = engine.open("attach", "waits", stdin=subprocess.PIPE)
    time.sleep(0.5)
    process.stdin.write(b"a line\n")
    process.stdin.flush()
    if process.stdout.read() != b"got a line\n" or process.wait(LONG):
        fail("an attached container that ends by itself")
    process.stdin.close()
    edges.dropped(engine)
