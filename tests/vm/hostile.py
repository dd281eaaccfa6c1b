"""The channel between host and guest: cut again and again, and held by somebody who means harm."""

import http.client
import os
import random
import select
import socket
import threading
import time

from floods import forget_peak, peak
from ground import LONG, fail, lives, until

ROUNDS = 3
STRANGERS = 33
NUMBERS = 15_000
# What a guest can make the supervisor hold: the mux's own bound is 64 MiB, 64 KiB for each stream, and 16 MiB of targets.
MEMORY = 192 << 20


def severed(edges):
    """The channel is cut a hundred times in traffic, and old bytes come again (case 5)"""
    engine = edges.ground.engine("severed", **edges.snapshot.sizes)
    edges.snapshot.lay(engine)
    (edges.snapshot.plan(engine) / "between").touch()
    between = Between(engine.address.parent)
    edges.snapshot.begin(engine)
    machine = engine.machine()
    engine.docker("run", "-t", "--name", "numbers", "box", "seq", 1, NUMBERS)
    engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
    whole = b"".join(b"%d\r\n" % number for number in range(1, NUMBERS + 1))
    traffic = [Reading(engine, whole) for _ in range(3)] + [Echoing(engine, between)]
    for _ in range(ROUNDS):
        before = [each.whole for each in traffic]
        until(lambda: all(each.whole > count for each, count in zip(traffic, before)), LONG,
              lambda: f"no more traffic: {[each.problem for each in traffic]} {engine.status_text()}")
        time.sleep(random.random() / 2)
        between.cut()
    before = [each.whole for each in traffic]
    until(lambda: all(each.whole > count for each, count in zip(traffic, before)), LONG, "no more traffic after the last cut")
    for each in traffic:
        each.over()
    engine.wait_ready()
    if engine.machine() != machine:
        fail("the machine is another")
    until(lambda: reached(engine.said("port", "web", "80")), LONG, "the published port is not there again")
    edges.ground.say(f"   {between.cuts} sessions and {between.strangers} strangers cut off; answers "
                     f"{sum(each.whole for each in traffic)} whole, {sum(each.broken for each in traffic)} broken off, none wrong")
    engine.stop()
    between.over()
    engine.nothing_left()
    edges.forget(engine)


def reached(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connection.settimeout(10)
            return b"hello" in connection.makefile("rb").read()
    except OSError:
        return False


class Between(threading.Thread):
    """Stands between the supervisor and the machine's port."""

    def __init__(self, runtime):
        super().__init__(daemon=True)
        self.ours, self.qemus = runtime / "agent.sock", runtime / "agent.qemu"
        self.begun = self.cuts = self.strangers = 0
        self.said = b""
        self.cutting, self.ending = threading.Event(), threading.Event()
        self.start()

    def run(self):
        while not self.qemus.exists():
            if self.ending.wait(0.01):
                return
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.ours))
            listener.listen()
            listener.settimeout(0.1)
            while not self.ending.is_set():
                try:
                    host, _ = listener.accept()
                except TimeoutError:
                    continue
                if guest := self.connect():
                    self.carry(host, guest)
                host.close()

    def connect(self):
        guest = socket.socket(socket.AF_UNIX)
        try:
            guest.connect(str(self.qemus))
            return guest
        except OSError:
            # The machine is off.
            guest.close()
            return None

    def carry(self, host, guest):
        heard = bytearray()
        other = {host: guest, guest: host}
        with guest:
            while not self.ending.is_set():
                readable, _, _ = select.select(list(other), [], [], 0.05)
                if self.cutting.is_set():
                    self.said = bytes(heard)
                    break
                for side in readable:
                    # Not as a frame ends.
                    piece = side.recv(random.randrange(1, 1 << 16))
                    if not piece:
                        return
                    if side is host and len(heard) < 1 << 16:
                        heard += piece
                    other[side].sendall(piece)
        if self.cutting.is_set():
            host.close()
            for _ in range(STRANGERS):
                self.stranger()
            self.cuts += 1
            self.cutting.clear()

    def stranger(self):
        """Says again what a host said before, or a part of it, and is gone."""
        guest = self.connect()
        if guest is None:
            return
        with guest:
            first = random.randrange(len(self.said) + 1)
            guest.sendall(random.choice([b"", self.said, self.said[first:], self.said[:first]]))
            time.sleep(random.choice([0, 0.01, 0.05]))
            self.strangers += 1

    def cut(self):
        self.begun += 1
        self.cutting.set()
        until(lambda: not self.cutting.is_set(), LONG, "there is nothing to cut")

    def over(self):
        self.ending.set()
        self.join(LONG)
        for path in [self.ours, self.qemus]:
            path.unlink(missing_ok=True)
        if self.ours.parent.exists():
            self.ours.parent.rmdir()


class Traffic(threading.Thread):
    """Asks again and again, and looks at what it gets."""

    def __init__(self, engine):
        super().__init__(daemon=True)
        self.engine, self.whole, self.broken, self.problem = engine, 0, 0, None
        self.enough = threading.Event()
        self.start()

    def run(self):
        while not self.enough.is_set() and self.problem is None:
            try:
                self.once()
            except (OSError, http.client.HTTPException):
                self.broken += 1

    def over(self):
        self.enough.set()
        self.join(LONG)
        if self.is_alive():
            fail("a call hangs")
        if self.problem:
            fail(self.problem)

    def look(self, got, whole, ended):
        """What broke off is a beginning of the whole, and does not look like an end."""
        if ended and got == whole:
            self.whole += 1
        elif not ended and whole.startswith(got):
            self.broken += 1
        else:
            self.problem = f"{len(got)} bytes of {len(whole)} came, {'as if that were all' if ended else 'and others'}: {got[-200:]}"


class Reading(Traffic):
    def __init__(self, engine, expected):
        self.expected = expected
        super().__init__(engine)

    def once(self):
        try:
            code, got = self.engine.ask("GET", "/containers/numbers/logs?stdout=1")
        except http.client.IncompleteRead as error:
            return self.look(error.partial, self.expected, False)
        if code == 503:
            self.broken += 1
        elif code != 200:
            self.problem = f"{code}: {got}"
        else:
            self.look(got, self.expected, True)


class Echoing(Traffic):
    """The stream of an exec has neither length nor end: on a unix socket one that is broken off is over for the client, which
    then asks for the exit code, and a `cat` whose input ended has one of 0. So as not to hide anything else, that is taken for
    broken off only when the channel was cut meanwhile."""

    def __init__(self, engine, between):
        self.between = between
        super().__init__(engine)

    def once(self):
        sent, before = os.urandom(300_000), self.between.begun
        done = self.engine.docker("exec", "-i", "web", "cat", input=sent, check=False)
        cut = self.between.begun != before and done.stdout != sent
        self.look(done.stdout, sent, done.returncode == 0 and not cut)


def hostile(edges):
    """The guest holds the channel itself: silence, garbage, greetings, frames that are none, streams without end (case 17)"""
    engine = edges.engine()
    supervisor, machine = engine.supervisor(), engine.machine()
    engine.docker("run", "-d", "--name", "other", "box", "sleep", 100000)
    forget_peak(supervisor)
    before = peak(supervisor)
    # Its own answer may be the first that is lost.
    engine.docker("run", "-d", "--name", "hostile", "--privileged", "--pid=host", "box", "hostile", check=False)
    until(lambda: not engine.is_ready(), LONG, "nobody notices")
    said = engine.status()["warnings"]
    until(lambda: said_by(engine).endswith("done") or not lives(machine), LONG, lambda: f"it does not end: {engine.status_text()}")
    if (engine.supervisor(), engine.machine()) != (supervisor, machine):
        fail("the supervisor or its machine is another")
    engine.wait_ready()
    for line in said_by(engine).splitlines():
        edges.ground.say(f"   {line}")
    grown = peak(supervisor) - before
    edges.ground.say(f"   the supervisor said {said}, and its memory grew by at most {grown >> 20} MiB")
    if grown > MEMORY:
        fail("memory is not bounded")
    if engine.said("inspect", "-f", "{{.State.Running}}", "other") != "true":
        fail("a container has ended")
    engine.docker("rm", "-f", "other", "hostile")
    edges.dropped(engine)


def said_by(engine):
    """What it has said, once the engine can be asked."""
    if not engine.is_ready():
        return ""
    return engine.docker("logs", "hostile", check=False).stdout.decode().strip()
