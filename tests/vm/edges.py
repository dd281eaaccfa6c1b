#!/usr/bin/env python3
"""What has broken others' engines, done to a real one in its machine: most of the edge cases of tests/vm/README.md.

    tests/vm/edges.py [folder of berth and berth-guest] [--only case...]

Without `--only`, all of them but `doors` and `ports`, which take minutes. Most begin where one engine was after its first start (see snapshot.py). Needs a built appliance
(BERTH_APPLIANCE), root, QEMU, `docker`, rustc, setpriv and a static busybox.
"""

import argparse
import os
import pathlib
import sys
import traceback

import changes
import doors
import ends
import floods
import hostile
import places
import rooms
import times
from ground import LONG, Failed, Ground, children, end, fail, lives, until
from snapshot import Snapshot

CASES = {
    "inputs": doors.inputs,
    "floods": floods.floods,
    "severed": hostile.severed,
    "hostile": hostile.hostile,
    "host-full": rooms.host_full,
    "disk-full": rooms.disk_full,
    "damaged": ends.damaged,
    "panic": ends.panic,
    "sleep": times.sleep,
    "clock": times.clock,
    "doors": doors.doors,
    "ports": changes.ports,
    "buttons": changes.buttons,
    "stages": changes.stages,
    "owner": places.owner,
    "names": places.names,
    "users": places.users,
}
# Done when they are named.
SLOW = {"doors", "ports"}
APPLETS = ["fallocate", "head", "touch", "sha256sum", "tr", "mkdir", "hostname", "echo"]


class Edges:
    """What the cases share: an image, and the snapshot they begin with."""

    def __init__(self, ground):
        self.ground = ground
        self.snapshot = Snapshot(ground)
        self.count = 0

    def prepare(self):
        """The first start, by which all others are made."""
        self.tar = self.ground.image(APPLETS, [pathlib.Path(__file__).with_name("hostile.rs")])
        engine = self.ground.engine("first", **self.snapshot.sizes)
        self.snapshot.may_be_taken(engine)
        engine.start()
        engine.load_image(self.tar)
        # Everything that is used again by each.
        engine.docker("run", "--rm", "box", "true")
        engine.run("give-back")
        self.ground.say("a first start from nothing")
        self.snapshot.take(engine)
        self.forget(engine)

    def engine(self):
        self.count += 1
        return self.snapshot.engine(f"engine-{self.count}")

    def over(self, engine):
        """Stops an engine, of which nothing may be left."""
        engine.stop()
        engine.nothing_left()
        self.forget(engine)

    def dropped(self, engine):
        """Kills an engine with all it has, which is faster and must leave nothing either."""
        supervisor, machine = engine.supervisor(), engine.machine()
        end(supervisor)
        until(lambda: not lives(supervisor) and not lives(machine), LONG, "the machine outlives its supervisor")
        engine.stop()
        engine.nothing_left()
        self.forget(engine)

    def forget(self, engine):
        self.ground.engines.remove(engine)

    def do(self, name):
        """Does one case; what it leaves when it fails is told and taken away."""
        self.ground.say(f"{name}: {CASES[name].__doc__.splitlines()[0]}")
        try:
            CASES[name](self)
            return True
        except Exception as problem:
            self.ground.tell()
            traceback.print_exception(problem)
            print(f"FAIL: {name}: {problem}", file=sys.stderr, flush=True)
            for engine in [*self.ground.engines]:
                engine.run("stop", check=False)
                self.forget(engine)
            return False


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path(__file__).resolve().parents[2] / "target/debug"
    arguments.add_argument("programs", nargs="?", default=default)
    arguments.add_argument("--only", nargs="+", metavar="case", choices=CASES, default=[name for name in CASES if name not in SLOW])
    options = arguments.parse_args()
    print(f"-- load {os.getloadavg()[0]:.1f}", flush=True)
    try:
        with Ground(options.programs, "edges") as ground:
            edges = Edges(ground)
            edges.prepare()
            failed = [name for name in options.only if not edges.do(name)]
            # Only threads of this program may be left.
            if left := [pid for pid in children(os.getpid()) if lives(pid)]:
                fail(f"processes are left: {left}")
            if failed:
                fail(f"these did not hold: {' '.join(failed)}")
            ground.say("done")
    except Failed:
        # It was said, with the logs.
        sys.exit(1)


if __name__ == "__main__":
    main()
