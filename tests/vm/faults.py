#!/usr/bin/env python3
"""The edge cases of an engine in a machine that `machine.sh` does not have: crowds, damaged and full disks, sleep, wrong
clocks, hasty starts and stops, strange folders.

    tests/vm/faults.py [folder of berth] [step …]

Needs a built appliance (BERTH_APPLIANCE), root, `docker`, rustc, a static busybox, QEMU and e2fsprogs. A step is named by
its function; without names, all are taken.
"""

import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from ground import LONG, Failed, Ground, end, fail, lives, milliseconds, processes, until

SIZES = {"memory": 2048, "cpus": 2, "disk": 4}
CROWD = 200
SHORT_LIVES = 2000
RESTARTS = 50
# The supervisor's own memory with a crowd at its socket.
RSS_LIMIT = 200 << 20


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) << 10


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def hello(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read() == b"hello\n"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Faults:
    def __init__(self, ground):
        self.ground = ground
        self.one = ground.engine("one", **SIZES)

    def run(self, wanted):
        steps = [self.one_starts, self.crowd, self.processes_end, self.restarts_leak_no_port, self.dockerd_dies_with_a_port,
                 self.host_sleeps, self.clock_is_set_wrong, self.guest_disk_is_full, self.two_supervisors, self.one_stops,
                 self.hasty, self.damaged_superblock, self.destroyed_superblocks, self.strange_folders, self.host_disk_is_full]
        always = [self.one_starts, self.one_stops]
        for step in steps:
            if not wanted or step.__name__ in wanted or step in always:
                self.ground.say(step.__name__.replace("_", " "))
                step()
        self.ground.say("done")

    def one_starts(self):
        self.one.start()
        self.tar = self.ground.image()
        self.one.load_image(self.tar)

    def crowd(self):
        """Hundreds follow, one loads much: all get everything, and who asks is answered."""
        one = self.one
        supervisor = one.supervisor()
        one.docker("run", "-d", "--name", "talks", "box", "sh", "-c",
                   "until [ -e /tmp/go ]; do sleep 0.2; done; i=0; while [ $i -lt 500 ]; do i=$((i + 1)); echo line $i; done")
        big = self.ground.work / "big.tar"
        payload = self.ground.work / "payload"
        payload.write_bytes(os.urandom(96 << 20))
        subprocess.run(["tar", "-C", self.ground.work, "-cf", big, "payload"], check=True)
        before = rss(supervisor)
        whole, threads = [], []

        def follow():
            # Frames of 8 bytes of head and a line each.
            status, body = one.ask("GET", "/v1.43/containers/talks/logs?follow=1&stdout=1")
            if status == 200 and body.count(b"\n") == 500 and body.endswith(b"line 500\n"):
                whole.append(1)

        for _ in range(CROWD):
            threads.append(threading.Thread(target=follow, daemon=True))
            threads[-1].start()
        events = [one.open("events") for _ in range(5)]
        with open(big, "rb") as file:
            loading = one.open("import", "-", "big", stdin=file)
        one.docker("exec", "talks", "sh", "-c", "echo >/tmp/go")
        slowest = highest = 0
        while loading.poll() is None or any(thread.is_alive() for thread in threads):
            began = milliseconds()
            if one.status()["state"] != "ready":
                fail(f"it is not ready in a crowd: {one.status_text()}")
            slowest = max(slowest, milliseconds() - began)
            highest = max(highest, rss(supervisor))
            if milliseconds() - self.ground.began > 2 * LONG * 1000:
                fail(f"{len(whole)} of {CROWD} are through")
            time.sleep(0.2)
        for process in events:
            process.kill()
            process.wait()
        print(f"   {len(whole)} logs whole; `status` at most {slowest} ms; supervisor {before >> 20} MiB, at most {highest >> 20} MiB", flush=True)
        if loading.returncode or len(whole) != CROWD:
            fail(f"the load ended with {loading.returncode}, {len(whole)} of {CROWD} logs are whole")
        if highest > RSS_LIMIT:
            fail(f"the supervisor takes {highest >> 20} MiB")
        one.docker("rm", "-f", "talks")
        one.docker("rmi", "big")

    def processes_end(self):
        """Short lives and orphans leave no zombies."""
        one = self.one
        script = (f"i=0; while [ $i -lt {SHORT_LIVES} ]; do i=$((i + 1)); true & done; wait; "
                  "i=0; while [ $i -lt 50 ]; do i=$((i + 1)); sh -c '(sleep 0.1 &)'; done; sleep 1")
        one.docker("run", "--rm", "box", "sh", "-c", script)
        one.docker("run", "--rm", "--pid=host", "box", "sh", "-c", "i=0; while [ $i -lt 20 ]; do i=$((i + 1)); sh -c '(sleep 0.1 &)'; done")
        count = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"
        zombies = lambda: one.said("run", "--rm", "--pid=host", "box", "sh", "-c", count) == "0"
        until(zombies, 30, "there are zombies in the guest")

    def restarts_leak_no_port(self):
        one = self.one
        supervisor = one.supervisor()
        port = free_port()
        one.docker("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
        until(lambda: hello(port), 60, "the port does not answer")
        files = len(os.listdir(f"/proc/{supervisor}/fd"))
        for _ in range(RESTARTS):
            one.docker("restart", "-t", "0", "web")
        until(lambda: hello(port), 60, "the port does not answer after restarts")
        until(lambda: len(os.listdir(f"/proc/{supervisor}/fd")) <= files + 4, 30,
              lambda: f"files of the supervisor: {files} before, {len(os.listdir(f'/proc/{supervisor}/fd'))} after")
        # From the moment that docker says it is removed.
        one.docker("rm", "-f", "web")
        began = time.monotonic()
        until(lambda: not listens(port), 30, "the port stays open", pause=0.001)
        print(f"   the port is free {1000 * (time.monotonic() - began):.0f} ms after `rm -f` ended", flush=True)

    def inside(self, command):
        """What only root of the guest can do."""
        return self.one.docker("run", "--rm", "--privileged", "--pid=host", "box", "sh", "-c", command, check=False)

    def dockerd_dies_with_a_port(self):
        """Ports of a container that has just begun are right after dockerd, and after the agent, was killed."""
        one = self.one
        for victim in ["kill -9 $(pidof dockerd)", "kill -9 $(pidof berth-guest | tr ' ' '\\n' | busybox grep -vx 1)"]:
            port, name = free_port(), "ghost"
            killer = one.open("run", "--rm", "-i", "--privileged", "--pid=host", "box", "sh", "-c", f"echo there; read -r now; {victim}", stdin=subprocess.PIPE)
            killer.stdout.readline()
            begins = one.open("run", "-d", "--restart", "always", "--name", name, "-p", f"127.0.0.1:{port}:80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
            until(lambda: begins.poll() is not None or listens(port), LONG, "the port is never published", pause=0.005)
            killer.stdin.write(b"now\n")
            killer.stdin.flush()
            killer.wait(LONG)
            begins.wait(LONG)
            until(lambda: one.answers(30), LONG, "no answer")
            one.wait_ready()
            running = one.said("inspect", "-f", "{{.State.Running}}", name, check=False) == "true"
            if running:
                until(lambda: hello(port), 60, "the container runs and its port does not answer")
            one.docker("rm", "-f", name, check=False)
            until(lambda: not listens(port), 10, "a ghost of a port")
            # And it can be had again.
            one.docker("run", "-d", "--name", name, "-p", f"127.0.0.1:{port}:80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
            until(lambda: hello(port), 60, "the port does not answer")
            one.docker("rm", "-f", name)

    def drift(self):
        began = time.time()
        guest = int(self.one.said("run", "--rm", "box", "date", "+%s"))
        return 0 if began - 1 <= guest <= time.time() + 1 else guest - began

    def host_sleeps(self):
        """The machine stands still for a while: time, sockets and ports are as before."""
        one = self.one
        port = free_port()
        one.docker("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
        cat = one.open("run", "-i", "--rm", "box", "cat", stdin=subprocess.PIPE)
        cat.stdin.write(b"before\n")
        cat.stdin.flush()
        if cat.stdout.readline() != b"before\n":
            fail("cat")
        machine = one.machine()
        os.kill(machine, signal.SIGSTOP)
        time.sleep(12)
        os.kill(machine, signal.SIGCONT)
        began = milliseconds()
        until(lambda: one.answers(30), 60, "no answer after sleep")
        cat.stdin.write(b"after\n")
        cat.stdin.close()
        if cat.stdout.read() != b"after\n" or cat.wait(LONG):
            fail("a connection did not survive the sleep")
        until(lambda: hello(port), 60, "the port did not survive the sleep")
        until(lambda: self.drift() == 0, 60, lambda: f"the clock is wrong by {self.drift()} s")
        print(f"   all is as before {milliseconds() - began} ms after it went on", flush=True)
        one.docker("rm", "-f", "web")
        one.wait_ready()

    def clock_is_set_wrong(self):
        for wrong in ["2001-01-01 00:00", "2037-01-01 00:00"]:
            self.inside(f"date -s '{wrong}'")
            began = milliseconds()
            until(lambda: self.drift() == 0, 60, lambda: f"the clock is wrong by {self.drift()} s")
            print(f"   right again at most {milliseconds() - began} ms after {wrong}", flush=True)
        until(lambda: self.one.answers(30), 60, "no answer")
        self.one.wait_ready()

    def guest_disk_is_full(self):
        one = self.one
        fill = one.docker("run", "--name", "fills", "-v", "full:/files", "box", "sh", "-c", "dd if=/dev/zero of=/files/all bs=1M; dd if=/dev/zero of=/files/rest bs=4k; sync", check=False)
        if b"No space left" not in fill.stderr:
            fail(f"the disk is not full: {fill.stderr.decode()}")
        if not one.answers(60):
            fail("it does not answer with a full disk")
        refused = one.docker("run", "-i", "--name", "more", "box", "sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=10", check=False)
        if not refused.returncode:
            fail("there is room on a full disk")
        one.docker("rm", "-f", "fills", "more", check=False)
        one.docker("volume", "rm", "full")
        one.docker("system", "prune", "-f")
        if one.said("run", "--rm", "box", "sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=100 2>/dev/null; wc -c </tmp/x") != str(100 << 20):
            fail("there is no room after the disk was emptied")
        one.wait_ready()

    def two_supervisors(self):
        one = self.one
        second = one.run("run", check=False)
        if second.returncode != 1 or str(one.supervisor()) not in second.stderr:
            fail(f"a second supervisor: {second.returncode} {second.stdout}{second.stderr}")
        if not one.answers(30):
            fail("a second supervisor disturbs the first")

    def one_stops(self):
        self.one.stop()
        self.one.nothing_left()

    def hasty(self):
        """Start and stop pressed within a second, a stop in the middle of a start, SIGTERM likewise."""
        one = self.one
        for pauses in [(0.2, 0.2, 0.2), (0.0, 0.0, 0.0), (3.0, 0.0, 0.1)]:
            pressed = []
            for what, pause in zip(["start", "stop", "start", "stop"], [0.0, *pauses]):
                time.sleep(pause)
                command = [self.ground.berth, "engine", what, "--data", one.data, *(one.sizes if what == "start" else [])]
                pressed.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            for process in pressed:
                process.wait(LONG)
            if pressed[-1].returncode:
                fail(f"the last stop ended with {pressed[-1].returncode}")
            # A start that came after the last stop was heard may have won.
            one.stop()
            if one.status()["state"] != "stopped":
                fail(f"it is not stopped: {one.status_text()}")
            one.nothing_left()
        for pause in [0.3, 3.0]:
            starting = subprocess.Popen([self.ground.berth, "engine", "start", "--data", one.data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            supervisor = until(one.supervisor, 30, "no supervisor", pause=0.01)
            time.sleep(pause)
            os.kill(supervisor, signal.SIGTERM)
            starting.wait(LONG)
            until(lambda: not lives(supervisor), LONG, "SIGTERM does not end it")
            one.nothing_left()

    def copy(self, name):
        """Another engine with the first one's disk."""
        other = self.ground.engine(name, **SIZES)
        (other.data / "vm").mkdir(mode=0o700, parents=True)
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.one.data / "vm/data.raw", other.data / "vm/data.raw"], check=True)
        return other

    def damaged_superblock(self):
        """What e2fsck repairs alone it does; what not is said and left."""
        other = self.copy("damaged")
        with open(other.data / "vm/data.raw", "r+b") as disk:
            # The count of free blocks, and the checksum: label and magic number stay.
            disk.seek(1024 + 0x0C)
            disk.write(b"\xff\xff\xff\x7f")
            disk.seek(1024 + 0x3FC)
            disk.write(b"\0\0\0\0")
        started = other.start(check=False)
        if started.returncode:
            words = started.stdout + started.stderr
            if "damaged" not in words or "fix" not in words:
                fail(f"a damaged superblock is not told: {words}")
            print("   told, not repaired: " + re.search(r"(?<=: ).*damaged.*", words)[0], flush=True)
        else:
            print("   repaired", flush=True)
            other.docker("image", "inspect", "box")
        other.stop()
        other.nothing_left()

    def destroyed_superblocks(self):
        """Never made anew: every byte stays."""
        other = self.copy("destroyed")
        with open(other.data / "vm/data.raw", "r+b") as disk:
            disk.seek(1024)
            disk.write(os.urandom(1024))
            disk.seek(0)
            before = disk.read(4 << 20)
        started = other.start(check=False)
        words = started.stdout + started.stderr
        if not started.returncode or "no ext4 file system" not in words or "nothing was changed" not in words:
            fail(f"a destroyed disk: {words}")
        other.stop()
        other.nothing_left()
        with open(other.data / "vm/data.raw", "rb") as disk:
            if disk.read(4 << 20) != before:
                fail("a destroyed disk was changed")

    def strange_folders(self):
        """A name of any kind is a folder; what is none is said."""
        strange = self.ground.engine("möbel & 家, \"x\" = 1;\n$(id)", **SIZES)
        strange.start()
        if not strange.answers(30):
            fail("a strange name")
        strange.stop()
        strange.nothing_left()
        long = self.ground.engine("/".join(["long" * 20] * 8), **SIZES)
        stopping = subprocess.Popen([self.ground.berth, "engine", "start", "--data", long.data, *long.sizes], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        until(lambda: stopping.poll() is not None or long.machine(), 60, "a long path does nothing")
        if stopping.poll() is not None:
            fail(f"a long path: {stopping.stderr.read()}")
        long.stop()
        stopping.wait(LONG)
        long.nothing_left()
        (self.ground.work / "file").write_text("")
        file = self.ground.engine("file", **SIZES)
        self.refused(file, "file", "directory")
        below = self.ground.engine("file/below", **SIZES)
        self.refused(below, "file/below", "directory")
        mount = self.ground.work / "readonly"
        mount.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "berth-test", mount], check=True)
        try:
            self.refused(self.ground.engine("readonly", **SIZES), "readonly", "read-only")
        finally:
            subprocess.run(["umount", mount], check=True)

    def refused(self, engine, *words):
        started = engine.start(check=False, timeout=60)
        self.ground.engines.remove(engine)
        text = started.stdout + started.stderr
        if started.returncode != 1 or not all(word in text.lower() for word in words) or "panic" in text:
            fail(f"{engine.data}: {started.returncode}: {text}")

    def host_disk_is_full(self):
        """Paused, said, and going on with nothing lost."""
        mount = self.ground.work / "small"
        mount.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "berth-test", mount], check=True)
        small = self.ground.engine("small/data", **SIZES)
        try:
            small.start()
            small.load_image(self.tar)
            ballast = mount / "ballast"
            with open(ballast, "wb") as file:
                free = os.statvfs(mount)
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - (64 << 20))
            writes = small.open("run", "--name", "writes", "box", "sh", "-c", "dd if=/dev/urandom of=/tmp/x bs=1M count=150 conv=fsync 2>/dev/null && echo written && sha256sum /tmp/x || busybox sha256sum /tmp/x")
            until(lambda: any("full" in warning for warning in small.status()["warnings"]), LONG, lambda: f"a full disk is not told: {small.status_text()}")
            print("   told: " + small.status()["warnings"][0].replace(str(self.ground.work), ""), flush=True)
            ballast.unlink()
            began = milliseconds()
            out = writes.communicate(timeout=LONG)[0].decode().split()
            print(f"   the write is done {milliseconds() - began} ms after there was room", flush=True)
            if writes.returncode or not out or out[0] != "written":
                fail(f"the write failed: {out}")
            small.wait_ready()
            small.docker("rm", "-f", "writes")
            small.stop()
            small.nothing_left()
        finally:
            small.run("stop", check=False)
            subprocess.run(["umount", mount], check=True)


def main():
    words = sys.argv[1:]
    programs = words.pop(0) if words else pathlib.Path(__file__).resolve().parents[2] / "target/debug"
    try:
        with Ground(programs, "faults") as ground:
            Faults(ground).run(words)
    except Failed:
        sys.exit(1)
    left = [path for path in pathlib.Path("/tmp").glob("berth-faults-*") if path == ground.work]
    if left or str(ground.work) in pathlib.Path("/proc/mounts").read_text() or processes(str(ground.work)):
        print(f"FAIL: left: {left} {processes(str(ground.work))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
