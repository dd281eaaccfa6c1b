#!/usr/bin/env bash
# Folders of this computer in the engine's machine, for real: with a built appliance, QEMU, virtiofsd, `docker`, python3
# and a static busybox.
#   tests/vm/shares.sh [folder of berth]
set -euo pipefail

programs=$(realpath "${1:-"$(dirname "$0")/../../target/debug"}")
work=$(mktemp -d /tmp/berth-shares-XXXXXX)
berth=$programs/berth
unset DOCKER_HOST DOCKER_CONTEXT
export DOCKER_CONFIG=$work/client HOME=$work/home
fail() { echo "FAIL: $*" >&2; tail -n 20 "$work"/*/log/supervisor.log >&2 || true; exit 1; }
now() { date +%s%3N; }
began=$(now)
say() { echo "-- $* ($(($(now) - began)) ms)"; }
# Generous: they only bound a hang. An emulated machine on a busy host is slow.
engine() { local what=$1; shift; timeout 300 "$berth" engine "$what" --data "$work/one" "$@"; }
on() { timeout 120 docker -H "unix://$socket" "$@"; }
state() { engine status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]] or "")' "$1"; }
until_ok() { local end=$(($(now) + $1)); shift; until "$@" >/dev/null 2>&1; do [ "$(now)" -lt "$end" ] || return 1; sleep 0.1; done; }
cleanup() {
  supervisor=$(state pid || true)
  timeout 120 "$berth" engine stop --data "$work/one" >/dev/null 2>&1 || true
  # Its machine and what serves it end with it.
  [ -z "$supervisor" ] || kill -9 "$supervisor" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
sum() { sha256sum | cut -d ' ' -f 1; }
took() { local from; from=$(now); "$@" >/dev/null; echo "   $((($(now) - from))) ms: ${*:3}"; }

project="$work/home/my project ü"
mkdir -p "$project/src" "$work/fixed" "$work/elsewhere" "$work/image/bin"
echo from-host >"$project/src/file"
echo fixed >"$work/fixed/file"
echo secret >"$work/elsewhere/secret"
ln -s "$work/elsewhere/secret" "$project/link"
cp "$(command -v busybox)" "$work/image/bin/busybox"
for applet in sh cat ls sync sleep true touch mv chmod ln stat sha256sum dd mkdir find rm id inotifyd; do ln -sf busybox "$work/image/bin/$applet"; done

say "what cannot be shared is refused"
for bad in / /etc /nowhere "$project"; do
  ! engine start --backend qemu --share "$bad" 2>"$work/said" || fail "$bad is shared"
  grep -q "$bad cannot be shared" "$work/said" || fail "words: $(cat "$work/said")"
done

say "a start with the home and a folder that is only to be read"
engine start --backend qemu --memory 2048 --disk 8 --share "$work/fixed:ro" | tee "$work/start"
grep -q '^engine    ready' "$work/start" || fail "not ready"
engine status >"$work/said"
for line in "shared    $HOME" "shared    $work/fixed (only to be read)" 'events    files that change here wake watchers in containers'; do
  grep -qF "$line" "$work/said" || fail "the status has not \"$line\": $(cat "$work/said")"
done
socket=$(engine socket)
tar -C "$work/image" -c . | on import - busybox >/dev/null
on run -d --name box -v "$project:/x" -v "$work/fixed:/fixed" busybox sleep 100000 >/dev/null
box() { on exec box sh -c "$1"; }

say "read and write both ways, rename, mode, links, owner, fsync"
[ "$(box 'cat /x/src/file')" = from-host ] || fail "reading"
box 'echo from-guest >/x/new && mv /x/new /x/renamed && chmod 755 /x/renamed && ln -s renamed /x/own && sync'
[ "$(cat "$project/own")" = from-guest ] && [ -x "$project/renamed" ] && [ ! -e "$project/new" ] || fail "writing"
[ "$(stat -c %u:%g "$project/renamed")" = 0:0 ] || fail "the owner"
box 'dd if=/dev/zero of=/x/synced bs=4096 count=10 conv=fsync 2>/dev/null' && [ "$(stat -c %s "$project/synced")" = 40960 ] || fail "fsync"
printf '#!/bin/sh\necho run\n' >"$project/tool" && chmod 700 "$project/tool"
[ "$(box /x/tool)" = run ] || fail "the mode of a program"
rm "$project/src/file" && echo again >"$project/src/file"
sees() { [ "$(box 'cat /x/src/file')" = again ]; }
until_ok 10000 sees || fail "what the host changes"

say "what changes here wakes who watches files in a container, and is changed by that in nothing"
echo one >"$project/src/watched"
on run -d --name watcher -v "$project/src:/w" busybox inotifyd - /w:ecwmynd >/dev/null
on logs -f watcher >"$work/heard" 2>&1 &
folders() { [ "$(engine status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["file_events"]["folders"])')" -ge 2 ]; }
until_ok 30000 folders || fail "no folders are watched: $(engine status)"
own() { box 'touch /x/src/own'; grep -q 'own$' "$work/heard"; }
until_ok 30000 own || fail "the watcher does not watch: $(cat "$work/heard")"
sleep 2
# What it heard of the file, or of the folder, since.
new() { tail -n "+$((heard + 1))" "$work/heard" | grep -c "^e[[:space:]]/w${1:+[[:space:]]$1}\$"; }
wakes() {
  heard=$(wc -l <"$work/heard"); from=$(now); eval "$2"
  until_ok 2000 new "$1" || fail "nobody woke: $2: $(tail -n "+$((heard + 1))" "$work/heard")"
  echo "   $(($(now) - from)) ms: $2"
}
touch -d '2001-02-03 04:05:06.123456789' "$project/src/old"
wakes old "touch -d '2002-02-03 04:05:06.987654321' '$project/src/old'; printf x >>'$project/src/old'; touch -d '2002-02-03 04:05:06.987654321' '$project/src/old'"
sleep 1
[ "$(stat -c '%.9Y %s' "$project/src/old")" = "$(date -d '2002-02-03 04:05:06' +%s).987654321 1" ] || fail "its time: $(stat "$project/src/old")"
[ "$(box 'cat /x/src/watched')" = one ] || fail "reading"
wakes watched "echo two >'$project/src/watched'"
[ "$(box 'cat /x/src/watched')" = two ] || fail "what was written is not there yet"
# As editors do it: another file gets the name, which the machine knows as that of the one before.
wakes watched "echo three >'$project/src/.new'; mv '$project/src/.new' '$project/src/watched'"
[ "$(box 'cat /x/src/watched')" = three ] || fail "what was replaced is still there"
wakes created "echo new >'$project/src/created'"
wakes moved "mv '$project/src/created' '$project/src/moved'"
wakes '' "rm '$project/src/moved'"
[ -z "$(box 'ls /x/src/moved' 2>/dev/null)" ] || fail "what was removed is still there"
! { [ -e "$project/src/created" ] || [ -e "$project/src/moved" ]; } || fail "it was made again"
sleep 1
heard=$(wc -l <"$work/heard")
mode=$(stat -c '%a %h' "$project/src/watched"); echo once >"$project/src/watched"; time=$(stat -c %.9Y "$project/src/watched")
sleep 3
[ "$(new watched)" -ge 1 ] && [ "$(new watched)" -le 3 ] || fail "one write woke $(new watched) times: $(tail -n "+$((heard + 1))" "$work/heard")"
[ "$(stat -c '%a %h %.9Y' "$project/src/watched")" = "$mode $time" ] && [ "$(cat "$project/src/watched")" = once ] || fail "it was changed"
on rm -f watcher >/dev/null

say "a link does not lead out of the share, nor does the machine reach its neighbours"
! box 'cat /x/link' 2>/dev/null || fail "a link leads out"
! on run --rm --privileged -v "$work/home:/h" busybox cat "/h/../elsewhere/secret" 2>/dev/null || fail "the way up"

say "what is only to be read"
[ "$(box 'cat /fixed/file')" = fixed ] || fail "reading it"
! box 'echo x >/fixed/file' 2>/dev/null || fail "it is written"
# Root of the machine may mount it anew for writing: what serves it must not let it through.
on run --rm --privileged -v "$work/fixed:/fixed" busybox sh -c 'busybox mount -o remount,rw,bind /fixed; busybox mount -o remount,rw /fixed; echo x >/fixed/file' >/dev/null 2>&1 || true
[ "$(cat "$work/fixed/file")" = fixed ] || fail "it was written"

say "a path that is not shared is an error that names it"
for path in "$work/elsewhere" /not/shared /home/nobody /srv/x /var/www /tmp/nothing; do
  ! on run --rm -v "$path:/x" busybox true 2>"$work/said" || fail "$path is there"
  grep -q "'\?$path'\?.*read-only file system" "$work/said" || fail "words: $(cat "$work/said")"
done
! on run --rm --mount type=bind,source=/not/shared,target=/x busybox true 2>"$work/said" || fail "--mount"
grep -q '/not/shared' "$work/said" || fail "words: $(cat "$work/said")"

say "100 MB and 1,000 files"
head -c 100000000 /dev/urandom >"$project/large"
[ "$(box 'cat /x/large' | sum)" = "$(sum <"$project/large")" ] || fail "100 MB"
box 'cat /x/large >/x/copy' && cmp "$project/large" "$project/copy" || fail "100 MB back"
took on exec box sh -c 'cat /x/large >/dev/null'
box 'mkdir /x/many; i=0; while [ $i -lt 1000 ]; do echo $i >/x/many/$i; i=$((i + 1)); done'
[ "$(cat "$project"/many/* | sort -n | sum)" = "$(seq 0 999 | sum)" ] || fail "1,000 files"
took on exec box sh -c 'ls -lR /x/many'
took on exec box sh -c 'ls -lR /x/many'

say "after a stop and a start they are there before the engine is, also for containers that restart"
on rm -f box >/dev/null
on run -d --name always --restart always -v "$project:/x" busybox sh -c 'cat /x/src/file; sleep 100000' >/dev/null
engine stop >/dev/null
engine start --file-events off >/dev/null
engine status | grep -q '^events .* wake no watchers' || fail "file events are on: $(engine status)"
until_ok 30000 on exec always true || fail "the container does not restart"
[ "$(on exec always cat /x/src/file)" = again ] || fail "the folder is gone for it"

say "virtiofsd dies: it is said"
pid=$(pgrep -f -- "virtiofsd.*source=$work/home|virtiofsd.*--shared-dir $work/home" | head -n 1)
kill -9 "$pid"
said() { engine status | grep -q 'virtiofsd ended'; }
until_ok 30000 said || fail "nothing is said: $(engine status)"
if [ -n "${LONG:-}" ]; then
  # Containers that wait for the folder cannot be stopped, and the machine's time to stop is waited out.
  from=$(now)
  engine stop >/dev/null
  echo "   stopped after $(($(now) - from)) ms"
  [ "$(state state)" = stopped ] || fail "not stopped"
else
  kill -9 "$(state pid)"
fi

say "nothing is left"
engine start --share none >/dev/null
[ -z "$(pgrep -f -- "virtiofsd.*$work")" ] || fail "a share without being asked for"
! on run --rm -v "$project:/x" busybox true 2>/dev/null || fail "a folder that is no longer shared"
engine stop >/dev/null
folder=$(dirname "$socket")
gone() { ! pgrep -f -- "$work/"; }
until_ok 5000 gone || fail "processes: $(pgrep -af -- "$work/")"
[ ! -e "$folder" ] || fail "runtime folder: $(ls "$folder")"
! grep -q "$work" /proc/mounts || fail "mounts"
say "done"
