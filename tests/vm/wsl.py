#!/usr/bin/env python3
"""The engine in a distribution of WSL, with a fake `wsl.exe`: no Windows, and everything else for real.

    tests/vm/wsl.py [folder of berth]

Needs root, docker, busybox, `target/debug/fake-wsl` and an appliance with its archive (`cargo xtask appliance --tar`) in
BERTH_APPLIANCE. The fake's distributions are folders, its machine is namespaces of this kernel: see crates/testkit. What
wsl.exe really does on Windows, nothing here shows.
"""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import urllib.request

from ground import LONG, Ground, Failed, end, fail, lives, processes, until


class Wsl:
    """The fake, and what it was told."""

    def __init__(self, folder, program):
        folder.mkdir()
        self.folder = folder
        self.path = folder / "wsl.exe"
        self.path.symlink_to(program)
        self.script()
        os.environ["BERTH_WSL"] = str(self.path)

    def script(self, **what):
        (self.folder / "wsl.exe.json").write_text(json.dumps(what | {"exec": "machine"}))

    def call(self, *words):
        done = subprocess.run([self.path, *words], capture_output=True, text=True, env=os.environ | {"WSL_UTF8": "1"}, timeout=LONG)
        if done.returncode:
            fail(f"wsl {words}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def calls(self):
        calls = self.folder / "wsl.exe.calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [json.loads(line)["arguments"] for line in lines]

    def forget_calls(self):
        (self.folder / "wsl.exe.calls").unlink(missing_ok=True)

    def changes(self):
        """What it was told to make, end or remove."""
        words = {"--import", "--terminate", "--unregister", "--shutdown"}
        return [call[:2] for call in self.calls() if call[0] in words]

    def names(self):
        return json.loads((self.folder / "wsl.exe.state/names.json").read_text())

    def register(self, name):
        """As another tool does it."""
        folder = self.folder / f"of-{name}"
        folder.mkdir()
        (folder / "ext4.vhdx").write_text("theirs")
        state = self.folder / "wsl.exe.state"
        state.mkdir(exist_ok=True)
        names = self.names() if (state / "names.json").exists() else {}
        (state / "names.json").write_text(json.dumps(names | {name: str(folder)}))


def names_of(engine):
    system = f"berth-{engine.address.parent.name}"
    return system, f"{system}-data"


def told(done):
    return done.stdout + done.stderr


def everyday(ground, wsl, image):
    ground.say("the first start makes both distributions")
    engine = ground.engine("data", backend="wsl")
    system, data = names_of(engine)
    engine.start()
    if engine.status()["backend"] != "wsl" or sorted(wsl.names()) != [system, data]:
        fail(f"the status or the names: {engine.status_text()} {wsl.names()}")
    ground.say(f"   {engine.status_text().splitlines()[-1]}")
    engine.load_image(image)

    ground.say("containers: run, exec with an end of input, a published port, a limit")
    if engine.said("run", "--rm", "box", "sh", "-c", "echo hello") != "hello":
        fail("run")
    engine.docker("run", "-d", "--stop-signal", "KILL", "--restart", "always", "-p", "127.0.0.1:28080:80", "--name", "web", "box", "httpd", "-f", "-h", "/www")
    with open("/dev/urandom", "rb") as random:
        bytes_ = random.read(20_000_000)
    back = engine.docker("exec", "-i", "web", "cat", input=bytes_).stdout
    if hashlib.sha256(back).digest() != hashlib.sha256(bytes_).digest():
        fail(f"of {len(bytes_)} bytes {len(back)} came back, or others")
    if urllib.request.urlopen("http://127.0.0.1:28080/", timeout=10).read() != b"hello\n":
        fail("the port")
    if "tap0" not in engine.said("run", "--rm", "--network", "host", "box", "ls", "/sys/class/net"):
        fail("the engine's network has no way out")

    ground.say("the agent dies: ports and containers stay")
    agents = list(processes("/berth/berth-guest agent --host"))
    if len(agents) != 1:
        fail(f"agents: {agents}")
    end(agents[0])
    until(lambda: engine.answers() and engine.is_ready(), LONG, lambda: f"not again: {engine.status_text()}")
    if urllib.request.urlopen("http://127.0.0.1:28080/", timeout=10).read() != b"hello\n":
        fail("the port, after the agent died")

    ground.say("it stops in order, and nothing else is ended")
    engine.docker("run", "-d", "--name", "waits", "box", "sh", "-c", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done")
    wsl.forget_calls()
    engine.stop()
    if wsl.changes():
        fail(f"wsl.exe was told more than it has to be: {wsl.changes()}")
    engine.nothing_left()
    if processes("/usr/sbin/berth-guest") or processes(f"--cgroup berth-{engine.address.parent.name}"):
        fail("guests are left")

    ground.say("and starts again with all its data, in another language and in UTF-16")
    wsl.script(german=True, utf16=True)
    engine.start()
    if "waits" not in engine.said("ps", "-a", "--format", "{{.Names}} {{.Status}}"):
        fail("a container is gone")
    if "Exited (3)" not in engine.said("ps", "-a", "--filter", "name=waits", "--format", "{{.Status}}"):
        fail("it was not asked to stop")
    if wsl.changes():
        fail(f"something was made again: {wsl.changes()}")
    return engine


def ended_by_others(ground, wsl, engine):
    system, data = names_of(engine)
    ground.say("`wsl --shutdown` by the user: it is said, and the engine comes back")
    until(lambda: engine.said("inspect", "-f", "{{.State.Running}}", "web") == "true", LONG, "the container does not run")
    wsl.call("--shutdown")
    words = until(lambda: engine.status()["warnings"], LONG, "nobody says it")
    ground.say(f"   it says: {words[0]}")
    if "wsl --shutdown" not in words[0]:
        fail("not that somebody ended it")
    engine.wait_ready()
    until(lambda: engine.said("inspect", "-f", "{{.State.Running}}", "web") == "true", LONG, "a container does not come back")

    ground.say("the supervisor is killed: the guest ends in order, and the next start finds all")
    os.kill(engine.supervisor(), signal.SIGKILL)
    engine.start()
    until(lambda: engine.said("inspect", "-f", "{{.State.Running}}", "web") == "true", LONG, "a container does not come back")

    ground.say("the system is unregistered while it runs: it is made again")
    wsl.forget_calls()
    wsl.call("--unregister", system)
    until(lambda: ["--import", system] in wsl.changes(), LONG, lambda: f"it is not made again: {engine.status_text()}")
    until(lambda: engine.status()["state"] in ("ready", "degraded") and engine.answers(), LONG, lambda: engine.status_text())
    engine.said("inspect", "web")

    ground.say("the data is unregistered while it runs: nothing takes its place")
    wsl.forget_calls()
    wsl.call("--unregister", data)
    until(lambda: engine.status()["state"] == "failed", LONG, lambda: f"it does not fail: {engine.status_text()}")
    status = engine.status()
    ground.say(f"   it says: {status['error']['cause']}; {status['error']['fix']}")
    if data not in status["error"]["cause"] or "reset --all" not in status["error"]["fix"]:
        fail(f"not what to do: {status}")
    if engine.start(check=False).returncode == 0 or [change for change in wsl.changes() if change[0] == "--import"]:
        fail("it starts without its data")

    ground.say("and after a reset it begins anew")
    engine.run("reset", "--all", "--yes")
    if set(wsl.names()) & {system, data}:
        fail(f"left: {wsl.names()}")
    engine.start()
    if engine.said("images", "-q"):
        fail("images are left")
    engine.run("stop")
    engine.nothing_left()


def refusals(ground, wsl):
    ground.say("a distribution of that name that another tool made is left alone")
    wsl.script()
    engine = ground.engine("taken", backend="wsl")
    for name in names_of(engine):
        wsl.register(name)
        wsl.forget_calls()
        done = engine.start(check=False)
        if done.returncode == 0 or f"`{name}` that Berth did not make" not in told(done):
            fail(f"it is not told: {told(done)}")
        if wsl.changes() or name not in wsl.names():
            fail(f"it was touched: {wsl.changes()}")
        wsl.call("--unregister", name)
    ground.say(f"   it says: {engine.status()['error']['cause']}; {engine.status()['error']['fix']}")
    engine.nothing_left()

    ground.say("WSL that is not there, or not usable")
    cases = {
        "wsl --install": {"refuses": [{"call": "--version", "code": 1}, {"call": "--status", "code": 50}]},
        "wsl --update": {"refuses": [{"call": "--version", "code": 1}]},
        "BIOS": {"refuses": [{"call": "--import", "code": 255, "says": "Fehlercode: HCS_E_HYPERV_NOT_INSTALLED"}]},
    }
    for word, script in cases.items():
        wsl.script(**script)
        done = engine.start(check=False)
        if done.returncode == 0 or word not in told(done):
            fail(f"{word} is not told: {told(done)}")
    wsl.script()
    os.environ["BERTH_WSL"] = str(wsl.folder / "nowhere")
    done = engine.start(check=False)
    if done.returncode == 0 or "was not found" not in told(done):
        fail(f"a missing wsl.exe is not told: {told(done)}")
    del os.environ["BERTH_WSL"]
    done = engine.start(check=False)
    if done.returncode == 0 or "needs Windows" not in told(done):
        fail(f"Linux is not told: {told(done)}")
    os.environ["BERTH_WSL"] = str(wsl.path)
    engine.nothing_left()


def main():
    programs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "target/debug")
    with Ground(programs, "wsl") as ground:
        wsl = Wsl(ground.work / "windows", (programs / "fake-wsl").resolve())
        try:
            image = ground.image()
            engine = everyday(ground, wsl, image)
            ended_by_others(ground, wsl, engine)
            refusals(ground, wsl)
        except BaseException:
            ground.tell()
            for engine in ground.engines:
                subprocess.run([ground.berth, "engine", "stop", "--data", engine.data], capture_output=True, timeout=LONG)
            raise
        finally:
            subprocess.run([wsl.path, "--shutdown"], timeout=LONG)
        ground.say("done")


if __name__ == "__main__":
    try:
        main()
    except Failed:
        sys.exit(1)
