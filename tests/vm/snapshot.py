"""Engines in machines that begin where another was: its memory is kept in a file and its data folder copied.

The product knows nothing of this. In PATH, before QEMU, stands a script that becomes QEMU, and that adds to its arguments what
the folder `plan` of the data folder says: a second monitor, a state to begin with, another place of the agent's socket.
"""

import json
import os
import shutil
import socket
import subprocess
import threading

from ground import LONG, end, fail, lives, milliseconds, until

SHIM = r"""#!/bin/bash
# Becomes QEMU. Whoever asks for its version, and the canary, have no data disk and get it as it is.
real=@REAL@
data=
for word in "$@"; do
  case $word in *filename=*/vm/data.raw) data=${word#*filename=} data=${data%/vm/data.raw} data=${data//,,/,} ;; esac
done
plan=$data/plan
[ -n "$data" ] && [ -d "$plan" ] || exec "$real" "$@"
words=("$@")
if [ -e "$plan/between" ]; then
  # Somebody stands between the machine's port and the supervisor.
  for number in "${!words[@]}"; do words[number]=${words[number]/agent.sock,server/agent.qemu,server}; done
fi
if [ -e "$plan/monitor" ]; then
  words+=(-qmp "unix:$(<"$plan/monitor"),server=on,wait=off")
fi
if [ -e "$plan/state" ]; then
  # Once: a machine that is started again begins with its kernel. A pipe is what every version takes.
  exec 8<"$plan/state"
  rm "$plan/state"
  exec 9< <(exec cat <&8) 8<&-
  words+=(-incoming fd:9)
fi
exec "$real" "${words[@]}"
"""


# What a data folder has of the engine's last run.
OF_A_RUN = ["log", "plan", "engine.json", "engine.lock", "guest.lock"]


class Monitor:
    """A connection to QEMU's monitor."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LONG)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.do("qmp_capabilities")

    def do(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self.lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                fail(f"QEMU refuses {command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]
        fail(f"QEMU is gone and has not done {command}")

    def close(self):
        self.lines.close()
        self.socket.close()


class Snapshot:
    """The memory and the data folder of an engine at one moment."""

    def __init__(self, ground):
        self.ground = ground
        self.folder = ground.work / "snapshot"
        self.state, self.data = self.folder / "state", self.folder / "data"
        shim = ground.work / "shim"
        shim.mkdir()
        real = shutil.which("qemu-system-x86_64") or fail("there is no QEMU")
        program = shim / "qemu-system-x86_64"
        program.write_text(SHIM.replace("@REAL@", real))
        program.chmod(0o755)
        os.environ["PATH"] = f"{shim}:{os.environ['PATH']}"

    def plan(self, engine):
        """What stands in the way of an engine's machine. To be called before it is started."""
        folder = engine.data / "plan"
        if not folder.exists():
            engine.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir()
        return folder

    def may_be_taken(self, engine):
        """The engine's machine gets a second monitor. Its path is short, as those of sockets must be."""
        (self.plan(engine) / "monitor").write_text(str(self.ground.work / "monitor"))

    def take(self, engine):
        """Keeps how an engine is, which is over with that."""
        began = milliseconds()
        self.data.mkdir(parents=True)
        address = self.ground.work / "migration"
        with socket.socket(socket.AF_UNIX) as listener, open(self.state, "wb") as file:
            listener.bind(str(address))
            listener.listen()
            written = threading.Thread(target=keep, args=(listener, file), daemon=True)
            written.start()
            monitor = Monitor(self.ground.work / "monitor")
            # It runs on meanwhile: one that is paused would be paused where it goes on.
            monitor.do("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            monitor.do("migrate", uri=f"unix:{address}")
            moved = until(lambda: over(monitor), LONG, "the machine's state is not written", pause=0.02)
            written.join(LONG)
            monitor.close()
        address.unlink()
        if moved["status"] != "completed":
            fail(f"the machine's state cannot be kept: {moved}")
        # Its disk is at rest, and stays so.
        copy([path for path in engine.data.iterdir() if path.name not in OF_A_RUN], self.data)
        supervisor, machine = engine.supervisor(), engine.machine()
        end(supervisor)
        until(lambda: not lives(supervisor) and not lives(machine), LONG, "the supervisor or its machine does not die")
        engine.stop()
        size = self.state.stat().st_size >> 20
        disk = (self.data / "vm/data.raw").stat().st_blocks >> 11
        self.ground.say(f"   its state is kept: {size} MiB of memory, {disk} MiB of disk, {milliseconds() - began} ms")

    def lay(self, engine):
        """Makes a data folder whose engine begins where this one was."""
        plan = self.plan(engine)
        copy(self.data.iterdir(), engine.data)
        (plan / "state").symlink_to(self.state)

    def engine(self, name):
        """An engine that goes on from here, and runs."""
        engine = self.ground.engine(name, **self.sizes)
        self.lay(engine)
        return self.begin(engine)

    def begin(self, engine):
        began = milliseconds()
        engine.start()
        self.ground.say(f"   it goes on from the snapshot after {milliseconds() - began} ms")
        return engine

    # The same for every engine: a state fits the machine alone that it was taken from.
    sizes = {"memory": 1024, "cpus": 2, "disk": 4, "share": "none"}


def copy(paths, folder):
    subprocess.run(["cp", "-r", "--sparse=always", "--reflink=auto", *paths, folder], check=True)


def keep(listener, file):
    connection, _ = listener.accept()
    with connection:
        while piece := connection.recv(1 << 20):
            file.write(piece)


def over(monitor):
    moved = monitor.do("query-migrate")
    return moved if moved.get("status") in ("completed", "failed", "cancelled") else None
