"""aiodocker's own tests, from its source package: fetched, run against a socket, and what came of each."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree

from ground import fail

VERSION = "0.27.0"
DIGEST = "74586f4929aee4563ee7db50996a1a39ac35e06c80701daad31f94aadb6551c7"
# For all of it, and for one test of it. They only bound a hang.
WHOLE, ONE = 3600, {"native": 120, "qemu": 600}
# What the tests want from the internet, which a test of Berth must not need.
DESELECTED = {
    "tests/test_images.py::test_build_from_remote_file": "fetches a Dockerfile from GitHub",
    "tests/test_images.py::test_build_from_remote_tar": "fetches the image golang and Alpine's packages",
}
# They talk to an engine in a container, over its published port, and hardly to the engine's socket.
INNER_ENGINE = ["configs", "nodes", "secrets", "services", "swarm"]

OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}


class Suite:
    """The tests and what they run with, kept in a folder for the next time."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.source = self.folder / f"aiodocker-{VERSION}"
        self.python = self.folder / "venv/bin/python"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.make_environment()
        self.unpack()

    def make_environment(self):
        wanted = pathlib.Path(__file__).with_name("suite.txt")
        stamp = self.folder / "venv/made-of"
        made_of = f"{sys.version}\n{wanted.read_text()}"
        if stamp.exists() and stamp.read_text() == made_of:
            return
        shutil.rmtree(self.folder / "venv", ignore_errors=True)
        run([sys.executable, "-m", "venv", self.folder / "venv"])
        run([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", wanted])
        stamp.write_text(made_of)

    def unpack(self):
        package = self.folder / f"aiodocker-{VERSION}.tar.gz"
        if not package.exists():
            address = ["--no-deps", "--no-binary", "aiodocker"]
            run([self.python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *address, "--dest", self.folder, f"aiodocker=={VERSION}"])
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        if digest != DIGEST:
            package.unlink()
            fail(f"aiodocker {VERSION} has the SHA-256 {digest}, not {DIGEST}")
        if not self.source.exists():
            with tarfile.open(package) as tar:
                tar.extractall(self.folder)

    def run(self, socket, work, backend, only=(), inner_engine=False):
        """Runs the tests against a socket; gives what came of each, what was said, and the seconds it took."""
        report = work / "report.xml"
        report.unlink(missing_ok=True)
        left_out = [f"--deselect={test}" for test in DESELECTED]
        left_out += [] if inner_engine or only else [f"--ignore=tests/test_{name}.py" for name in INNER_ENGINE]
        command = [self.python, "-B", "-m", "pytest", "-o", "addopts=", "-o", "junit_family=xunit1", "-p", "no:cacheprovider", "-q", "--tb=short"]
        command += [f"--timeout={ONE[backend]}", f"--junit-xml={report}", *left_out, *only]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(work),
            "DOCKER_CONFIG": os.environ["DOCKER_CONFIG"],
            "DOCKER_HOST": f"unix://{socket}",
            # It would start a container of its own to clean up after itself, from an image of the Hub's.
            "TESTCONTAINERS_RYUK_DISABLED": "true",
            # Where published ports are, also if these tests are themselves in a container.
            "TESTCONTAINERS_HOST_OVERRIDE": "localhost",
            "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
        }
        began = time.monotonic()
        with open(work / "said", "w") as said:
            subprocess.run(command, cwd=self.source, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=WHOLE)
        took = time.monotonic() - began
        if not report.exists():
            fail(f"the suite did not run: {(work / 'said').read_text()[-4000:]}")
        return *outcomes(report), took


def outcomes(report):
    """What came of each test, by its name, and what those that did not pass said."""
    found, words = {}, {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname').replace('.', '/')}::{case.get('name')}"
        if (file := case.get("file")) is not None:
            rest = case.get("classname").removeprefix(file.removesuffix(".py").replace("/", ".")).lstrip(".")
            name = "::".join([file, *filter(None, rest.split(".")), case.get("name")])
        # An error while cleaning up is told as a case of its own, after the test's.
        found.setdefault(name, "passed")
        for child in case:
            outcome = "xfailed" if child.get("type") == "pytest.xfail" else OUTCOMES.get(child.tag)
            if outcome and found[name] == "passed":
                found[name], words[name] = outcome, child.get("message", "")
    return found, words


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WHOLE)
    if done.returncode:
        fail(f"{' '.join(map(str, command))}: {(done.stdout + done.stderr)[-2000:]}")
