#!/usr/bin/env bash
# The bundled engine for real: as root, with a built appliance, `docker`, `curl`, python3 and a static busybox.
#   tests/engine/native.sh [folder of berth and berth-guest] [rounds]
# It makes engines of its own in a temporary folder and fails unless nothing of them is left.
set -euo pipefail

programs=$(realpath "${1:-"$(dirname "$0")/../../target/debug"}")
rounds=${2:-10}
work=$(mktemp -d /tmp/berth-native-XXXXXX)
berth=$programs/berth
fail() { echo "FAIL: $*" >&2; exit 1; }
say() { echo "-- $*"; }
engine() { "$berth" engine "$1" --data "$work/$2"; }
on() { local which=$1; shift; timeout 60 docker -H "unix://$(engine socket "$which")" "$@"; }
process() { "$berth" engine status --json --data "$work/$1" | sed -n 's/^  "pid": \([0-9]*\).*/\1/p'; }
descendants() { local child; for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do echo "$child"; descendants "$child"; done; }
# The process of that name below one engine's supervisor.
inside() {
  local pid
  for pid in $(descendants "$(process "$1")"); do
    [ "$(cat /proc/"$pid"/comm 2>/dev/null)" != "$2" ] || { echo "$pid"; return; }
  done
  return 1
}
now() { date +%s%3N; }
until_ok() { local end=$(($(now) + $1)); shift; until "$@" >/dev/null 2>&1; do [ "$(now)" -lt "$end" ] || return 1; done; }
cleanup() {
  for data in "$work"/*/engine.lock; do "$berth" engine stop --data "${data%/*}" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap cleanup EXIT

image() {
  mkdir -p "$work/image/bin" "$work/image/www" "$work/image/tmp"
  cp "$(command -v busybox)" "$work/image/bin/busybox"
  for applet in sh httpd nc echo cat sleep true wget; do ln -sf busybox "$work/image/bin/$applet"; done
  echo hello >"$work/image/www/index.html"
  tar -C "$work/image" -c . | on "$1" import - busybox >/dev/null
}
gone() { ! pgrep -f -- "$work/$1( |\$)"; }
nothing_left() {
  local folder
  folder=$(dirname "$(engine socket "$1")")
  until_ok 1000 gone "$1" || fail "processes: $(pgrep -af -- "$work/$1")"
  [ ! -e "$folder" ] || fail "runtime folder of $1: $(ls "$folder")"
  [ -z "$(find /sys/fs/cgroup -maxdepth 3 -name "berth-$(basename "$folder")" 2>/dev/null)" ] || fail "cgroups of $1"
  ! grep -q "$work" /proc/mounts || fail "mounts of $1"
}
host() { { iptables-save | grep -v '^#'; ip -o link | sed 's/:.*//'; } 2>/dev/null || true; }

before=$(host)
say "start"
engine start one | tee "$work/start"
grep -q ready "$work/start" || fail "not ready"
[ "$(engine start one | sed -n 1p)" = "engine    ready" ] || fail "start is not idempotent"
image one

say "ports, both ways, and who has one"
on one run -d --name web --restart always -p 127.0.0.1::80 busybox httpd -f -p 80 -h /www >/dev/null
web=$(on one port web 80 | sed -n 1p)
[ "$(curl -s --max-time 5 "$web")" = hello ] || fail "published port"
on one run -d --name echo -p 127.0.0.1::7 -p 127.0.0.1::9/udp busybox nc -ll -p 7 -e cat >/dev/null
# busybox has no UDP server: the host's Python is one, in the container's network.
nsenter -n -t "$(inside one nc)" python3 -c '
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9))
while True:
    data, client = s.recvfrom(65536)
    s.sendto(data, client)' &
server=$!
tcp=$(on one port echo 7/tcp | sed -n 1p) udp=$(on one port echo 9/udp | sed -n 1p)
sleep 0.3
python3 - "${tcp##*:}" "${udp##*:}" <<'PYTHON' || fail "half-close over $tcp, or UDP over $udp"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
s.sendall(b"half" * 100000)
s.shutdown(socket.SHUT_WR)
got = b""
while piece := s.recv(65536):
    got += piece
assert got == b"half" * 100000, len(got)
s = socket.socket(type=socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(b"datagram", ("127.0.0.1", int(sys.argv[2])))
assert s.recv(99) == b"datagram"
PYTHON
kill "$server"
on one run -d --name both -p 18089:80 busybox httpd -f -p 80 -h /www >/dev/null
[ "$(curl -s --max-time 5 127.0.0.1:18089)" = hello ] || fail "port on every address"
[ ! -e /proc/net/if_inet6 ] || [ "$(curl -s --max-time 5 'http://[::1]:18089')" = hello ] || fail "IPv6"
python3 -m http.server --bind 127.0.0.1 18099 >/dev/null 2>&1 &
holder=$!
until_ok 5000 curl -s 127.0.0.1:18099
message=$(on one run --rm -p 18099:80 busybox true 2>&1) && fail "a taken port was published"
kill "$holder"
grep -q "port 18099 is taken by python3 (pid $holder)" <<<"$message" || fail "message: $message"
on one rm -f echo both >/dev/null
curl -s --max-time 2 127.0.0.1:18089 && fail "the port of a removed container is open"

say "host folders, the engine's own socket, the way out"
mkdir "$work/shared" && echo shared >"$work/shared/file"
[ "$(on one run --rm -v "$work/shared:/s" busybox cat /s/file)" = shared ] || fail "bind mount"
on one run --rm -v /var/run/docker.sock:/s busybox sh -c '[ -S /s ]' || fail "socket in a container"
resolver=$(on one run --rm busybox cat /etc/resolv.conf | sed -n 's/^nameserver //p')
[ "$resolver" = 198.19.93.3 ] || fail "resolver $resolver"

say "kill -9 of dockerd"
pid=$(on one inspect -f '{{.State.Pid}}' web)
victim=$(inside one dockerd) || fail "dockerd not found"
began=$(now)
kill -9 "$victim"
until_ok 10000 on one version || fail "dockerd did not come back"
echo "answers after $(($(now) - began)) ms"
[ "$(on one inspect -f '{{.State.Pid}}' web)" = "$pid" ] || fail "the container was restarted"
until_ok 3000 curl -sf "$web" || fail "the port did not come back"

say "a second engine at the same time"
engine start two >/dev/null
image two
on two run --rm busybox true
[ "$(on two ps -aq | wc -l)" = 0 ] || fail "engines share containers"
message=$(engine run two 2>&1) && fail "two supervisors of one folder"
grep -q "process $(process two)" <<<"$message" || fail "message: $message"
engine stop two >/dev/null
nothing_left two

say "kill -9 of the supervisor, then start"
kill -9 "$(process one)"
engine start one | sed -n '1p;$p'
[ -n "$(on one ps --quiet --filter name=web)" ] || fail "restart: always did not bring the container back"
until_ok 3000 curl -sf "$(on one port web 80 | sed -n 1p)" || fail "its port did not come back"

say "kill -9 of the supervisor, then stop"
kill -9 "$(process one)"
engine stop one >/dev/null
nothing_left one
code=0; engine status one >/dev/null || code=$?
[ "$code" = 3 ] || fail "exit code $code of a stopped engine"
engine stop one >/dev/null || fail "stop is not idempotent"

say "$rounds times start and stop"
for round in $(seq "$rounds"); do
  began=$(now); engine start one >/dev/null; middle=$(now)
  [ "$(on one ps -q | wc -l)" = 1 ] || fail "round $round: the container"
  on one rm -f web >/dev/null
  on one run -d --name web --restart always -p 127.0.0.1::80 busybox sh -c 'trap "exit 0" TERM; while :; do sleep 1; done' >/dev/null
  ended=$(now); engine stop one >/dev/null
  echo "round $round: start $((middle - began)) ms, stop $(($(now) - ended)) ms"
  nothing_left one
done
[ "$(host)" = "$before" ] || fail "the host changed: $(diff <(echo "$before") <(host))"
echo "ok"
