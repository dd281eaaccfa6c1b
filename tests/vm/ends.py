"""Ends that are not the engine's: the machine's kernel gives up, the disk is damaged."""

import hashlib
import os

from ground import LONG, fail, until


def panic(edges):
    """The machine's kernel gives up: it is told with the console's last words, and the machine starts again (case 6)"""
    engine = edges.engine()
    machine, supervisor = engine.machine(), engine.supervisor()
    engine.docker("run", "-d", "--restart", "always", "--name", "stays", "box", "sleep", 100000)
    engine.docker("run", "--rm", "--privileged", "box", "sh", "-c", "echo c >/proc/sysrq-trigger", check=False)
    told = until(lambda: [word for word in engine.status()["warnings"] if "kernel gave up" in word], LONG, "nobody says it")
    edges.ground.say(f"   it says: {told[0]}")
    if "panic" not in told[0]:
        fail("not with the kernel's words")
    engine.wait_ready()
    if engine.machine() == machine or engine.supervisor() != supervisor:
        fail("the machine is the same, or the supervisor another")
    until(lambda: engine.said("inspect", "-f", "{{.State.Running}}", "stays") == "true", LONG, "a container does not come back")
    engine.docker("rm", "-f", "stays")
    edges.over(engine)


def damaged(edges):
    """The data disk's first blocks are damaged: it is told with what to do, and nothing is changed (case 9)"""
    engine = edges.ground.engine("damaged", **edges.snapshot.sizes)
    edges.snapshot.lay(engine)
    (engine.data / "plan/state").unlink()
    disk = engine.data / "vm/data.raw"
    with open(disk, "r+b") as file:
        file.seek(1024)
        file.write(os.urandom(1024))
    before = digest(disk)
    done = engine.start(check=False)
    said = done.stdout + done.stderr
    if done.returncode == 0 or "damaged" not in said or "nothing was changed on it" not in said:
        fail(f"it is not told: {said}")
    status = engine.status()
    if status["state"] != "failed" or status["error"]["stage"] != "disk":
        fail(f"the status: {status}")
    edges.ground.say(f"   it says: {status['error']['cause']}; {status['error']['fix']}")
    engine.nothing_left()
    if digest(disk) != before:
        fail("the disk was changed")
    edges.over(engine)


def digest(disk):
    """Of what is on it: it is mostly holes."""
    total = hashlib.sha256()
    with open(disk, "rb") as file:
        at, end = 0, file.seek(0, os.SEEK_END)
        while at < end:
            try:
                first = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), first, os.SEEK_HOLE)
            total.update(f"{first}-{at}".encode())
            total.update(os.pread(file.fileno(), at - first, first))
    return total.hexdigest()
