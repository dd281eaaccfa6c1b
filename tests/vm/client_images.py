"""Images made of programs of this machine, and a stand-in for the Docker Hub inside an engine that serves them."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

from ground import LONG, fail, until

# busybox's, for images whose tests call them.
SHELL = ["sh", "cat", "sleep", "true", "ls", "ps", "kill", "pidof", "rm", "mkdir", "echo", "date", "wget", "nc", "httpd"]
# Of Python's library, what no container of a test imports and what would be most of an image.
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "distutils", "pydoc_data", "site-packages", "dist-packages"}
# Of the appliance, what an engine within a container does without.
NO_ENGINE = ["usr/lib/modules", "usr/share/doc", "usr/share/man", "usr/share/locale", "boot", "proc", "sys", "dev", "run", "tmp"]
HUB = "127.0.0.1:5999"
APPLIANCE = pathlib.Path(os.environ.get("BERTH_APPLIANCE") or pathlib.Path(__file__).parents[2] / "target/appliance")


def libraries(program):
    """What the loader needs for a program: paths, the loader's included."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=LONG)
    return [pathlib.Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(", done.stdout, re.MULTILINE)]


def put(root, path):
    """A file of this machine at the same place below a root."""
    target = root / path.relative_to("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path.resolve(), target)


def shell(root):
    (root / "bin").mkdir(parents=True)
    for folder in ["tmp", "etc", "root"]:
        (root / folder).mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    busybox = shutil.which("busybox") or fail("there is no busybox")
    if "not a dynamic" not in (done := subprocess.run(["ldd", busybox], capture_output=True, text=True, timeout=LONG)).stderr + done.stdout:
        fail(f"{busybox} is not static")
    shutil.copy(busybox, root / "bin/busybox")
    for applet in SHELL:
        (root / "bin" / applet).symlink_to("busybox")


def python(root):
    """The Python of this machine, under its own paths, which it finds its library by."""
    shell(root)
    program = next(path for path in ["/usr/bin/python3", shutil.which("python3")] if path and os.path.exists(path))
    asked = "import sys, sysconfig; print(sys.executable, sysconfig.get_path('stdlib'), sep='\\n')"
    said = subprocess.run([program, "-I", "-c", asked], capture_output=True, text=True, check=True, timeout=LONG).stdout
    program, library = (pathlib.Path(line).resolve() for line in said.splitlines())
    # Its compiled modules are right only beside sources of the same time, which is kept.
    put(root, program)
    shutil.copytree(library, root / library.relative_to("/"), symlinks=True, ignore=not_needed)
    for needs in [program, *library.glob("lib-dynload/*.so")]:
        for path in libraries(needs):
            put(root, path)
    for name in ["python", "python3"]:
        link = root / "usr/local/bin" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(program)


def not_needed(folder, names):
    return [name for name in names if name in LEFT_OUT or name.startswith("config-") or ".opt-" in name]


def registry(root):
    """The registry of this machine, called as the image of that name calls it."""
    shell(root)
    program = pathlib.Path(os.environ.get("BERTH_REGISTRY") or shutil.which("docker-registry") or fail("there is no docker-registry"))
    target = root / "bin/registry"
    shutil.copy2(program, target)
    for path in libraries(program):
        put(root, path)
    (root / "etc/registry.yml").write_text(
        "version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: /data}, delete: {enabled: true}}\nhttp: {addr: ':5000'}\n"
    )


def archive(ground, name, fill):
    """The tar of a root that a function fills."""
    root = ground.work / "roots" / name
    root.mkdir(parents=True)
    fill(root)
    path = root.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(root, ".")
    shutil.rmtree(root)
    return path


class Images:
    """The archives, made once for several engines."""

    def __init__(self, ground):
        self.python = archive(ground, "python", python)
        self.registry = archive(ground, "registry", registry)

    def load(self, engine):
        self.load_python(engine)
        self.load_registry(engine)

    def load_python(self, engine):
        load(engine, self.python, "python:3.13-alpine", 'CMD ["python3"]')
        # Two that differ, for there is an update from one to the other.
        engine.docker("build", "-q", "-t", "python:3.14-alpine", "-", input=b"FROM python:3.13-alpine\nLABEL version=3.14\n")
        engine.docker("tag", "python:3.13-alpine", "python:latest")

    def load_registry(self, engine):
        load(engine, self.registry, "registry:2", 'ENTRYPOINT ["/bin/registry"]', 'CMD ["serve", "/etc/registry.yml"]', "ENV OTEL_TRACES_EXPORTER=none")

    def load_inner_engine(self, engine):
        """The appliance's own engine, to be run in a container."""
        root = (APPLIANCE / "root").resolve()
        left_out = [f"--exclude=./{path}/*" for path in NO_ENGINE]
        with subprocess.Popen(["tar", "--numeric-owner", *left_out, "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            engine.docker("import", "--change=VOLUME /var/lib/docker", "-", "docker:dind", stdin=tar.stdout)


def load(engine, path, name, *changes):
    with open(path, "rb") as file:
        engine.docker("import", *(f"--change={change}" for change in changes), "-", name, stdin=file)


def client(ground):
    """What extends the docker command, where it looks for it."""
    folder = ground.work / "client/cli-plugins"
    folder.mkdir(parents=True)
    there = (APPLIANCE / "root/usr/libexec/docker/cli-plugins").resolve()
    for plugin in ["docker-compose", "docker-buildx"]:
        (folder / plugin).symlink_to(there / plugin)


def open_hub(engine, images):
    """A registry in the engine that answers for the Docker Hub, with these images in it. The engine is told by its own
    configuration, as an administrator would."""
    engine.docker("run", "-d", "--name", "hub", "--network", "host", "-e", f"REGISTRY_HTTP_ADDR={HUB}", "registry:2")
    for image in images:
        there = f"{HUB}/library/{image}"
        engine.docker("tag", image, there)
        until(lambda name=there: engine.docker("push", "-q", name, check=False).returncode == 0, LONG, f"{image} cannot be pushed")
        engine.docker("rmi", there)
    told = json.dumps({"registry-mirrors": [f"http://{HUB}"]})
    words = "cat >/d/daemon.json && kill -HUP $(pidof dockerd)"
    engine.docker("run", "--rm", "-i", "--privileged", "--pid=host", "-v", "/etc/docker:/d", "python:latest", "sh", "-c", words, input=told.encode())
    until(lambda: HUB in engine.said("info", "-f", "{{.RegistryConfig.Mirrors}}"), LONG, "the engine does not take its new configuration")
