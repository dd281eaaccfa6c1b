#!/usr/bin/env python3
"""The bundled engine without root: as root, with a built appliance, `docker`, newuidmap, slirp4netns and a static busybox.
    tests/engine/rootless.py [folder of berth and berth-guest]
It makes a user whom nobody else sees, starts his engine, and fails unless nothing of it is left."""

import contextlib
import http.client
import http.server
import os
import pathlib
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "vm"))

import ground  # noqa: E402
from ground import Ground, fail, until  # noqa: E402

USER = f"berth-test-{os.getpid()}"
APPLETS = ["sh", "httpd", "nc", "cat", "sleep", "true", "id", "mkdir", "chown", "touch", "timeout", "printf", "ls"]


def enter_mounts_of_our_own():
    """What is mounted for this test is seen by this test and what it starts, and gone with it."""
    if os.environ.get("BERTH_ROOTLESS_TEST") is None:
        os.environ["BERTH_ROOTLESS_TEST"] = "apart"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])


def make_user():
    """In an /etc of this test's own: a changed /etc/passwd would undo the mounts that others have made on the old one."""
    copy = tempfile.mkdtemp(prefix="berth-etc-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "etc", copy], check=True)
    subprocess.run(["cp", "-a", "/etc/.", copy], check=True)
    subprocess.run(["mount", "--bind", copy, "/etc"], check=True)
    subprocess.run(["umount", copy], check=True)
    os.rmdir(copy)
    made = quietly("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", USER)
    if made.returncode:
        sys.exit(f"a user cannot be made: {made.stderr}")


def quietly(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=ground.LONG)


def hide(program):
    path = shutil.which(program)
    if path:
        subprocess.run(["mount", "--bind", "/dev/null", path], check=True)
    return path


def prepare(place):
    """What the user needs and may be where he cannot go: the programs, the appliance, a folder for sockets, a way out."""
    place.work.chmod(0o755)
    programs = place.work / "bin"
    programs.mkdir()
    for name in ["berth", "berth-guest"]:
        shutil.copy(pathlib.Path(place.berth).parent / name, programs / name)
    appliance = pathlib.Path(os.environ.get("BERTH_APPLIANCE") or pathlib.Path(place.berth).parent.parent / "appliance")
    own = place.work / "appliance"
    own.mkdir()
    shutil.copy(appliance / "manifest.json", own)
    root = (appliance / "root").resolve()
    # As links where the file system allows it.
    if subprocess.run(["cp", "-al", root, own / "root"], capture_output=True).returncode:
        shutil.rmtree(own / "root", ignore_errors=True)
        subprocess.run(["cp", "-a", root, own / "root"], check=True)
    tun = place.work / "tun"
    os.mknod(tun, 0o666 | 0o020000, os.makedev(10, 200))
    tun.chmod(0o666)
    subprocess.run(["mount", "--bind", tun, "/dev/net/tun"], check=True)


def give_engine_to_user(place):
    user = pwd.getpwnam(USER)
    for name in ["home", "runtime"]:
        folder = place.work / name
        folder.mkdir(mode=0o700)
        os.chown(folder, user.pw_uid, user.pw_gid)
    wrapper = place.work / "berth"
    wrapper.write_text(f"""#!/bin/sh
[ -z "$ROOTLESS_CGROUP" ] || echo $$ >"$ROOTLESS_CGROUP/cgroup.procs"
exec setpriv --reuid {user.pw_uid} --regid {user.pw_gid} --init-groups env -i -C / PATH="${{ROOTLESS_PATH:-$PATH}}" HOME={place.work}/home \\
  XDG_RUNTIME_DIR={place.work}/runtime BERTH_APPLIANCE={place.work}/appliance {place.work}/bin/berth "$@"
""")
    wrapper.chmod(0o755)
    place.berth = str(wrapper)
    return user


def image(place):
    root = place.work / "root"
    (root / "bin").mkdir(parents=True)
    for folder in ["tmp", "www", "files"]:
        (root / folder).mkdir()
    (root / "www/index.html").write_text("hello\n")
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    path = place.work / "root.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(root, ".")
    return path


def page(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/index.html")
        return connection.getresponse().read()
    except OSError:
        return None
    finally:
        connection.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def refused(engine, words, **environment):
    done = subprocess.run(
        [engine.ground.berth, "engine", "start", "--data", engine.data], capture_output=True, text=True, timeout=ground.LONG,
        env={**os.environ, **environment},
    )
    text = done.stderr
    if done.returncode == 0 or words not in text:
        fail(f"start was to be refused with {words!r}, and ended with {done.returncode}: {done.stdout}{text}")
    return text


def address_of_this_computer():
    """One that is not of the loopback, if there is any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the kernel only chooses an address.
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return None


def reaches_out(engine):
    """Containers get to this computer by its address, and to its loopback by none."""
    address = address_of_this_computer()
    if address is None:
        print("there is no address to reach: the way out was not tried")
        return
    server = http.server.HTTPServer(("0.0.0.0", 0), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    question = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 10 nc {} {}"
    try:
        said = engine.said("run", "--rm", "box", "sh", "-c", question.format(address, port))
        if "out there" not in said:
            fail(f"no way out: {said!r}")
        said = engine.docker("run", "--rm", "box", "sh", "-c", question.format("198.19.93.2", port), check=False)
        if b"out there" in said.stdout:
            fail("the gateway leads to the loopback of this computer")
    finally:
        server.shutdown()


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"out there\n")

    def log_message(self, *words):
        pass


def processes_of(first, last):
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            text = status.read_text()
            uid = int(re.search(r"^Uid:\s+(\d+)", text, re.M)[1])
            if first <= uid <= last and not re.search(r"^State:\s+Z", text, re.M):
                found.append((uid, text.splitlines()[0]))
    return found


def nothing_left(engine, user, ids):
    engine.nothing_left()
    left = processes_of(user.pw_uid, user.pw_uid) + processes_of(*ids)
    if left:
        fail(f"processes are left: {left}")
    if cgroups := [path for path in pathlib.Path("/sys/fs/cgroup").rglob(f"berth-{engine.address.parent.name}*")]:
        fail(f"cgroups are left: {cgroups}")


def tests(place):
    prepare(place)
    user = give_engine_to_user(place)
    engine = place.engine("data", backend="native")
    engine.data.mkdir()
    os.chown(engine.data, user.pw_uid, user.pw_gid)

    place.say("what is missing is named, with the way to get it")
    refused(engine, "the package `uidmap`", ROOTLESS_PATH="/nowhere")
    text = refused(engine, "/etc/subuid sets no ids aside")
    line = re.search(r"`(usermod [^`]*)`", text)
    if not line:
        fail(f"no command in {text}")
    subprocess.run(shlex.split(line[1]), check=True)
    first, last = map(int, re.search(r"--add-subuids (\d+)-(\d+)", line[1]).groups())
    ids = (first, last)
    if any(engine.data.iterdir()):
        fail(f"something was left by a start that was refused: {list(engine.data.iterdir())}")

    place.say("start")
    engine.start()
    status = engine.status()
    if status["state"] != "ready" or not status["features"]["rootless"]:
        fail(f"not ready: {status}")
    if "limits on memory" not in " ".join(status["notes"]):
        fail(f"it is not said that limits do not hold: {status['notes']}")
    modes = [path.stat() for path in [engine.address, engine.address.parent]]
    if [mode.st_mode & 0o777 for mode in modes] != [0o600, 0o700] or {mode.st_uid for mode in modes} != {user.pw_uid}:
        fail(f"the socket is open to others: {modes}")
    if "rootless" not in engine.said("info", "--format", "{{.SecurityOptions}}"):
        fail("dockerd does not know that it is not root")
    engine.load_image(image(place))

    place.say("a container, its port, its files")
    shared = place.work / "home/shared"
    shared.mkdir()
    os.chown(shared, user.pw_uid, user.pw_gid)
    port = free_port()
    engine.said(
        "run", "-d", "--name", "web", "-p", f"{port}:80", "-v", f"{shared}:/shared", "-v", "kept:/files", "box",
        "sh", "-c", "touch /shared/roots && mkdir /files/theirs && touch /files/theirs/one && chown -R 1000:1000 /files/theirs"
        " && httpd -f -p 80 -h /www",
    )
    until(lambda: page("127.0.0.1", port) == b"hello\n", 10, "the published port does not answer")
    if socket.has_ipv6 and page("::1", port) not in (b"hello\n", None):
        fail("another answer over IPv6")
    if (shared / "roots").stat().st_uid != user.pw_uid:
        fail("root in the container is not the user")
    theirs = engine.data / "docker/volumes/kept/_data/theirs/one"
    if not first <= theirs.stat().st_uid <= last:
        fail("somebody in the container is somebody out of the user's ids")
    if engine.said("run", "--rm", "-v", "kept:/files", "box", "ls", "/files/theirs") != "one":
        fail("the volume is not kept")
    (theirs.parent).chmod(0o700)

    place.say("input, output, a build")
    sent = os.urandom(1 << 20)
    if engine.docker("exec", "-i", "web", "cat", input=sent).stdout != sent:
        fail("a megabyte through exec came back as something else")
    recipe = place.work / "recipe"
    recipe.mkdir()
    (recipe / "Dockerfile").write_text("FROM box\nRUN touch /built && id\nUSER 1000\n")
    engine.said("build", "-t", "built", recipe)
    if not engine.said("run", "--rm", "built", "id").startswith("uid=1000"):
        fail("the built image has another user")

    place.say("ports that are not this user's")
    start_of_all = int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if start_of_all > 1:
        said = engine.docker("run", "--rm", "-p", f"{start_of_all - 1}:80", "box", "true", check=False).stderr.decode()
        if f"sysctl -w net.ipv4.ip_unprivileged_port_start={start_of_all - 1}" not in said:
            fail(f"message: {said}")

    place.say("the way out")
    reaches_out(engine)

    place.say("kill -9 of dockerd")
    pid = engine.said("inspect", "-f", "{{.State.Pid}}", "web")
    [dockerd] = [process for process in ground.processes("/usr/sbin/dockerd --config-file") if uid_of(process) == user.pw_uid]
    ground.end(dockerd)
    until(lambda: engine.answers() and engine.said("inspect", "-f", "{{.State.Pid}}", "web") == pid, 30, "it does not come back")
    until(lambda: page("127.0.0.1", port) == b"hello\n", 10, "its port does not come back")

    place.say("root leaves it alone")
    done = quietly(place.work / "bin/berth", "engine", "start", "--data", engine.data)
    if done.returncode == 0 or f"belongs to user {user.pw_uid}" not in done.stderr:
        fail(f"root started the user's engine: {done.stdout}{done.stderr}")

    place.say("kill -9 of the supervisor, then stop")
    ground.end(engine.supervisor())
    engine.stop()
    nothing_left(engine, user, ids)
    if page("127.0.0.1", port) is not None:
        fail("the port is still open")

    if hide("pasta"):
        place.say("the way out through slirp4netns")
        engine.start()
        reaches_out(engine)
        engine.stop()
        nothing_left(engine, user, ids)

    place.say("limits, in a cgroup that was left to the user")
    limits(engine, user)
    nothing_left(engine, user, ids)

    place.say("reset")
    engine.run("reset", "--all", "--yes")
    left = sorted(path.name for path in engine.data.iterdir())
    if left != ["engine.lock", "guest.lock"]:
        fail(f"left of the data: {left}")


def limits(engine, user):
    """On a host with both versions, the second one takes the place of the first, for this test alone."""
    mount = pathlib.Path("/sys/fs/cgroup")
    if not (mount / "cgroup.controllers").exists():
        subprocess.run(["umount", "--recursive", "--lazy", mount], check=True)
        subprocess.run(["mount", "-t", "cgroup2", "none", mount], check=True)
    left = mount / USER
    left.mkdir()
    try:
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]:
            os.chown(left / name, user.pw_uid, user.pw_gid)
        # As systemd marks it, which may be there.
        os.setxattr(left, "user.delegate", b"1")
        os.environ["ROOTLESS_CGROUP"] = str(left)
        engine.start()
        del os.environ["ROOTLESS_CGROUP"]
        own = left / f"berth-{engine.address.parent.name}"
        notes = " ".join(engine.status()["notes"])
        controllers = (left / "cgroup.controllers").read_text().split()
        for limit in ["cpu", "memory", "pids"]:
            if (limit in controllers) == (limit in notes):
                fail(f"the controllers are {controllers}, and it says {notes!r}")
        print(f"controllers: {' '.join(controllers)}; {notes or 'every limit holds'}")
        container = engine.said("run", "-d", "--name", "held", "-m", "64m", "box", "sleep", "1000")
        if not (own / "containers" / container).is_dir():
            fail(f"the container is not below {own}")
        engine.said("pause", "held")
        if engine.said("inspect", "-f", "{{.State.Status}}", "held") != "paused":
            fail("it is not paused")
        if "frozen 1" not in (own / "containers" / container / "cgroup.events").read_text():
            fail("it says it is paused and is not frozen")
        engine.said("unpause", "held")
        if "memory" in controllers:
            if (own / "containers" / container / "memory.max").read_text().strip() != str(64 << 20):
                fail("the limit on memory does not hold")
        engine.said("build", "-t", "built", engine.ground.work / "recipe", "--no-cache")
        ground.end(engine.supervisor())
        engine.stop()
        # Whom a supervisor that was killed has moved, its successor moves back.
        os.environ["ROOTLESS_CGROUP"] = f"{own}.supervisor"
        engine.start()
        del os.environ["ROOTLESS_CGROUP"]
        engine.stop()
        if below := [path.name for path in left.iterdir() if path.is_dir()]:
            fail(f"cgroups are left: {below}")
    finally:
        os.environ.pop("ROOTLESS_CGROUP", None)
        # Who has just ended may still be counted.
        until(lambda: removed(left), 10, lambda: f"in {left} is left: {(left / 'cgroup.procs').read_text()}")


def removed(cgroup):
    try:
        cgroup.rmdir()
    except OSError:
        return False
    return True


def uid_of(pid):
    return os.stat(f"/proc/{pid}").st_uid


def main():
    enter_mounts_of_our_own()
    programs = sys.argv[1] if len(sys.argv) > 1 else HERE.parent.parent / "target/debug"
    make_user()
    with Ground(programs, "rootless") as place:
        tests(place)
    print("ok")


if __name__ == "__main__":
    main()
