"""Many who follow, and one who brings much."""

import hashlib
import io
import json
import os
import pathlib
import selectors
import socket
import statistics
import tarfile
import threading
import time

from ground import LONG, fail, milliseconds, until

FOLLOWERS = 150
# Emulated, gigabytes would take minutes; it was seen to hold with 300 MiB.
LOADED = 128 << 20
# What the mux may hold with so many streams is 64 MiB and 64 KiB for each, and there are buffers on the way.
MEMORY = 96 << 20


def floods(edges):
    """300 follow logs and events while a large image is loaded: each gets all of it, and memory stays bounded (case 4)"""
    engine = edges.engine()
    talk = "n=0; while [ ! -e /tmp/enough ]; do n=$((n+1)); echo line $n; sleep 1; done; echo the end"
    engine.docker("run", "-d", "-t", "--name", "talker", "box", "sh", "-c", talk)
    supervisor = engine.supervisor()
    forget_peak(supervisor)
    before = peak(supervisor)
    followers = Followers(engine)
    until(lambda: all(followers.logs()), LONG, "not everyone gets the log")
    asked = Asking(engine)
    began = milliseconds()
    answer = load(engine)
    if b"Loaded image: large:latest" not in answer:
        fail(f"the image is not loaded: {answer[-500:]}")
    edges.ground.say(f"   {LOADED >> 20} MiB loaded in {milliseconds() - began} ms; meanwhile a question took {asked.over()}")
    engine.docker("exec", "talker", "touch", "/tmp/enough")
    followers.wait()
    followers.check()
    grown = peak(supervisor) - before
    agent = agents_peak(engine)
    edges.ground.say(f"   the supervisor's memory grew by at most {grown >> 20} MiB, the agent had at most {agent >> 20} MiB")
    if grown > MEMORY or agent > MEMORY:
        fail("memory is not bounded")
    edges.dropped(engine)


class Followers(threading.Thread):
    """Connections that only read, in one thread."""

    def __init__(self, engine):
        super().__init__(daemon=True)
        filters = "%7B%22type%22%3A%7B%22container%22%3Atrue%2C%22image%22%3Atrue%7D%7D"
        # In HTTP/1.0 a body is what comes until the end.
        paths = ["/containers/talker/logs?follow=1&stdout=1", f"/events?filters={filters}"]
        self.got, self.open, self.selector = {}, set(), selectors.DefaultSelector()
        for number in range(2 * FOLLOWERS):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(engine.address))
            connection.sendall(f"GET {paths[number % 2]} HTTP/1.0\r\n\r\n".encode())
            connection.setblocking(False)
            self.got[number] = bytearray()
            self.open.add(number)
            self.selector.register(connection, selectors.EVENT_READ, number)
        self.start()

    def run(self):
        while self.open:
            for key, _ in self.selector.select(1):
                try:
                    piece = key.fileobj.recv(1 << 16)
                except ConnectionError:
                    piece = b""
                self.got[key.data] += piece
                # Events have no end of their own.
                if not piece or key.data % 2 and b'"Action":"die"' in self.got[key.data]:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self.open.discard(key.data)
        self.selector.close()

    def logs(self):
        return [b"line 1\r\n" in got for number, got in self.got.items() if number % 2 == 0]

    def wait(self):
        self.join(LONG)
        if self.open:
            fail(f"{len(self.open)} streams have no end")

    def check(self):
        whole = None
        for number, got in self.got.items():
            head, _, body = bytes(got).partition(b"\r\n\r\n")
            if b" 200 " not in head.splitlines()[0]:
                fail(f"stream {number}: {head}")
            if number % 2:
                if body.count(b'"Action":"load"') != 1 or body.count(b'"Action":"die"') != 1:
                    fail(f"events are missing: {body}")
                continue
            whole = whole or [f"line {count}" for count in range(1, body.count(b"\n"))] + ["the end"]
            if body.decode().splitlines() != whole:
                fail(f"a log is not what was written: {body}")


class Asking(threading.Thread):
    """Somebody who asks over the control stream, again and again."""

    def __init__(self, engine):
        super().__init__(daemon=True)
        self.engine, self.took, self.enough = engine, [], threading.Event()
        self.start()

    def run(self):
        while not self.enough.wait(0.5):
            began = time.monotonic()
            self.engine.run("metrics")
            self.took.append(int((time.monotonic() - began) * 1000))

    def over(self):
        self.enough.set()
        self.join(LONG)
        if self.is_alive() or not self.took:
            fail("a question is not answered")
        return f"{min(self.took)}, {statistics.median(self.took):.0f}, {max(self.took)} ms (least, median, most of {len(self.took)})"


def load(engine):
    """An image of one large file, as `docker load` sends it."""
    block = os.urandom(1 << 20)
    header = tarfile.TarInfo("large")
    header.size = LOADED
    end = bytes(1024)
    pieces = [header.tobuf(), *[number.to_bytes(8, "big") + block[8:] for number in range(LOADED >> 20)], end]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]}}
    manifest = [{"Config": "config.json", "RepoTags": ["large:latest"], "Layers": ["layer.tar"]}]
    files = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    first = io.BytesIO()
    with tarfile.open(fileobj=first, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        beginning = first.getvalue()[:tar.offset]
    layer = tarfile.TarInfo("layer.tar")
    layer.size = sum(map(len, pieces))
    pieces = [beginning, layer.tobuf(), *pieces, bytes(-layer.size % 512), end]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LONG)
        connection.connect(str(engine.address))
        length = sum(map(len, pieces))
        connection.sendall(f"POST /images/load?quiet=1 HTTP/1.0\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n".encode())
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def forget_peak(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid):
    """The most memory a process has had."""
    return peak_of(pathlib.Path(f"/proc/{pid}/status").read_text())


def peak_of(text):
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmHWM"))


def agents_peak(engine):
    find = 'for p in /proc/[0-9]*; do case "$(tr "\\0" " " <$p/cmdline)" in "/run/berth/berth-guest agent "*) cat $p/status; esac; done'
    return peak_of(engine.said("run", "--rm", "--privileged", "--pid=host", "box", "sh", "-c", find))
