#!/usr/bin/env python3
"""A public client's own tests through the engine's socket: what passes must be exactly what passes with the same dockerd
reached directly.

    tests/vm/clients.py [folder of berth and berth-guest] [--backend native|qemu] [--rounds N] [--inner-engine] [--only TEST]…

On `native` both sides are one engine: dockerd's own socket, and Berth's. In a machine dockerd's own socket cannot be had
from outside, so that the direct side is the native engine of the same appliance. A test whose outcomes differ is repeated
alone on both sides: one that then agrees is unsteady and is told; one that still differs fails this run. Times never do.

Needs a built appliance (BERTH_APPLIANCE), root, `docker` with Compose for --inner-engine, docker-registry, python3 with
venv, a static busybox, a package index for the first run, and for `qemu` QEMU.
"""

import argparse
import collections
import os
import pathlib
import statistics
import sys

import client_images
from ground import Failed, Ground, fail, until
from suite import DESELECTED, INNER_ENGINE, Suite

HUB_IMAGES = ["python:3.13-alpine", "python:3.14-alpine", "python:latest"]
REPEATS = 3
# From good to bad.
KINDS = ["passed", "skipped", "xfailed", "failed", "error"]


class Side:
    """One way to a dockerd."""

    def __init__(self, name, engine, socket, work):
        self.name, self.engine, self.socket, self.work = name, engine, socket, work
        # The worst of each test in whole runs, and what every one that did not pass said last.
        self.outcomes, self.words, self.times = {}, {}, []
        self.work.mkdir()

    def run(self, suite, options, only=()):
        found, words, took = suite.run(self.socket, self.work, self.engine.backend, only, options.inner_engine)
        self.words.update(words)
        restore(self.engine)
        return found, took


def sockets(pid):
    """How many connections a process has."""
    count = 0
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(path).startswith("socket:")
        except OSError:
            pass
    return count


def listed(engine):
    return set(engine.said("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines())


def restore(engine):
    """Removes what tests left, and brings back what they removed, so that both sides begin with the same."""
    containers = [name for name in engine.said("ps", "-a", "--format", "{{.Names}}").split() if name != "hub"]
    if containers:
        engine.docker("rm", "-f", "-v", *containers)
    engine.docker("network", "prune", "-f")
    engine.docker("volume", "prune", "-a", "-f")
    for image in listed(engine) - engine.images:
        engine.docker("rmi", "-f", image, check=False)
    engine.docker("image", "prune", "-f")
    for image in engine.images - listed(engine):
        engine.docker("pull", "-q", image)


def prepare(ground, made, backend, suite, options):
    """An engine with everything the tests want of one."""
    # The tests mount their certificates into a registry.
    sizes = {"memory": 2048, "cpus": 2, "disk": 16, "share": f"{suite.source}:ro"} if backend == "qemu" else {}
    engine = ground.engine(backend, backend=backend, **sizes)
    engine.start()
    made.load(engine)
    if options.inner_engine:
        made.load_inner_engine(engine)
    client_images.open_hub(engine, HUB_IMAGES)
    engine.images = listed(engine)
    ground.say(f"{backend}: ready for the tests")
    return engine


def compare(direct, public, suite, options):
    """The tests whose outcomes differ: those that are unsteady, and those that differ whenever they are run."""
    unsteady, steady = {}, {}
    for test in sorted(direct.outcomes.keys() | public.outcomes.keys()):
        seen = [(direct.outcomes.get(test, "not run"), public.outcomes.get(test, "not run"))]
        # Of those that upstream itself expects to fail, either is right.
        repeats = 0 if "xfailed" in seen[0] else REPEATS
        while seen[-1][0] != seen[-1][1] and len(seen) <= repeats:
            seen.append(tuple(side.run(suite, options, only=[test])[0].get(test, "not run") for side in (direct, public)))
        if seen[-1][0] != seen[-1][1] and repeats:
            steady[test] = seen
        elif len(set(seen[0])) > 1:
            unsteady[test] = seen
    return unsteady, steady


def report(sides, unsteady, steady):
    print(f"\n{'':28}{''.join(f'{kind:>9}' for kind in KINDS)}{'seconds':>10}   load {os.getloadavg()[0]:.1f}")
    for side in sides:
        counts = collections.Counter(side.outcomes.values())
        times = f"{statistics.median(side.times):10.1f}"
        print(f"{side.name:28}{''.join(f'{counts[kind]:9}' for kind in KINDS)}{times}   {[round(time, 1) for time in side.times]}")
    direct, public = sides
    ratios = [there / here for here, there in zip(direct.times, public.times, strict=True)]
    print(f"wall time, {public.name} to {direct.name}: {statistics.median(ratios):.3f} of {len(ratios)}")
    for test, outcome in sorted(direct.outcomes.items()):
        if outcome in ("failed", "error") and public.outcomes.get(test) == outcome:
            print(f"  {outcome} on both: {test}: {public.words.get(test, '')[:600]}")
    for words, tests in [("unsteady", unsteady), ("DIFFERS", steady)]:
        for test, seen in tests.items():
            print(f"  {words}: {test}: {', '.join(f'{here}/{there}' for here, there in seen)}")
            for side in sides:
                if test in side.words:
                    print(f"    {side.name}: {side.words[test][:2000]}")
    sys.stdout.flush()


def work(ground, options):
    suite = Suite(options.folder)
    inner = {} if options.inner_engine else {f"tests/test_{name}.py": "needs an engine in a container" for name in INNER_ENGINE}
    for test, reason in {**DESELECTED, **inner}.items():
        print(f"left out on both sides: {test}: {reason}", flush=True)
    client_images.client(ground)
    made = client_images.Images(ground)
    native = prepare(ground, made, "native", suite, options)
    direct = Side("dockerd directly (native)", native, native.address.parent / "guest/docker.sock", ground.work / "direct")
    engine = native if options.backend == "native" else prepare(ground, made, options.backend, suite, options)
    public = Side(f"Berth's socket ({options.backend})", engine, engine.address, ground.work / "public")
    before = sockets(engine.supervisor())
    for number in range(options.rounds):
        # Who is first pays for what is not in memory yet.
        for side in [direct, public] if number % 2 == 0 else [public, direct]:
            found, took = side.run(suite, options, options.only)
            side.times.append(took)
            for test, outcome in found.items():
                # A test that failed in one round did not pass.
                side.outcomes[test] = max(outcome, side.outcomes.get(test, outcome), key=KINDS.index)
            ground.say(f"{side.name}: {collections.Counter(found.values())}")
    unsteady, steady = compare(direct, public, suite, options)
    report([direct, public], unsteady, steady)
    until(lambda: sockets(engine.supervisor()) <= before, 60, lambda: f"connections are left: {sockets(engine.supervisor())}, before {before}")
    for engine in ground.engines:
        engine.stop()
        engine.nothing_left()
    if steady:
        fail(f"tests that pass on one side alone: {sorted(steady)}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(__file__).resolve().parents[2] / "target"
    arguments.add_argument("programs", nargs="?", default=target / "debug")
    arguments.add_argument("--backend", choices=["native", "qemu"], default="native")
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--inner-engine", action="store_true", help="also the tests that run an engine in a container")
    arguments.add_argument("--only", action="append", default=[], help="a test by its name, such as tests/test_execs.py")
    arguments.add_argument("--folder", default=target / "clients", help="where the suite and its environment are kept")
    options = arguments.parse_args()
    try:
        with Ground(options.programs, "clients") as ground:
            work(ground, options)
    except Failed:
        # It was said, with the logs.
        sys.exit(1)


if __name__ == "__main__":
    main()
