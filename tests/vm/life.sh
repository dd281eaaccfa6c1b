#!/usr/bin/env bash
# The life of an engine's data for real: backup, reset and restore of an engine in its machine. Needs what machine.sh needs.
#   tests/vm/life.sh [folder of berth]
# It makes engines of its own in a temporary folder and fails unless nothing of them is left.
set -euo pipefail

programs=$(realpath "${1:-"$(dirname "$0")/../../target/debug"}")
work=$(mktemp -d /tmp/berth-life-XXXXXX)
berth=$programs/berth
unset DOCKER_HOST DOCKER_CONTEXT
export DOCKER_CONFIG=$work/client
now() { date +%s%3N; }
began=$(now)
say() { echo "-- $* ($(($(now) - began)) ms)"; }
fail() { echo "FAIL: $*" >&2; tail -n 20 "$work"/*/log/supervisor.log >&2 || true; exit 1; }
# Generous: they only bound a hang.
engine() { local what=$1 which=$2; shift 2; timeout 300 "$berth" engine "$what" --data "$work/$which" "$@"; }
on() { local which=$1; shift; timeout 120 docker -H "unix://$(engine socket "$which")" "$@"; }
said() { grep -q -- "$1" "$work/said" || fail "words: $(cat "$work/said")"; }
cleanup() {
  for data in "$work"/*/engine.lock; do timeout 120 "$berth" engine stop --data "${data%/*}" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap cleanup EXIT

say "an engine with a volume"
engine start one --backend qemu --memory 2048 --cpus 2 --disk 8 >/dev/null
mkdir -p "$work/image/bin" "$work/image/tmp"
cp "$(command -v busybox)" "$work/image/bin/busybox"
for applet in sh cat sha256sum sync; do ln -sf busybox "$work/image/bin/$applet"; done
tar -C "$work/image" -c . | on one import - busybox >/dev/null
head -c 20000000 /dev/urandom >"$work/bytes"
on one run -i --rm -v files:/files busybox sh -c 'cat >/files/bytes && sync' <"$work/bytes"
digest=$(sha256sum <"$work/bytes")
has_files() { [ "$(on "$1" run --rm -v files:/files busybox sh -c 'sha256sum </files/bytes')" = "$digest" ]; }

say "a running engine is neither kept nor forgotten"
! engine backup one "$work/kept" 2>"$work/said" || fail "a backup while it runs"
said 'berth engine stop'
! engine reset one --all --yes 2>"$work/said" || fail "a reset while it runs"
said 'berth engine stop'
engine stop one >/dev/null

say "backup"
engine backup one "$work/kept"
[ "$(stat -c %a "$work/kept")" = 600 ] || fail "its mode"
! engine backup one "$work/kept" 2>"$work/said" || fail "a file is replaced unasked"
said '--force'

say "what can be made again is forgotten, and the data stays"
engine reset one --keep-data
[ ! -e "$work/one/vm/accelerator.json" ] || fail "the accelerator is remembered"
[ -e "$work/one/vm/data.raw" ] || fail "the data is gone"

say "without a terminal, nothing is removed unless --yes says so"
! engine reset one --all </dev/null 2>"$work/said" || fail "removed unasked"
[ -e "$work/one/vm/data.raw" ] || fail "removed unasked"

say "everything is forgotten"
engine reset one --all --yes
[ "$(ls -A "$work/one")" = engine.lock ] || fail "left: $(ls -A "$work/one")"

say "a damaged backup is refused and leaves nothing"
head -c -1000 "$work/kept" >"$work/cut"
! engine restore one "$work/cut" 2>"$work/said" || fail "a cut file is taken"
said 'is damaged'
[ ! -e "$work/one/vm/data.raw" ] && [ ! -e "$work/one/vm/data.raw.new" ] || fail "something is left"

say "restore, and the files are the same"
engine restore one "$work/kept"
[ "$(du -m "$work/one/vm/data.raw" | cut -f 1)" -lt 2000 ] || fail "not sparse"
engine start one --memory 2048 --cpus 2 >/dev/null
has_files one || fail "other files"
engine stop one >/dev/null

say "a restore that is killed leaves the data of before"
inode=$(stat -c %i "$work/one/vm/data.raw")
for pause in 0.02 0.1 0.3; do
  "$berth" engine restore --data "$work/one" "$work/kept" --force >/dev/null 2>&1 &
  sleep "$pause"
  kill -9 $! 2>/dev/null || true
  wait $! 2>/dev/null || true
  [ -e "$work/one/vm/data.raw" ] || fail "no data after a kill"
done
if [ "$(stat -c %i "$work/one/vm/data.raw")" = "$inode" ]; then echo "   the disk is the one of before"; fi
engine start one >/dev/null
has_files one || fail "other files after a kill"
engine stop one >/dev/null

say "what a killed restore left goes"
engine reset one --keep-data >/dev/null
[ ! -e "$work/one/vm/data.raw.new" ] || fail "a leftover"
! pgrep -f -- "$work/one( |/|\$)" >/dev/null || fail "processes are left"
[ ! -e "$(dirname "$(engine socket one)")" ] || fail "the runtime folder is left"
say "done"
