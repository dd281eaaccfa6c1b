"""Everything at the wrong moment: ports that come and go while something dies, and a start that is stopped."""

import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

from ground import LONG, fail, lives, milliseconds, until
from hostile import reached

LISTENS = "0A"


def ports(edges):
    """Ports are published and given up while the agent, dockerd or the engine goes: none is left over, none missing (case 14)"""
    engine = edges.engine()
    run(engine, "steady")
    for what in ["agent", "dockerd", "engine"]:
        run(engine, "leaving")
        names = [f"{what}-{number}" for number in range(3)]
        comers = [threading.Thread(target=run, args=(engine, name), kwargs={"check": False}) for name in names]
        for comer in comers:
            comer.start()
            time.sleep(random.random() / 2)
        leaving = threading.Thread(target=engine.docker, args=("rm", "-f", "leaving"), kwargs={"check": False})
        leaving.start()
        hit(engine, what)
        for thread in [*comers, leaving]:
            thread.join(LONG)
        engine.wait_ready()
        began = milliseconds()
        until(lambda: published(engine) == listening(engine), LONG, lambda: f"published {published(engine)}, open {listening(engine)}")
        present = published(engine)
        for host, port in present:
            until(lambda: reached(f"{host}:{port}"), LONG, f"{port} leads nowhere after {what} went")
        edges.ground.say(f"   {what}: {len(present)} ports, as they should be {milliseconds() - began} ms after it was ready")
        engine.docker("rm", "-f", *names, "leaving", check=False)
        until(lambda: len(listening(engine)) == 1, LONG, lambda: f"open {listening(engine)}")
    engine.docker("rm", "-f", "steady")
    until(lambda: not listening(engine), LONG, lambda: f"open {listening(engine)}")
    edges.dropped(engine)


def run(engine, name, check=True):
    engine.docker("run", "-d", "--restart", "always", "--name", name, "-p", "127.0.0.1::80", "box", "httpd", "-f", "-p", "80",
                  "-h", "/www", check=check)


def hit(engine, what):
    if what == "engine":
        engine.stop()
        engine.start()
    else:
        program = {"agent": "agent", "dockerd": "/usr/sbin/dockerd"}[what]
        # Its own connection breaks with it.
        engine.docker("run", "--rm", "--privileged", "--pid=host", "box", "hostile", "kill", program, check=False)


def published(engine):
    """What running containers should be reached at, if anybody can be asked."""
    listed = engine.docker("ps", "-q", check=False)
    if listed.returncode:
        return None
    names = listed.stdout.decode().split()
    found = engine.said("inspect", "-f", "{{json .NetworkSettings.Ports}}", *names, check=False).splitlines() if names else []
    bindings = [binding for line in found for each in (json.loads(line) or {}).values() for binding in each or []]
    return sorted((binding["HostIp"], int(binding["HostPort"])) for binding in bindings)


def listening(engine):
    """What the supervisor has open."""
    sockets = set()
    for entry in pathlib.Path(f"/proc/{engine.supervisor()}/fd").iterdir():
        try:
            sockets.add(os.readlink(entry))
        except OSError:
            continue
    found = []
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTENS and f"socket:[{fields[9]}]" in sockets:
            address, port = fields[1].split(":")
            host = ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
            found.append((host, int(port, 16)))
    return sorted(found)


def buttons(edges):
    """Start, stop, start, stop within a second, from a snapshot and from nothing (case 15)"""
    for name in ["snapshot", "nothing"]:
        engine = edges.ground.engine(f"buttons-{name}", **edges.snapshot.sizes)
        if name == "snapshot":
            edges.snapshot.lay(engine)
        presses = []
        for what in ["start", "stop", "start", "stop"]:
            command = [edges.ground.berth, "engine", what, "--data", engine.data, *(engine.sizes if what == "start" else [])]
            presses.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
            time.sleep(0.25)
        said = [press.communicate(timeout=LONG)[0] for press in presses]
        codes = [press.returncode for press in presses]
        state = engine.status()["state"]
        edges.ground.say(f"   from {name}: the codes are {codes}, and it is {state}")
        # A stop is done when it says so; of a start somebody stopped, the words must be true.
        if codes[1] or codes[3]:
            fail(f"a stop fails: {said}")
        if any(code and "stopped" not in text for code, text in zip(codes, said)):
            fail(f"a start that was stopped says something else: {said}")
        if state not in ("ready", "stopped"):
            fail(f"in the end it is {state}: {engine.status_text()}")
        if state == "ready":
            engine.docker("version")
        edges.over(engine)


def stages(edges):
    """A stop, and a SIGTERM of the supervisor, in each stage of a start and while it runs (case 15)"""
    engine = edges.ground.engine("stages", **edges.snapshot.sizes)
    # As it was after it had begun, without its memory.
    edges.snapshot.lay(engine)
    (engine.data / "plan/state").unlink()
    for number, stage in enumerate(["booting", "kernel", "services", "connecting", "ready"]):
        command = [edges.ground.berth, "engine", "start", "--data", engine.data, *engine.sizes]
        start = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        status = until(lambda: reaches(engine, stage), LONG, f"it does not get to {stage}", pause=0.01)
        if stage == "ready" and "box" not in engine.said("image", "ls"):
            fail("the image is lost")
        began = milliseconds()
        if number % 2:
            how = "stop"
            engine.stop()
        else:
            how = "SIGTERM"
            supervisor = status["pid"]
            os.kill(supervisor, signal.SIGTERM)
            until(lambda: not lives(supervisor), LONG, "the supervisor goes on")
        said = start.communicate(timeout=LONG)[0]
        if start.returncode and "stopped" not in said:
            fail(f"the start says: {said}")
        if (state := engine.status()["state"]) != "stopped":
            fail(f"it is {state}")
        edges.ground.say(f"   {how} while {stage}: over after {milliseconds() - began} ms")
        engine.nothing_left()
    edges.forget(engine)


def reaches(engine, stage):
    status = engine.status()
    at = {status["state"], *(each["name"] for each in status["stages"])} if status["pid"] else set()
    return status if stage in at else None
