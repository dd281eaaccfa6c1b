"""No room left: on the host's disk, and on the machine's."""

import hashlib
import os
import subprocess

from ground import LONG, fail, until

MIB = 1 << 20
# More than what Berth waits for, which is 256 MiB.
SIZE = 512 * MIB
# What is left when the machine begins to write, and what it writes.
LEFT = 24 * MIB
WRITTEN = 64 * MIB


class Small:
    """A file system of its own, which is gone afterwards."""

    def __init__(self, path, options):
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "edges", path], check=True)

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)
        self.path.rmdir()


def host_full(edges):
    """The host's disk is full while containers write: the machine waits, says so, goes on, and nothing is lost (case 10)"""
    with Small(edges.ground.work / "small", f"size={SIZE}") as folder:
        engine = edges.ground.engine("small/engine", **edges.snapshot.sizes)
        try:
            edges.snapshot.lay(engine)
            edges.snapshot.begin(engine)
            fill_host(edges, engine, folder)
        finally:
            engine.run("stop", check=False)
        engine.nothing_left()
        edges.forget(engine)


def fill_host(edges, engine, folder):
    reported = engine.open("run", "--name", "writer", "-v", "files:/files", "box", "writer", "write", 1)
    reported.stdout.readline()
    ballast = folder / "ballast"
    with open(ballast, "wb") as file:
        room = os.statvfs(folder)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize - LEFT)
    content = edges.ground.work / "content"
    content.write_bytes(os.urandom(WRITTEN))
    with open(content, "rb") as file:
        eater = engine.open("run", "--rm", "-i", "-v", "files:/files", "box", "sh", "-c", "cat >/files/eaten && sync && echo written",
                            stdin=file)
    full = until(lambda: [word for word in engine.status()["warnings"] if "is full" in word], LONG, "nobody says that it is full")
    edges.ground.say(f"   it says: {full[0]}")
    ballast.unlink()
    engine.wait_ready()
    if eater.stdout.read() != b"written\n" or eater.wait(LONG):
        fail("what was written while it was full failed")
    engine.docker("kill", "writer")
    last = int(reported.stdout.read().split()[-1])
    reported.wait(LONG)
    said = engine.said("run", "--rm", "-i", "-v", "files:/files", "box", "writer", "check", input=f"1 {last}\n".encode())
    if said != "checked":
        fail(f"files of {last} that were reported are lost: {said}")
    digest = engine.said("run", "--rm", "-v", "files:/files", "box", "sha256sum", "/files/eaten").split()[0]
    if digest != hashlib.sha256(content.read_bytes()).hexdigest():
        fail("what was written while it was full is something else")
    edges.ground.say(f"   {last} files and {WRITTEN // MIB} MiB are whole")


def disk_full(edges):
    """The machine's own disk is full: dockerd lives and says so, what is removed makes room (case 10)"""
    engine = edges.engine()
    engine.docker("run", "-d", "--name", "other", "box", "sleep", 100000)
    # Room that is taken without being written, and the rest, also what is kept for root, in zeros.
    fill = ("n=0; for size in 1073741824 268435456 67108864 16777216 4194304; do "
            "while fallocate -l $size /files/$((n += 1)) 2>/dev/null; do :; done; done; cat /dev/zero >/files/rest; df /files")
    said = engine.said("run", "--rm", "--privileged", "-v", "files:/files", "box", "sh", "-c", fill, check=False)
    edges.ground.say(f"   {' '.join(said.split()[-6:])}")
    wrong = engine.docker("run", "--rm", "-v", "more:/files", "box", "dd", "if=/dev/zero", "of=/files/x", "bs=1M", "count=1", check=False)
    with open(edges.tar, "rb") as tar:
        refused = engine.docker("import", "-", "more", stdin=tar, check=False)
    for done in [wrong, refused]:
        if done.returncode == 0 or b"no space left" not in done.stderr.lower():
            fail(f"a full disk is not told: {done}")
    if not engine.answers(LONG) or engine.said("inspect", "-f", "{{.State.Running}}", "other") != "true":
        fail("the engine or a container did not live through a full disk")
    dockerd = engine.said("info", "-f", "{{.ContainersRunning}}")
    edges.ground.say(f"   it says: {refused.stderr.decode().strip()[-120:]}; {dockerd} container runs on")
    engine.docker("volume", "prune", "-af")
    with open(edges.tar, "rb") as tar:
        engine.docker("import", "-", "more", stdin=tar)
    engine.docker("run", "--rm", "-v", "files:/files", "more", "sh", "-c", "echo well >/files/x && sync")
    engine.docker("rm", "-f", "other")
    engine.wait_ready()
    edges.dropped(engine)
