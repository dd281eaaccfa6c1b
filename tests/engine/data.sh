#!/usr/bin/env bash
# The data of the native engine, kept and brought back for real: as root, with a built appliance, `docker`, python3 and a
# static busybox.
#   tests/engine/data.sh [folder of berth and berth-guest] [MiB of bytes in a volume]
# It makes an engine of its own in a temporary folder and fails unless nothing of it is left.
set -euo pipefail

programs=$(realpath "${1:-"$(dirname "$0")/../../target/debug"}")
mib=${2:-48}
work=$(mktemp -d /tmp/berth-data-XXXXXX)
berth=$programs/berth
unset DOCKER_HOST DOCKER_CONTEXT
export DOCKER_CONFIG=$work/client
fail() { echo "FAIL: $*" >&2; tail -n 20 "$work/one/log/supervisor.log" >&2 || true; exit 1; }
now() { date +%s%3N; }
began=$(now)
say() { echo "-- $* ($(($(now) - began)) ms)"; }
# Generous: they only bound a hang.
engine() { local what=$1; shift; timeout 240 "$berth" engine "$what" --data "$work/one" "$@"; }
on() { timeout 60 docker -H "unix://$(engine socket)" "$@"; }
said() { grep -q -- "$1" "$work/said" || fail "words: $(cat "$work/said")"; }
cleanup() {
  timeout 120 "$berth" engine stop --data "$work/one" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

# All that the files of a folder are, a line each; with two folders, where they differ.
cat >"$work/tree.py" <<'PYTHON'
import hashlib, os, stat, sys

def tree(root):
    seen, lines = {}, []
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            of = os.lstat(path)
            if stat.S_ISSOCK(of.st_mode):
                continue
            line = [os.path.relpath(path, root), oct(of.st_mode), of.st_uid, of.st_gid, of.st_mtime_ns, of.st_rdev]
            line += [(name, os.getxattr(path, name, follow_symlinks=False).hex())
                     for name in sorted(os.listxattr(path, follow_symlinks=False))]
            if stat.S_ISLNK(of.st_mode):
                line.append(os.readlink(path))
            if not stat.S_ISDIR(of.st_mode):
                line += [of.st_nlink, seen.setdefault(of.st_ino, line[0])]
            if stat.S_ISREG(of.st_mode):
                with open(path, "rb") as file:
                    line += [of.st_size, hashlib.file_digest(file, "sha256").hexdigest()]
                line.append("holes" if of.st_blocks * 512 < of.st_size // 2 else "no holes")
            lines.append(repr(line))
    return sorted(lines)

if len(sys.argv) > 2:
    one, other = tree(sys.argv[1]), tree(sys.argv[2])
    for line in sorted(set(one) ^ set(other))[:20]:
        print(line)
    sys.exit(one != other)
lines = tree(sys.argv[1])
print(len(lines), hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest())
PYTHON
tree() { for name in docker containerd; do python3 "$work/tree.py" "$work/one/$name"; done; }

say "an engine with an image, containers, and a volume of everything"
engine start >/dev/null
mkdir -p "$work/image/bin" "$work/image/tmp" "$work/image/gone"
cp "$(command -v busybox)" "$work/image/bin/busybox"
for applet in sh cat sha256sum sync rm mkdir touch ls true test; do ln -sf busybox "$work/image/bin/$applet"; done
echo old >"$work/image/gone/file"
tar -C "$work/image" -c . | on import - busybox >/dev/null
# A file that is removed and a folder that is made anew leave a whiteout and an opaque folder in the container's layer.
on run --name worker -v files:/files busybox sh -c \
  'rm /gone/file; rm -r /tmp && mkdir /tmp && touch /tmp/new; echo mine >/mine; test -d /files'
on commit worker busybox:worker >/dev/null
volume=$(on volume inspect files -f '{{.Mountpoint}}')
volume=$work/one/docker/${volume#/var/lib/docker/}
[ -d "$volume" ] || fail "where the volume is: $volume"
python3 - "$volume" "$mib" <<'PYTHON'
import os, socket, stat, sys
root, mib = sys.argv[1], int(sys.argv[2])
os.chdir(root)
with open("bytes", "wb") as file:
    for _ in range(mib):
        file.write(os.urandom(1 << 20))
with open("holes", "wb") as file:
    file.truncate(400 << 20)
    for at in (0, 100 << 20, (400 << 20) - 3):
        file.seek(at)
        file.write(b"end")
for number in range(2000):
    os.makedirs(f"many/{number % 40}", exist_ok=True)
    with open(f"many/{number % 40}/{number}", "w") as file:
        file.write("x" * number)
os.link("bytes", "many/bytes")
os.symlink("/etc/passwd", "link")
os.link("link", "link too", follow_symlinks=False)
os.mkfifo("pipe")
os.mknod("whiteout", stat.S_IFCHR | 0o000, os.makedev(0, 0))
os.mknod("device", stat.S_IFBLK | 0o640, os.makedev(7, 200))
socket.socket(socket.AF_UNIX).bind("socket")
os.makedirs(b"\xff\xfe not text/new\nline")
os.setxattr("many", "trusted.overlay.opaque", b"y")
os.setxattr("bytes", "user.lines", b"a\nb\0c\n")
os.setxattr("bytes", "security.capability", bytes.fromhex("0100000200200000000000000a00000000000000"))
os.chmod("many", 0o3751)
os.lchown("link", 3000000000, 12)
os.lchown("many/1", 1000, 1000)
os.utime("link", ns=(1, 1234567890123456789), follow_symlinks=False)
os.utime("pipe", ns=(1, -1500000000))
os.utime("many", ns=(1, 987654321))
PYTHON
used() { on run --rm -v files:/files busybox sh -c 'sha256sum </files/bytes; cat /files/many/7/7 /files/many/1/1'; }
content=$(used)

say "a running engine is not kept"
! engine backup "$work/kept" 2>"$work/said" || fail "a backup while it runs"
said 'berth engine stop'
engine stop >/dev/null
before=$(tree)
cp -a "$work/one" "$work/copy"

say "backup"
at=$(now)
engine backup "$work/kept"
echo "   $(du -sm "$work/one/docker" | cut -f 1) MiB in $(echo "$before" | cut -d ' ' -f 1 | paste -sd +) files, backup of \
$(($(stat -c %s "$work/kept") >> 20)) MiB in $(($(now) - at)) ms"
[ "$(stat -c %a "$work/kept")" = 600 ] || fail "its mode"
[ "$(tree)" = "$before" ] || fail "a backup changed the data"
! engine backup "$work/kept" 2>"$work/said" || fail "a file is replaced unasked"

say "everything is forgotten, and comes back"
engine reset --all --yes >/dev/null
head -c -1000 "$work/kept" >"$work/cut"
! engine restore "$work/cut" 2>"$work/said" || fail "a cut file is taken"
said 'is damaged'
[ -z "$(find "$work/one" -maxdepth 1 -name docker -o -maxdepth 1 -name '.re*')" ] || fail "left: $(ls -A "$work/one")"
at=$(now)
engine restore "$work/kept"
took=$(($(now) - at))
echo "   restored in $took ms"
for name in docker containerd; do
  python3 "$work/tree.py" "$work/copy/$name" "$work/one/$name" || fail "$name is not what it was"
done
[ "$(tree)" = "$before" ] || fail "other files"
[ "$(du -sm "$work/one/docker" | cut -f 1)" -lt $((mib + 100)) ] || fail "not sparse"

say "and works"
engine start >/dev/null
[ "$(used)" = "$content" ] || fail "other content"
[ "$(on run --rm busybox:worker sh -c 'cat /mine; ls /gone /tmp')" = "$(printf 'mine\n/gone:\n\n/tmp:\nnew')" ] || fail "the layer"
on start worker >/dev/null
[ "$(on wait worker)" = 0 ] || fail "the container does not run in its layer"
[ "$(on diff worker | sort)" != "" ] || fail "its changes"
engine stop >/dev/null

say "a restore that is killed anywhere leaves all of the old or all of the new"
rm -rf "$work/copy"
cut=0 new=0
for round in $(seq 16); do
  pause=$((took * round / 6))
  marker=$work/one/docker/marker
  [ -e "$marker" ] || echo old >"$marker"
  "$berth" engine restore --data "$work/one" "$work/kept" --force >/dev/null 2>&1 &
  sleep "$((pause / 1000)).$(printf %03d $((pause % 1000)))"
  kill -9 $! 2>/dev/null || true
  code=0; wait $! 2>/dev/null || code=$?
  [ "$code" != 137 ] || cut=$((cut + 1))
  # Whoever comes next finishes what was decided: here a backup that ends at once, for its file exists.
  engine backup "$work/kept" >/dev/null 2>&1 || true
  if [ -e "$marker" ]; then
    rm "$marker"
    [ -e "$work/one/docker/volumes/files/_data/bytes" ] || fail "no data after a kill at $pause ms"
  else
    new=$((new + 1))
    [ "$(tree)" = "$before" ] || fail "neither the old nor the new after a kill at $pause ms"
  fi
done
echo "   $cut of 16 were killed before they ended; after $new the new is there, after the others the old"
engine restore "$work/kept" --force >/dev/null
[ "$(tree)" = "$before" ] || fail "other files after kills"
engine start >/dev/null
[ "$(used)" = "$content" ] || fail "other content after kills"
engine stop >/dev/null
"$berth" engine restore --data "$work/one" "$work/kept" --force >/dev/null 2>&1 &
sleep 0.2
kill -9 $! 2>/dev/null || true
wait $! 2>/dev/null || true
engine reset --keep-data >/dev/null
[ -z "$(find "$work/one" -maxdepth 1 -name '.re*')" ] || fail "a leftover"
! pgrep -f -- "$work/one( |/|\$)" >/dev/null || fail "processes are left"
[ ! -e "$(dirname "$(engine socket)")" ] || fail "the runtime folder is left"
say "done"
