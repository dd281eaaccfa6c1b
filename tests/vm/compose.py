#!/usr/bin/env python3
"""A Compose project of three services, driven from the host through the engine's socket, and what of it is left.

    tests/vm/compose.py [folder of berth and berth-guest] [--backend native|qemu]…

Needs a built appliance (BERTH_APPLIANCE), root, `docker` and a static busybox, and for `qemu` QEMU.
"""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import socket
import sys
import urllib.request

import client_images
from ground import LONG, Failed, Ground, fail, until

PROJECT = """
services:
  store:
    image: box
    command: ["sh", "-c", "date >>/data/starts; exec httpd -f -p 80 -h /data"]
    init: true
    volumes: ["data:/data"]
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/starts"]
      interval: 1s
      timeout: 60s
      retries: 100
  worker:
    image: box
    command: ["sh", "-c", "wget -q -O - http://store/starts && echo the store was there; exec sleep 100000"]
    init: true
    depends_on:
      store:
        condition: service_healthy
  web:
    build: web
    init: true
    depends_on: [store]
    environment:
      GREETING: hello from ${WHO:?}
    ports: ["127.0.0.1:${PORT:?}:80", "127.0.0.1::81"]
volumes:
  data: {}
"""
# What it answers comes from the store, by its name on the project's network.
WEB = """
FROM box
COPY --chmod=755 starts /www/cgi-bin/starts
CMD ["sh", "-c", "mkdir -p /other && echo other >/other/index.html && httpd -p 81 -h /other && exec httpd -f -p 80 -h /www"]
"""
STARTS = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "$GREETING"
wget -q -O - http://store/starts
"""
BYTES = 100_000_000


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as there:
        return there.getsockname()[1]


def answer(port, path):
    """What a published port says; nothing while there is nobody."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as said:
            return said.read().decode()
    except (OSError, http.client.HTTPException):
        return ""


class Project:
    def __init__(self, engine, folder):
        self.engine, self.folder, self.port = engine, folder, free_port()
        (folder / "web").mkdir(parents=True)
        (folder / "compose.yaml").write_text(PROJECT)
        (folder / "web/Dockerfile").write_text(WEB)
        (folder / "web/starts").write_text(STARTS)
        os.environ.update(WHO="the host", PORT=str(self.port))

    def compose(self, *arguments, **how):
        return self.engine.said("compose", "--project-directory", self.folder, "--progress", "plain", *arguments, **how)

    def starts(self):
        """How often the store was started, as the host is told by the service with the published port."""
        lines = answer(self.port, "/cgi-bin/starts").splitlines()
        return len(lines) - 1 if lines and lines[0] == "hello from the host" else 0


def work(ground, backend):
    sizes = {"memory": 2048, "cpus": 2, "disk": 8, "share": "none"} if backend == "qemu" else {}
    engine = ground.engine(backend, backend=backend, **sizes)
    engine.start()
    client_images.load(engine, ground.box, "box")
    project = Project(engine, ground.work / f"{backend}-project")

    ground.say(f"{backend}: up, with an image that is built and a service that waits for another's health")
    project.compose("up", "-d", "--wait", "--wait-timeout", LONG)
    services = {line["Service"]: line for line in map(json.loads, project.compose("ps", "--format", "json").splitlines())}
    if sorted(services) != ["store", "web", "worker"] or any(line["State"] != "running" for line in services.values()):
        fail(f"services: {services}")
    if services["store"]["Health"] != "healthy":
        fail(f"the store: {services['store']}")

    ground.say(f"{backend}: ports, logs, commands")
    until(lambda: project.starts() == 1, LONG, lambda: f"port {project.port} says {answer(project.port, '/cgi-bin/starts')!r}")
    other = project.compose("port", "web", 81).rpartition(":")[2]
    until(lambda: answer(other, "/") == "other\n", LONG, lambda: f"port {other} says {answer(other, '/')!r}")
    # The engine does not see what the host's connections have, and would not try another port.
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest >= 32768 and int(other) >= lowest:
        fail(f"port {other}, which the engine chose, may at any time be one that the host gives to a connection")
    until(lambda: "the store was there" in project.compose("logs", "--no-color", "worker"), LONG, "the worker's log")
    if project.compose("exec", "-T", "store", "sh", "-c", "cat; cat /data/starts >&2", input=b"through exec") != "through exec":
        fail("what compose exec says")

    ground.say(f"{backend}: {BYTES} bytes into a container and back, to the end")
    sent = os.urandom(BYTES)
    returned = engine.docker("exec", "-i", f"{backend}-project-store-1", "cat", input=sent).stdout
    if hashlib.sha256(returned).digest() != hashlib.sha256(sent).digest():
        fail(f"{len(returned)} bytes of {len(sent)} came back, or others")

    ground.say(f"{backend}: down and up again: the volume stays, and the port is the host's in between")
    project.compose("down", "-t", 2)
    with socket.create_server(("127.0.0.1", project.port)):
        pass
    project.compose("up", "-d", "--wait", "--wait-timeout", LONG)
    until(lambda: project.starts() == 2, LONG, lambda: f"port {project.port} says {answer(project.port, '/cgi-bin/starts')!r}")

    ground.say(f"{backend}: down with everything")
    project.compose("down", "-v", "-t", 2, "--rmi", "local")
    left = [engine.said("ps", "-aq"), engine.said("volume", "ls", "-q"), engine.said("network", "ls", "-q", "--filter", "type=custom")]
    if any(left):
        fail(f"left: {left}")
    if answer(project.port, "/") or answer(other, "/"):
        fail("a port is still open")
    if (there := engine.said("images", "--format", "{{.Repository}}")) != "box":
        fail(f"images: {there}")
    engine.stop()
    engine.nothing_left()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path(__file__).resolve().parents[2] / "target/debug"
    arguments.add_argument("programs", nargs="?", default=default)
    arguments.add_argument("--backend", action="append", choices=["native", "qemu"])
    options = arguments.parse_args()
    try:
        with Ground(options.programs, "compose") as ground:
            # What compose builds with.
            os.environ["DOCKER_BUILDKIT"] = "1"
            client_images.client(ground)
            ground.box = images.archive(ground, "box", images.shell)
            for backend in options.backend or ["native", "qemu"]:
                work(ground, backend)
            ground.say("done")
    except Failed:
        # It was said, with the logs.
        sys.exit(1)


if __name__ == "__main__":
    main()
