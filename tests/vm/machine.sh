#!/usr/bin/env bash
# The engine in its machine for real: with a built appliance, QEMU, `docker`, `curl`, python3, rustc and a static busybox.
#   tests/vm/machine.sh [folder of berth]
# It makes engines of its own in a temporary folder and fails unless nothing of them is left.
set -Eeuo pipefail

programs=$(realpath "${1:-"$(dirname "$0")/../../target/debug"}")
work=$(mktemp -d /tmp/berth-machine-XXXXXX)
berth=$programs/berth
unset DOCKER_HOST DOCKER_CONTEXT
export DOCKER_CONFIG=$work/client
fail() { echo "FAIL: $*" >&2; tail -n 20 "$work"/*/log/supervisor.log >&2 || true; exit 1; }
say() { echo "-- $* ($(($(now) - began)) ms)"; }
now() { date +%s%3N; }
began=$(now)
# Generous: they only bound a hang. An emulated machine on a busy host is slow.
engine() { local what=$1 which=$2; shift 2; timeout 300 "$berth" engine "$what" --data "$work/$which" "$@"; }
on() { local which=$1; shift; timeout 120 docker -H "unix://$(engine socket "$which")" "$@"; }
state() { engine status "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]] or "")' "$2"; }
# Waits until a command succeeds.
until_ok() { local end=$(($(now) + $1)); shift; until "$@" >/dev/null 2>&1; do [ "$(now)" -lt "$end" ] || return 1; sleep 0.1; done; }
is() { [ "$(state "$1" state)" = "$2" ]; }
machine() { pgrep -f -- "$work/$1/vm/data.raw" | head -n 1; }
cleanup() {
  for data in "$work"/*/engine.lock; do timeout 120 "$berth" engine stop --data "${data%/*}" >/dev/null 2>&1 || true; done
  pkill -9 -f -- "$work/" 2>/dev/null || true
  rm -rf "$work"
}
# A command that fails without a word of this script's is told with the supervisor's.
trap 'echo "FAIL: line $LINENO" >&2; tail -n 20 "$work"/*/log/supervisor.log >&2 || true' ERR
trap cleanup EXIT

nothing_left() {
  local folder
  folder=$(dirname "$(engine socket "$1")")
  until_ok 2000 gone "$1" || fail "processes: $(pgrep -af -- "$work/$1")"
  [ ! -e "$folder" ] || fail "runtime folder of $1: $(ls "$folder")"
  ! grep -q "$work" /proc/mounts || fail "mounts of $1"
}
gone() { ! pgrep -f -- "$work/$1( |/|\$)"; }

say "a backend that is none, sizes that are none, and no machine for another backend's data"
! engine start bad --backend vz 2>"$work/said" || fail "a backend that is none"
grep -q 'native.*qemu' "$work/said" || fail "words: $(cat "$work/said")"
! engine start bad --backend qemu --memory 1 2>/dev/null || fail "1 MiB"
mkdir -p "$work/made/docker"
! engine start made --backend qemu 2>"$work/said" || fail "data of another backend"
grep -q -- '--backend native' "$work/said" || fail "words: $(cat "$work/said")"

say "a first start"
engine start one --backend qemu --memory 2048 --cpus 2 --disk 8 --share none | tee "$work/start"
grep -q '^engine    ready' "$work/start" || fail "not ready"
[ "$(state one backend)" = qemu ] || fail "its backend"
mkdir -p "$work/image/bin" "$work/image/www" "$work/image/tmp"
cp "$(command -v busybox)" "$work/image/bin/busybox"
for applet in sh httpd nc cat sleep true wget sync dd seq; do ln -sf busybox "$work/image/bin/$applet"; done
echo hello >"$work/image/www/index.html"
# busybox has no UDP server.
cat >"$work/udp.rs" <<'RUST'
fn main() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:9").unwrap();
    let mut buffer = [0; 65536];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..length], client).unwrap();
    }
}
RUST
rustc -C target-feature=+crt-static -o "$work/image/bin/udp" "$work/udp.rs"
tar -C "$work/image" -c . | on one import - busybox >/dev/null

say "a container, its input to the end and back"
head -c 100000000 /dev/urandom >"$work/bytes"
on one run -d --name cat busybox sleep 100000 >/dev/null
[ "$(on one exec -i cat cat <"$work/bytes" | sha256sum)" = "$(sha256sum <"$work/bytes")" ] || fail "100 MB through exec"
on one run -i --rm busybox cat </dev/null || fail "an input that ends at once"
[ "$(on one exec -i cat sh -c 'dd bs=1 count=4 2>/dev/null; exec >&- 2>&-' <"$work/bytes" | wc -c)" = 4 ] || fail "who stops reading"

say "ports: IPv4, IPv6, UDP, and who has one"
on one run -d --name web --restart always -p 127.0.0.1::80 -p '[::1]::80' busybox httpd -f -p 80 -h /www >/dev/null
for port in $(on one port web 80); do
  [ "$(curl -gs --max-time 20 "http://$port/")" = hello ] || fail "published port $port"
done
on one run -d --name echo -p 127.0.0.1::7 -p 127.0.0.1::9/udp busybox sh -c 'udp & nc -ll -p 7 -e cat' >/dev/null
tcp=$(on one port echo 7/tcp) udp=$(on one port echo 9/udp)
sleep 1
python3 - "${tcp##*:}" "${udp##*:}" <<'PYTHON' || fail "half-close over $tcp, or UDP over $udp"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
s.sendall(b"half" * 100000)
s.shutdown(socket.SHUT_WR)
got = b""
while piece := s.recv(65536):
    got += piece
assert got == b"half" * 100000, len(got)
u = socket.socket(type=socket.SOCK_DGRAM)
u.settimeout(20)
u.connect(("127.0.0.1", int(sys.argv[2])))
u.send(b"x" * 4000)
assert u.recv(65536) == b"x" * 4000
PYTHON
taken=${tcp##*:}
on one rm -f echo >/dev/null
python3 -c 'import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)' "$taken" &
thief=$!
until_ok 5000 python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' "$taken" || fail "the thief"
! on one run --rm -p "127.0.0.1:$taken:80" busybox true 2>"$work/said" || fail "a taken port"
grep -q "port $taken is taken by python3" "$work/said" || fail "words: $(cat "$work/said")"
kill "$thief" && wait "$thief" 2>/dev/null || true

say "from a container neither the engine nor the channel is reached"
on one run --rm busybox sh -c '
  for path in /run/docker.sock /var/run/docker.sock /run/berth /dev/vport*; do [ ! -e $path ] || { echo "$path"; exit 1; }; done
  for address in 172.17.0.1 10.0.2.15 10.0.2.2 127.0.0.1; do
    for port in 22 80 111 2375 2376 2377 4243 5000 7946; do
      nc -w 1 $address $port </dev/null 2>/dev/null && { echo "$address:$port"; exit 1; }
    done
  done; true' || fail "a container reaches what it must not"

say "the agent dies: the engine is found again, and its ports are the host's again"
on one run --rm --privileged --pid=host busybox sh -c 'for p in /proc/[0-9]*; do
  read -r words <$p/cmdline 2>/dev/null; case "$(cat $p/cmdline 2>/dev/null | busybox tr "\0" " ")" in "/run/berth/berth-guest agent "*) kill -9 ${p#/proc/};; esac; done' >/dev/null 2>&1 || true
until_ok 60000 is one ready || fail "the engine is not found again: $(engine status one)"
again() { [ "$(curl -gs --max-time 10 "http://$(on one port web 80 | head -n 1)/")" = hello ]; }
until_ok 30000 again || fail "the port does not come back"
on one inspect -f '{{.State.Running}}' cat | grep -q true || fail "its containers"

say "QEMU is killed while files are written: what was synced is there, and the engine comes back by itself"
on one run -d --name writer -v files:/files busybox sh -c \
  'i=0; while :; do i=$((i + 1)); echo $i >/files/$i; sync; echo $i; done' >/dev/null
until_ok 30000 on one logs writer
sleep 2
last=$(on one logs --tail 1 writer)
kill -9 "$(machine one)"
until_ok 120000 is one ready || fail "after QEMU was killed: $(engine status one)"
until_ok 120000 on one version || fail "no answer after QEMU was killed"
on one run --rm -v files:/files busybox sh -c "for i in \$(seq $last); do [ \"\$(cat /files/\$i)\" = \$i ] || exit 1; done" \
  || fail "a file of $last that were written out is lost"
until_ok 60000 again || fail "a container that restarts always, or its port, does not come back"

say "the supervisor is killed: its machine goes with it, and the next start finds everything"
supervisor=$(state one pid)
kill -9 "$supervisor"
no_machine() { [ -z "$(machine one)" ]; }
until_ok 10000 no_machine || fail "the machine outlives its supervisor"
engine start one >/dev/null || fail "no start after the supervisor was killed"
on one image inspect busybox >/dev/null || fail "the image is lost"

say "memory: what a workload leaves is given back by itself"
resident() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$(machine one)/status"; }
# Not zeros, which take no room on the disk.
on one run --rm -i -v files:/files busybox sh -c 'cat >/files/big; for i in 1 2 3 4 5 6; do cat /files/big >/files/$i.big; done; sync' \
  <"$work/bytes" || fail "a workload"
cached() { berth_metrics one memory_cached_bytes; }
berth_metrics() { engine metrics "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"; }
busy=$(cached) host=$(resident)
little() { [ "$(cached)" -lt 200000000 ]; }
until_ok 90000 little || fail "its memory holds $(cached) bytes of files long after they were used"
less() { [ "$(resident)" -lt "$((host - 400))" ]; }
until_ok 90000 less || fail "of the host's memory it had $host MiB, and has $(resident) MiB"
available() { berth_metrics one memory_available_bytes; }
most() { [ "$(available)" -gt 1400000000 ]; }
until_ok 60000 most || fail "what was taken from the machine it may not use: $(available) bytes are available"
say "   cached $((busy >> 20)) -> $(($(cached) >> 20)) MiB, of the host's $host -> $(resident) MiB"

say "disk: what is removed is given back when it is asked for"
blocks() { du --block-size=1M "$work/one/vm/data.raw" | cut -f 1; }
full=$(blocks)
on one rm -f writer >/dev/null && on one volume rm files >/dev/null
engine give-back one | tee "$work/said"
[ "$((full - $(blocks)))" -ge 650 ] || fail "700 MB were removed, and the disk went from $full to $(blocks) MiB"

say "nobody uses it: it sleeps, and the first request wakes it"
on one rm -f cat web >/dev/null
engine stop one >/dev/null
engine start one --idle-stop 10s >/dev/null
until_ok 120000 is one asleep || fail "it does not go to sleep: $(engine status one)"
until_ok 30000 no_machine || fail "its machine is still there"
engine status one >/dev/null || fail "the exit code of one that sleeps"
began_waking=$(now)
on one image inspect busybox >/dev/null || fail "a request does not wake it"
say "   awake after $(($(now) - began_waking)) ms"
on one run -d --name busy busybox sleep 100000 >/dev/null
sleep 25
is one ready || fail "it sleeps although a container runs: $(engine status one)"
on one rm -f busy >/dev/null
until_ok 120000 is one asleep || fail "it does not go to sleep again"
engine start one | grep -q '^engine    ready' || fail "start does not wake it"

say "stop, and nothing is left"
engine stop one >/dev/null
is one stopped || fail "not stopped"
nothing_left one
grep -q 'the guest powered off' "$work/one/log/supervisor.log" || fail "the machine was not turned off in order"

say "a disk that is somebody else's, or damaged, is left as it is"
mkdir -m 700 -p "$work/two/vm"
head -c 8M /dev/urandom >"$work/two/vm/data.raw"
truncate -s 8G "$work/two/vm/data.raw"
before=$(head -c 8M "$work/two/vm/data.raw" | sha256sum)
! engine start two --backend qemu --disk 8 2>"$work/said" || fail "a foreign disk is taken"
grep -q 'no ext4 file system' "$work/said" || fail "words: $(cat "$work/said")"
[ "$(head -c 8M "$work/two/vm/data.raw" | sha256sum)" = "$before" ] || fail "a foreign disk was changed"
engine stop two >/dev/null
nothing_left two

say "done"
