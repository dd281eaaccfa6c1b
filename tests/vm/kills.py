#!/usr/bin/env python3
"""Kills of what an engine consists of, at random moments, while files are written and images are made: what was reported
as written must be there, every image that was reported as made must be whole, and the engine must come back.

    tests/vm/kills.py [folder of berth and berth-guest] [--rounds 50] [--backend qemu|native] [--seed N]

Needs a built appliance (BERTH_APPLIANCE), root, `docker`, rustc, a static busybox, and for `qemu` QEMU.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tarfile
import threading

from ground import LONG, Failed, Ground, children, fail, lives, milliseconds, processes, until

KINDS = {"qemu": ["supervisor", "qemu", "dockerd"], "native": ["supervisor", "guest", "dockerd"]}
# After what a round's workload has begun, at most.
LATEST = {"qemu": 4000, "native": 1500}
# Of the rounds before, whose files are read again in each.
LOOK_BACK = 3


class Writer:
    """A container that writes, and what it reported as being on the disk."""

    def __init__(self, engine, number):
        self.last = 0
        # Also into the container's own file system.
        self.process = engine.open("run", "--name", f"writer-{number}", "-v", "files:/files", "box", "writer", "write", number)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self.last = int(line)


class Maker(threading.Thread):
    """Makes images until it is told to stop, and remembers what each must hold."""

    def __init__(self, engine, number, seed, made):
        super().__init__(daemon=True)
        self.engine, self.number, self.random, self.made = engine, number, random.Random(seed), made
        self.over = threading.Event()

    def run(self):
        count = 0
        while not self.over.is_set():
            count += 1
            payload = self.random.randbytes(self.random.choice([1, 4096, 200_000, 1_500_000]))
            name = f"made-{self.number}-{count}"
            done = self.build(payload, name) if count % 2 else self.imported(payload, name)
            if done is not None and done.returncode == 0:
                self.made[name] = hashlib.sha256(payload).hexdigest()

    def imported(self, payload, name):
        return self.try_docker(archive({"payload": payload}), "import", "-", name)

    def build(self, payload, name):
        context = {"Dockerfile": b"FROM box\nCOPY payload /payload\n", "payload": payload}
        return self.try_docker(archive(context), "build", "-q", "-t", name, "-")

    def try_docker(self, text, *arguments):
        try:
            return self.engine.docker(*arguments, check=False, input=text, timeout=120)
        except subprocess.TimeoutExpired:
            fail(f"docker {arguments} hangs")


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def payload_of(saved):
    """The payload in the last layer of a saved image, with every layer read and compared with its digest."""
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))[0]
        config = json.load(tar.extractfile(manifest["Config"]))
        found = None
        for layer, digest in zip(manifest["Layers"], config["rootfs"]["diff_ids"], strict=True):
            content = tar.extractfile(layer).read()
            if hashlib.sha256(content).hexdigest() != digest.removeprefix("sha256:"):
                fail(f"a layer of {len(content)} bytes is not what its digest says")
            with tarfile.open(fileobj=io.BytesIO(content)) as inner:
                if "payload" in inner.getnames():
                    found = inner.extractfile("payload").read()
        return found


class Kills:
    def __init__(self, ground, options):
        self.ground, self.options = ground, options
        self.random = random.Random(options.seed)
        self.engine = ground.engine("one", backend=options.backend, **({"memory": 2048, "cpus": 2, "disk": 8} if options.backend == "qemu" else {}))
        self.acknowledged, self.made, self.verified, self.recovered = {}, {}, set(), {}
        self.lost, self.broken = [], []

    def run(self):
        self.engine.start()
        self.engine.load_image(self.ground.image())
        self.engine.docker("volume", "create", "files")
        kinds = KINDS[self.options.backend]
        for number in range(1, self.options.rounds + 1):
            self.round(number, kinds[(number - 1) % len(kinds)])
        self.ground.say("every file and every image once more, after a clean stop and start")
        self.engine.stop()
        self.engine.nothing_left()
        self.engine.start()
        self.verified.clear()
        self.check_files(self.acknowledged)
        self.check_images()
        self.check_listed()
        self.engine.stop()
        self.engine.nothing_left()
        self.summary()
        if self.lost or self.broken:
            fail(f"lost files: {self.lost[:20]}; broken images: {self.broken[:20]}")

    def round(self, number, kind):
        engine = self.engine
        killer = None
        if kind == "dockerd":
            command = "echo there; read -r now; kill -9 $(pidof dockerd)"
            killer = engine.open("run", "--rm", "-i", "--privileged", "--pid=host", "box", "sh", "-c", command, stdin=subprocess.PIPE)
            if killer.stdout.readline() != b"there\n":
                fail("the container that kills dockerd does not start")
        writer = Writer(engine, number)
        makers = [Maker(engine, f"{number}-{which}", self.random.random(), self.made) for which in "ab"]
        for maker in makers:
            maker.start()
        until(lambda: writer.last, LONG, "the writer writes nothing")
        delay = self.random.randrange(LATEST[self.options.backend])
        threading.Event().wait(delay / 1000)
        old = engine.own()
        began = milliseconds()
        self.kill(kind, killer)
        for maker in makers:
            maker.over.set()
        if kind == "supervisor":
            engine.start()
        until(lambda: engine.answers(30), LONG, lambda: f"it does not answer again: {engine.status_text()}")
        answered = milliseconds() - began
        engine.wait_ready()
        ready = milliseconds() - began
        for maker in makers:
            maker.join(LONG)
            if maker.is_alive():
                fail("a docker call hangs")
        self.no_leftovers(kind, old)
        engine.docker("rm", "-f", *engine.said("ps", "-aq").split(), check=False)
        if left := engine.said("ps", "-aq"):
            fail(f"containers that cannot be removed: {left}")
        writer.process.wait(LONG)
        writer.thread.join(LONG)
        self.acknowledged[number] = writer.last
        self.recovered.setdefault(kind, []).append(answered)
        lost = self.check_files({which: last for which, last in self.acknowledged.items() if which > number - LOOK_BACK})
        made = len(self.made)
        broken = self.check_images()
        words = f"{number:3} {kind:10} killed after {delay:4} ms; answers after {answered:6} ms, ready after {ready:6} ms;"
        print(f"{words} files {writer.last:4}, images {made:3}; lost {lost}, broken {broken}", flush=True)

    def kill(self, kind, killer):
        engine = self.engine
        if kind == "dockerd":
            killer.stdin.write(b"now\n")
            killer.stdin.flush()
            # Its connection breaks with dockerd.
            killer.wait(LONG)
            return
        victim = last = engine.machine() if kind == "qemu" else engine.supervisor()
        if kind == "guest":
            # PID 1 of the namespaces, and the process outside, which ends once nothing in them lives.
            last = next(pid for pid in children(victim) if b"native" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
            victim = children(last)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: not lives(last), 30, f"{kind} does not die", pause=0.005)

    def no_leftovers(self, kind, old):
        """One supervisor, one machine, and nothing of those before."""
        engine = self.engine
        supervisors = [pid for pid, line in engine.own().items() if " engine run" in line]
        if supervisors != [engine.supervisor()]:
            fail(f"supervisors: {supervisors}")
        if self.options.backend == "qemu":
            machines = processes(f"{engine.data}/vm/data.raw")
            if len(machines) != 1:
                fail(f"machines: {machines}")
        stays = {"supervisor": [], "qemu": supervisors, "guest": supervisors, "dockerd": list(old)}[kind]
        present = engine.own()
        left = [line for pid, line in old.items() if pid not in stays and present.get(pid) == line]
        if left:
            fail(f"processes of before the kill are left: {left}")
        names = {path.name for path in engine.address.parent.iterdir() if not path.name.startswith("share-")}
        if surplus := names - {"docker.sock", "watch.sock", "control.sock", "agent.sock", "guest"}:
            fail(f"left in the runtime folder: {surplus}")

    def check_files(self, rounds):
        text = "".join(f"{which} {last}\n" for which, last in rounds.items())
        said = self.engine.said("run", "--rm", "-i", "-v", "files:/files", "box", "writer", "check", input=text.encode()).splitlines()
        if not said or said[-1] != "checked":
            fail(f"the files cannot be checked: {said}")
        lost = [line for line in said[:-1] if line not in self.lost]
        self.lost += lost
        return len(lost)

    def check_images(self):
        broken = 0
        for name in [name for name in self.made if name not in self.verified]:
            self.verified.add(name)
            if why := self.broken_image(name, self.made[name]):
                broken += 1
                self.broken.append(f"{name}: {why}")
        return broken

    def broken_image(self, name, digest):
        saved = self.engine.docker("save", name, check=False)
        if saved.returncode:
            return saved.stderr.decode().strip()
        try:
            payload = payload_of(saved.stdout)
        except (Failed, tarfile.TarError, KeyError, ValueError) as error:
            return str(error)
        if payload is None or hashlib.sha256(payload).hexdigest() != digest:
            return f"its payload is {'missing' if payload is None else f'{len(payload)} other bytes'}"
        return None

    def check_listed(self):
        """Images nobody was told of, because the engine died while they were made, are whole too or not there."""
        listed = set(self.engine.said("images", "-q", "--no-trunc").split())
        for image in listed:
            saved = self.engine.docker("save", image, check=False)
            try:
                if saved.returncode:
                    fail(saved.stderr.decode().strip())
                payload_of(saved.stdout)
            except (Failed, tarfile.TarError, KeyError, ValueError) as error:
                self.broken.append(f"{image}, which is listed: {error}")

    def summary(self):
        print(f"files acknowledged {sum(self.acknowledged.values())}, lost {len(self.lost)}; "
              f"images reported {len(self.made)}, broken {len(self.broken)}; load {os.getloadavg()[0]:.1f}")
        print(f"{'killed':10} {'times':>5} {'min ms':>7} {'median':>7} {'max':>7}")
        for kind, times in self.recovered.items():
            print(f"{kind:10} {len(times):5} {min(times):7} {statistics.median(times):7.0f} {max(times):7}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path(__file__).resolve().parents[2] / "target/debug"
    arguments.add_argument("programs", nargs="?", default=default)
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--backend", choices=KINDS, default="qemu")
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = arguments.parse_args()
    print(f"-- {options.rounds} kills, {options.backend}, seed {options.seed}, load {os.getloadavg()[0]:.1f}", flush=True)
    try:
        with Ground(options.programs, "kills") as ground:
            Kills(ground, options).run()
    except Failed:
        # It was said, with the logs.
        sys.exit(1)


if __name__ == "__main__":
    main()
