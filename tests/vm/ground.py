"""An engine of its own in a temporary folder, for the hostile tests: started, hurt, asked, and gone without a trace."""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

# Everything of this kind only bounds a hang: an emulated machine on a busy host is slow.
LONG = 300

# A program for containers: writes files that it reports once they are on the disk, and reads them again.
WRITER = r"""
use std::fs::{File, create_dir_all};
use std::io::{BufRead, Read, Write};

fn content(round: u64, number: u64) -> Vec<u8> {
    let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03) | 1;
    let mut next = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state };
    let length = next() % 16384 + 1;
    (0..length).map(|_| next().to_le_bytes()[3]).collect()
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let out = std::io::stdout();
    if words[1] == "write" {
        let round: u64 = words[2].parse().unwrap();
        let folder = format!("/files/{round}");
        create_dir_all(&folder).unwrap();
        File::open("/files").unwrap().sync_all().unwrap();
        for number in 1.. {
            // Every other file comes into being under another name, as careful programs do it.
            let path = format!("{folder}/{number}");
            let first = if number % 2 == 0 { format!("{path}.new") } else { path.clone() };
            let mut file = File::create(&first).unwrap();
            file.write_all(&content(round, number)).unwrap();
            file.sync_all().unwrap();
            if first != path { std::fs::rename(&first, &path).unwrap(); }
            File::open(&folder).unwrap().sync_all().unwrap();
            writeln!(out.lock(), "{number}").unwrap();
        }
    }
    // "round last" a line: what is lost is told.
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (round, last) = line.split_once(' ').unwrap();
        for number in 1..=last.parse::<u64>().unwrap() {
            let mut found = Vec::new();
            let read = File::open(format!("/files/{round}/{number}")).and_then(|mut file| file.read_to_end(&mut found));
            let what = match read {
                Err(error) => error.to_string(),
                Ok(0) => "empty".to_string(),
                Ok(_) if found != content(round.parse().unwrap(), number) => "other content".to_string(),
                Ok(_) => continue,
            };
            println!("{round}/{number}: {what}");
        }
    }
    println!("checked");
}
"""
APPLETS = ["sh", "cat", "sleep", "true", "kill", "pidof", "sync", "dd", "seq", "httpd", "date", "rm", "wc", "ls", "nc", "ps", "df", "grep"]


class Failed(Exception):
    """What is not as it must be."""


def fail(words):
    raise Failed(words)


def milliseconds():
    return time.monotonic_ns() // 1_000_000


def until(condition, seconds, words, pause=0.05):
    """Waits for something to be true, and returns what it was."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            fail(words() if callable(words) else words)
        time.sleep(pause)


def processes(words):
    """Process ids whose command line contains these words."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                line = pathlib.Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in line:
                found[int(entry)] = line.strip()
    return found


def children(pid):
    text = "".join(path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split()]


def lives(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        # The first thread may be over while others are not.
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Ground:
    """A temporary folder with everything in it. On the way out nothing of it is left."""

    def __init__(self, programs, name):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=f"berth-{name}-", dir="/tmp"))
        self.berth = str(pathlib.Path(programs).resolve() / "berth")
        self.began = milliseconds()
        self.engines = []
        os.environ["DOCKER_CONFIG"] = str(self.work / "client")
        os.environ["DOCKER_BUILDKIT"] = "0"
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT"]:
            os.environ.pop(name, None)

    def __enter__(self):
        # Who is told to end cleans up as well.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, kind, problem, trace):
        if problem is not None:
            self.tell()
            if isinstance(problem, Failed):
                print(f"FAIL: {problem}", file=sys.stderr, flush=True)
        for engine in self.engines:
            subprocess.run([self.berth, "engine", "stop", "--data", engine.data], capture_output=True, timeout=LONG)
        if os.environ.get("KEEP") and problem is not None:
            return
        for pid in processes(f"{self.work}/"):
            end(pid)
        shutil.rmtree(self.work, ignore_errors=True)

    def tell(self):
        """What the engines that are not stopped have said."""
        for engine in self.engines:
            log = engine.data / "log/supervisor.log"
            if log.exists():
                print(f"-- the end of {log}:", *log.read_text(errors="replace").splitlines()[-30:], sep="\n", file=sys.stderr)
            print(engine.status_text(), file=sys.stderr)

    def say(self, words):
        print(f"-- {words} ({milliseconds() - self.began} ms)", flush=True)

    def engine(self, name, **how):
        engine = Engine(self, name, **how)
        self.engines.append(engine)
        return engine

    def image(self, applets=(), programs=()):
        """A root with busybox, the writer and other static programs in Rust, as a tar."""
        root = self.work / "root"
        (root / "bin").mkdir(parents=True)
        for folder in ["tmp", "www", "files"]:
            (root / folder).mkdir()
        (root / "www/index.html").write_text("hello\n")
        shutil.copy(shutil.which("busybox"), root / "bin/busybox")
        for applet in [*APPLETS, *applets]:
            (root / "bin" / applet).symlink_to("busybox")
        source = self.work / "writer.rs"
        source.write_text(WRITER)
        flags = ["-C", "target-feature=+crt-static", "-C", "opt-level=2", "-C", "strip=symbols"]
        for program in [source, *programs]:
            subprocess.run(["rustc", *flags, "-o", root / "bin" / program.stem, program], check=True, timeout=LONG)
        path = self.work / "root.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(root, ".")
        return path


class Engine:
    """The engine of one data folder."""

    def __init__(self, ground, name, backend="qemu", **sizes):
        self.ground = ground
        self.data = ground.work / name
        self.sizes = [f"--{key}={value}" for key, value in {"backend": backend, **sizes}.items()]
        self.backend = backend

    def run(self, what, *arguments, check=True, timeout=LONG):
        command = [self.ground.berth, "engine", what, "--data", self.data, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            fail(f"berth engine {what}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, **how):
        return self.run("start", *self.sizes, **how)

    def stop(self):
        return self.run("stop")

    def status(self):
        done = self.run("status", "--json", check=False)
        return json.loads(done.stdout)

    def status_text(self):
        return self.run("status", check=False).stdout

    def is_ready(self):
        return self.status()["state"] == "ready"

    def wait_ready(self, seconds=LONG):
        until(self.is_ready, seconds, lambda: f"it is not ready again: {self.status_text()}")

    @property
    def socket(self):
        return pathlib.Path(self.run("socket").stdout.strip())

    def supervisor(self):
        return self.status()["pid"]

    def machine(self):
        """QEMU's process."""
        found = [pid for pid, line in processes(f"{self.data}/vm/data.raw").items() if not line.startswith("python")]
        return found[0] if found else None

    def docker(self, *arguments, check=True, timeout=LONG, **how):
        how.setdefault("stdin", subprocess.DEVNULL) if "input" not in how else None
        command = ["docker", "-H", f"unix://{self.socket}", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, timeout=timeout, **how)
        if check and done.returncode:
            fail(f"docker {' '.join(map(str, arguments))}: {done.stdout.decode()}{done.stderr.decode()}")
        return done

    def said(self, *arguments, **how):
        return self.docker(*arguments, **how).stdout.decode().strip()

    def open(self, *arguments, **how):
        """A docker command that runs on."""
        command = ["docker", "-H", f"unix://{self.socket}", *map(str, arguments)]
        return subprocess.Popen(command, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, **how})

    def ask(self, method, path, timeout=LONG):
        """One call without the docker client: status and body."""
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(str(self.address))
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @property
    def address(self):
        # The path is asked for once: it depends on the data folder alone.
        if not hasattr(self, "known"):
            self.known = self.socket
        return self.known

    def answers(self, timeout=5):
        try:
            return self.ask("GET", "/_ping", timeout) == (200, b"OK")
        except (OSError, http.client.HTTPException):
            return False

    def load_image(self, tar):
        with open(tar, "rb") as file:
            return self.said("import", "-", "box", stdin=file)

    def nothing_left(self):
        """Neither process, socket, mount nor cgroup."""
        runtime = self.address.parent
        until(lambda: not self.own(), 10, lambda: f"processes are left: {self.own()}")
        if runtime.exists():
            fail(f"the runtime folder is left: {list(runtime.iterdir())}")
        if str(self.data) in pathlib.Path("/proc/mounts").read_text():
            fail("mounts are left")
        cgroups = [path for path in pathlib.Path("/sys/fs/cgroup").glob(f"*/berth-{runtime.name}")]
        if cgroups:
            fail(f"cgroups are left: {cgroups}")

    def own(self):
        """Its processes, those of this test aside."""
        pattern = re.compile(re.escape(str(self.data)) + r"( |/|$)")
        return {pid: line for pid, line in processes(str(self.data)).items() if pattern.search(line)}
