"""A machine that slept, and clocks that are wrong."""

import os
import signal
import socket
import subprocess
import time

from ground import LONG, fail, milliseconds, until
from hostile import reached

ASLEEP = 4
HOUR = 3600
YEAR = 365 * 24 * HOUR


class Clock:
    """The guest's, told by a container that runs on."""

    def __init__(self, engine):
        self.engine = engine
        self.process = engine.open("run", "--rm", "-i", "--privileged", "box", "sh", "-c",
                                   'while read -r set; do [ -z "$set" ] || date -s "@$set" >/dev/null; date +%s; done',
                                   stdin=subprocess.PIPE)
        self.ask()

    def ask(self, seconds=""):
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def is_right(self):
        before = time.time()
        return before - 2 <= self.ask() <= time.time() + 2

    def set(self, offset):
        """Sets it, and looks: it may be put right at any moment."""
        for _ in range(100):
            if abs(self.ask(int(time.time()) + offset) - time.time() - offset) < HOUR / 2:
                return
        fail("the guest's clock cannot be set")

    def over(self):
        self.process.stdin.close()
        self.process.wait(LONG)


def sleep(edges):
    """The computer sleeps: the clock is put right, connections, streams and ports live on (case 12)"""
    engine = edges.engine()
    clock = Clock(engine)
    engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
    engine.docker("run", "-d", "--name", "echo", "-p", "127.0.0.1::7", "box", "nc", "-ll", "-p", "7", "-e", "cat")
    host, _, port = engine.said("port", "echo", "7").rpartition(":")
    old = until(lambda: connected(host, int(port)), LONG, "the port is not reached")
    log = engine.open("run", "--rm", "-i", "box", "cat", stdin=subprocess.PIPE)
    events = engine.open("events", "--filter", "event=create", "--format", "{{.Actor.Attributes.name}}")
    echoes(old, b"before\n")
    pids = [engine.supervisor(), engine.machine()]
    # As if it had been for eight hours.
    clock.set(-8 * HOUR)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(ASLEEP)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    began = milliseconds()
    until(clock.is_right, LONG, "the guest's clock is not put right")
    edges.ground.say(f"   the clock is right after {milliseconds() - began} ms")
    echoes(old, b"after\n")
    old.close()
    log.stdin.write(b"still there\n")
    log.stdin.close()
    if log.stdout.read() != b"still there\n" or log.wait(LONG):
        fail("an attached container does not go on")
    engine.docker("create", "--name", "later", "box", "true")
    while (name := events.stdout.readline()) != b"later\n":
        name or fail("a stream of events has ended")
    events.terminate()
    events.wait(LONG)
    if not reached(engine.said("port", "web", "80")):
        fail("a published port is dead")
    engine.wait_ready()
    clock.over()
    engine.docker("rm", "-f", "web", "echo", "later")
    edges.dropped(engine)


def connected(host, port):
    """A connection that is answered: the container may not listen yet."""
    connection = socket.create_connection((host, port), 10)
    try:
        echoes(connection, b"hello\n")
        return connection
    except (OSError, AssertionError):
        connection.close()
        return None


def echoes(connection, line):
    connection.sendall(line)
    got = b""
    while len(got) < len(line):
        piece = connection.recv(1024)
        assert piece, "the connection has ended"
        got += piece
    assert got == line, got


def clock(edges):
    """The guest's clock is years ahead, and years behind: nothing depends on it, and it is put right (case 20)"""
    engine = edges.engine()
    watch = Clock(engine)
    for words, offset in [("ten years behind", -10 * YEAR), ("five years ahead", 5 * YEAR)]:
        watch.set(offset)
        began = milliseconds()
        # dockerd itself begins in the wrong year.
        if offset == 5 * YEAR:
            engine.docker("run", "--rm", "--privileged", "--pid=host", "box", "hostile", "kill", "/usr/sbin/dockerd", check=False)
            until(lambda: engine.answers(30), LONG, "dockerd does not come back")
            engine.wait_ready()
            watch = Clock(engine)
        engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
        if engine.said("exec", "web", "cat", "/www/index.html") != "hello" or engine.run("metrics").returncode:
            fail(f"the engine does not work {words}")
        until(lambda: reached(engine.said("port", "web", "80")), LONG, f"a port is not reached {words}")
        engine.docker("rm", "-f", "web")
        until(watch.is_right, LONG, "the guest's clock is not put right")
        edges.ground.say(f"   {words}: all works, and it is right {milliseconds() - began} ms later")
    if not engine.is_ready():
        fail(f"it is not ready: {engine.status_text()}")
    watch.over()
    edges.dropped(engine)
