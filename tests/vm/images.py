#!/usr/bin/env python3
"""System images that do not work, offered to an engine that has one that does: the old one runs again with its data, and
the status says why; a good one becomes the current one.

    tests/vm/images.py [folder of berth and berth-guest]

Needs a built appliance (BERTH_APPLIANCE), root, QEMU and `docker`.
"""

import hashlib
import io
import json
import os
import pathlib
import sys
import tarfile

from ground import LONG, Failed, Ground, fail, until


class Offers:
    """Appliances made of the one there is."""

    def __init__(self, folder, good):
        self.folder, self.good = folder, pathlib.Path(good).resolve()
        self.manifest = json.loads((self.good / "manifest.json").read_text())

    def make(self, name, contents=(), **changes):
        """The same files, but for these, and the same manifest, but for that; installed as an update would be."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "root").symlink_to((self.good / "root").resolve())
        for present in self.manifest["files"]:
            real = (self.good / present).resolve()
            if present not in dict(contents):
                try:
                    (folder / present).hardlink_to(real)
                except OSError:
                    # On another file system.
                    (folder / present).symlink_to(real)
        for changed, content in dict(contents).items():
            (folder / changed).write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps({**self.manifest, "recipe": name, **changes}))
        return folder

    def record(self, content):
        return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def identity(folder):
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def tiny_image():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"), io.BytesIO())
    return made.getvalue()


def boot(engine, folder):
    os.environ["BERTH_APPLIANCE"] = str(folder)
    engine.start()
    return engine.status()


def warned(status, *words):
    text = "\n".join(status["warnings"])
    for word in words:
        if word not in text:
            fail(f"the status does not say {word!r}: {status}")


def rolled_back(engine, offer, good, *words):
    """Starts with an image that does not work; on a busy machine not all its tries may be made in one start."""
    for _ in range(3):
        status = boot(engine, offer)
        if status["image"]["id"] != good or status["state"] != "degraded":
            fail(f"the image that works does not run: {status}")
        if engine.said("image", "ls", "-q", "box") == "":
            fail("its data is gone")
        if status["image"]["refused"]:
            break
        engine.stop()
    refused = status["image"]["refused"]
    if not refused or refused["id"] != identity(offer) or refused["tries"] != 3:
        fail(f"it was not rolled back: {status}")
    warned(status, "rolled back", "--retry-image", *words)
    if "rolled back" not in engine.status_text():
        fail(f"nobody would know: {engine.status_text()}")
    engine.stop()


def copies(engine):
    return {path.name for path in (engine.data / "vm/images").iterdir() if path.is_dir()}


def kept(engine):
    until(lambda: engine.status()["image"]["kept"], LONG, lambda: f"no copy is kept: {engine.status()}")


def test(ground):
    good = pathlib.Path(os.environ["BERTH_APPLIANCE"]).resolve()
    offers = Offers(ground.work, good)
    engine = ground.engine("images", memory=1024, cpus=2, disk=4, share="none")
    status = boot(engine, good)
    if status["state"] != "ready" or status["image"]["id"] != identity(good):
        fail(f"it is not ready: {status}")
    engine.docker("import", "-", "box", input=tiny_image())
    kept(engine)
    engine.stop()
    ground.say("the image that works is kept")

    os_image = (good / "os.erofs").read_bytes()
    status = boot(engine, offers.make("truncated", {"os.erofs": os_image[: len(os_image) // 2]}))
    warned(status, "cannot be used", "os.erofs", "bytes")
    if status["image"]["id"] != identity(good) or engine.said("image", "ls", "-q", "box") == "":
        fail(f"the image that works does not run with its data: {status}")
    engine.stop()
    ground.say("a truncated one was not started")

    garbage = hashlib.sha256(b"garbage").digest() * 10_000
    files = {**offers.manifest["files"], "initramfs": offers.record(garbage)}
    rolled_back(engine, offers.make("garbage", {"initramfs": garbage}, files=files), identity(good), "Kernel panic")
    ground.say("one whose kernel panics was rolled back")

    rolled_back(engine, offers.make("protocol", agent_protocol=99), identity(good), "99 is the least", "protocol")
    ground.say("one whose agent is too old was rolled back")

    versions = {**offers.manifest["versions"], "engine": "99.0.0-1"}
    better = offers.make("better", versions=versions)
    status = boot(engine, better)
    if status["state"] != "ready" or status["image"]["id"] != identity(better) or status["image"]["trial"]:
        fail(f"a good one is not accepted: {status}")
    kept(engine)
    if copies(engine) != {identity(good), identity(better)}:
        fail(f"other copies are there: {copies(engine)}")
    engine.stop()
    record = json.loads((engine.data / "vm/images/record.json").read_text())
    if record["current"] != identity(better) or record["previous"] != identity(good) or record["trial"]:
        fail(f"it is not the current one: {record}")
    ground.say("a good one is the current one")

    # Back again: an older Docker than had the data last.
    status = boot(engine, good)
    warned(status, "99.0.0-1", "going back")
    if status["image"]["id"] != identity(good) or engine.said("image", "ls", "-q", "box") == "":
        fail(f"it does not run with its data: {status}")
    engine.stop()
    engine.run("reset", "--keep-data")
    if copies(engine) != {identity(good), identity(better)}:
        fail(f"a reset took the copies: {copies(engine)}")
    engine.run("reset", "--all", "--yes")
    if (engine.data / "vm").exists():
        fail("a reset of everything left the machine's folder")
    engine.nothing_left()
    ground.say("an older Docker was warned of, and nothing is left")


def main():
    programs = sys.argv[1] if len(sys.argv) > 1 else "target/debug"
    try:
        with Ground(programs, "images") as ground:
            test(ground)
    except Failed:
        sys.exit(1)
    print("PASS", flush=True)


main()
