"""Whose engine it is, and where: two supervisors, strange paths, a disk that cannot be written, two users at once."""

import errno
import os
import pathlib
import shutil
import socket
import subprocess

from doors import free_port
from ground import LONG, Engine, fail, until
from hostile import reached
from rooms import Small

NOBODY = 65534


def owner(edges):
    """A second supervisor on a data folder is refused, with who has it (case 16)"""
    engine = edges.engine()
    second = subprocess.run([edges.ground.berth, "engine", "run", "--data", engine.data], capture_output=True, text=True, timeout=LONG)
    if second.returncode == 0 or str(engine.supervisor()) not in second.stderr:
        fail(f"a second supervisor: {second}")
    edges.ground.say(f"   it says: {second.stderr.strip()}")
    # Nor is it hurt by the try.
    engine.docker("version")
    if not engine.start().stdout:
        fail("a start of one that runs says nothing")
    edges.dropped(engine)


def names(edges):
    """Folders with spaces, quotes, other letters and great length work; what cannot work is told clearly (case 16)"""
    strange = "wörk sp,ce, 'one' \"two\" $(three) 四\\n=ü"
    long = "/".join(["a folder with a long name " * 8] * 4)
    engine = edges.ground.engine(f"{strange}/{long}/data", **edges.snapshot.sizes)
    edges.snapshot.lay(engine)
    edges.snapshot.begin(engine)
    edges.ground.say(f"   a path of {len(os.fsencode(engine.data))} bytes, and sockets of {len(os.fsencode(engine.address))}")
    engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
    until(lambda: reached(engine.said("port", "web", "80")), LONG, "a port is not reached")
    if pathlib.Path(engine.status()["data"]) != engine.data:
        fail(f"the status names another folder: {engine.status()['data']}")
    engine.docker("rm", "-f", "web")
    edges.over(engine)
    if left := [line for line in all_processes() if str(engine.address.parent) in line]:
        fail(f"processes are left: {left}")
    too_long = edges.ground.engine("/".join(["x" * 200] * 25), **edges.snapshot.sizes)
    refused(edges, too_long, "too long")
    with Small(edges.ground.work / "fixed", "ro,size=1m") as folder:
        refused(edges, edges.ground.engine("fixed/data", **edges.snapshot.sizes), "ead-only")
        if any(folder.iterdir()):
            fail("something was written where nothing can be")
    file = edges.ground.work / "file"
    file.touch()
    refused(edges, edges.ground.engine("file/data", **edges.snapshot.sizes), "ot a directory")


def all_processes():
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue


def refused(edges, engine, why):
    done = engine.start(check=False)
    said = done.stdout + done.stderr
    if done.returncode == 0 or why not in said:
        fail(f"{engine.data}: {done.returncode}: {said}")
    words = said.strip().replace(str(engine.data), "…")
    edges.ground.say(f"   it says: {words}")
    edges.forget(engine)


def users(edges):
    """Root and a user without rights run an engine each, at once, and neither reaches the other's (case 16)"""
    work = edges.ground.work
    home = work / "user"
    # Where a user may look: nobody else's folders are opened for it.
    work.chmod(0o711)
    programs = work / "programs"
    programs.mkdir()
    for name in ["berth", "berth-guest"]:
        shutil.copy(pathlib.Path(edges.ground.berth).with_name(name), programs)
    (home / "run").mkdir(parents=True)
    roots = edges.engine()
    appliance = work / "appliance"
    shutil.copytree(os.environ["BERTH_APPLIANCE"], appliance, ignore=shutil.ignore_patterns("root*"))
    # Of the tree that the other backend runs only this is looked for.
    (appliance / "root/usr/sbin").mkdir(parents=True)
    (appliance / "root/usr/sbin/dockerd").touch()
    engine = Users(edges.ground, "user/data", appliance, home, **edges.snapshot.sizes)
    edges.ground.engines.append(engine)
    edges.snapshot.lay(engine)
    for folder, _, files in os.walk(home):
        for path in [folder, *(os.path.join(folder, file) for file in files)]:
            os.lchown(path, NOBODY, NOBODY)
    (home / "run").chmod(0o700)
    for path in [work / "shim", work / "snapshot", edges.snapshot.state]:
        path.chmod(path.stat().st_mode | 0o055 if path.is_dir() else 0o644)
    edges.snapshot.begin(engine)
    owner_of = pathlib.Path(f"/proc/{engine.supervisor()}").stat().st_uid
    if owner_of != NOBODY:
        fail(f"the user's engine is run by {owner_of}")
    for each, port in [(roots, free_port()), (engine, free_port(range(31000, 32000)))]:
        each.docker("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", "box", "httpd", "-f", "-p", "80", "-h", "/www")
    for each in [roots, engine]:
        until(lambda: reached(each.said("port", "web", "80")), LONG, "a port is not reached")
    # Containers of this host may be where every port is anybody's.
    if int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) >= 1024:
        low = free_port(range(1023, 512, -1))
        said = engine.docker("run", "--rm", "-p", f"127.0.0.1:{low}:80", "box", "true", check=False)
        if not said.returncode or b"may not be opened by this user" not in said.stderr:
            fail(f"a port that is root's: {said}")
    # What a user is told of an engine that is root's is another matter; it must go on, and stay closed.
    supervisor = roots.supervisor()
    engine.run("stop", as_data=roots.data, check=False)
    for name in ["docker.sock", "watch.sock", "control.sock", "agent.sock"]:
        if (code := as_nobody(lambda: reach(roots.address.with_name(name)))) != errno.EACCES:
            fail(f"a user reaches root's {name}: {code}")
    if not roots.is_ready() or roots.supervisor() != supervisor:
        fail("a user stops root's engine")
    for each in [roots, engine]:
        each.docker("rm", "-f", "web")
        edges.over(each)


def as_nobody(do):
    """Does it as a user without rights, and returns what that came to."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = do()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reach(path):
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path))


class Users(Engine):
    """The engine of a user without rights."""

    def __init__(self, ground, name, appliance, home, **how):
        super().__init__(ground, name, **how)
        variables = {"HOME": home, "XDG_RUNTIME_DIR": home / "run", "BERTH_APPLIANCE": appliance, "PATH": os.environ["PATH"]}
        self.before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "-i",
                       *(f"{name}={value}" for name, value in variables.items())]

    def run(self, what, *arguments, check=True, timeout=LONG, as_data=None):
        command = [*self.before, self.ground.work / "programs/berth", "engine", what, "--data", as_data or self.data, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd="/")
        if check and done.returncode:
            fail(f"berth engine {what} of a user: {done.returncode}: {done.stdout}{done.stderr}")
        return done
