#!/usr/bin/env bash
# Docker's context `berth` with the real `docker`: as root, with a built appliance.
#   tests/engine/context.sh [folder of berth and berth-guest]
# It has a home of its own in a temporary folder, and fails unless nothing of its engines is left.
set -euo pipefail

programs=$(realpath "${1:-"$(dirname "$0")/../../target/debug"}")
work=$(mktemp -d /tmp/berth-context-XXXXXX)
berth=$programs/berth
unset DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG XDG_DATA_HOME
export HOME=$work/home
config=$HOME/.docker/config.json
fail() { echo "FAIL: $*" >&2; cat "$work/said" >&2 || true; exit 1; }
say() { echo "-- $*"; }
# Generous: they only bound a hang.
b() { timeout 120 "$berth" "$@" >"$work/said" 2>&1; }
d() { timeout 60 docker "$@"; }
said() { grep -q -- "$1" "$work/said" || fail "not said: $1"; }
cleanup() {
  timeout 120 "$berth" engine stop >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT
touch "$work/said"
mkdir -p "$HOME/.docker"

say "a start makes the context and leaves the current one"
printf '{\n  "auths" : {"r.example": {"auth": "YTpi"}},\n  "psFormat": "x",   "later": 1.50\n}\n' >"$config"
chmod 640 "$config"
d context create other --docker host=tcp://127.0.0.1:1 >/dev/null
d context use other >/dev/null
cp -p "$config" "$work/before"
b engine start || fail "start"
said 'engine    ready'
said "Docker's context .berth. was made: $HOME/.docker/contexts/meta/.*/meta.json"
[ "$(d context ls --format '{{.Name}}')" = $'berth\ndefault\nother' ] || fail "$(d context ls)"
[ "$(d context show)" = other ] || fail "the current one changed"
socket=$("$berth" engine socket)
[ "$(d context inspect berth -f '{{.Endpoints.docker.Host}}')" = "unix://$socket" ] || fail "its endpoint"
version=$(d --context berth version -f '{{.Server.Version}}') || fail "no answer through the context"
echo "docker $(d --version) reaches dockerd $version"
b engine start && ! grep -q '^context\|^note' "$work/said" || fail "a second start had something to say"
cmp "$config" "$work/before" || fail "config.json changed"

say "made current, and docker keeps Berth's mark"
b engine start --use-context || fail "start --use-context"
said "uses the context .berth. from now on, and .other. again"
[ "$(d context show)" = berth ] || fail "not current"
[ "$(d version -f '{{.Server.Version}}')" = "$version" ] || fail "docker does not use it"
d context update berth --description mine >/dev/null
b context show && said 'is the current one' && said 'before    other'
DOCKER_HOST=unix:///nowhere b context show && said 'DOCKER_HOST is set'
[ "$(stat -c %a "$config")" = 640 ] || fail "its mode: $(stat -c %a "$config")"

say "the stop brings back every byte"
b engine stop || fail "stop"
said "uses the context .other. again"
cmp "$config" "$work/before" || fail "config.json is another: $(diff "$work/before" "$config")"
[ "$(stat -c %a "$config")" = 640 ] || fail "its mode"
[[ $(d context inspect berth) == *'"Description": "mine"'* ]] || fail "its description"
[ "$(ls -A "$HOME/.docker")" = $'config.json\ncontexts' ] || fail "left: $(ls -A "$HOME/.docker")"

say "another choice in between stays"
b context use || fail "use"
d context use default >/dev/null
b engine stop || fail "stop of a stopped engine"
[ "$(d context show)" = default ] || fail "the choice was undone"

say "another data folder has a context of its own, for who asks"
b context create --data "$work/two" || fail "create"
two=$(sed -n 's/.*context `\(berth-[0-9a-f]\{8\}\)` was made.*/\1/p' "$work/said")
[ -n "$two" ] || fail "its name"
d context inspect "$two" >/dev/null || fail "docker does not know $two"
b context use --data "$work/two" && b context remove --data "$work/two" || fail "remove"
[ "$(d context show)" = default ] || fail "left current: $(d context show)"

say "somebody else's context is left alone, and the engine starts"
d context rm berth >/dev/null
d context create berth --docker host=tcp://127.0.0.1:2 >/dev/null
cp -r "$HOME/.docker" "$work/theirs"
b engine start --use-context || fail "start"
said 'engine    ready'
said 'note .*docker context rm berth'
! b context use || fail "use"
! b context remove || fail "remove"
diff -r "$HOME/.docker" "$work/theirs" || fail "something changed"
d context rm berth >/dev/null

say "a folder that cannot be written keeps nothing from starting"
mv "$HOME/.docker" "$work/aside"
echo >"$HOME/.docker"
b engine stop || fail "stop"
b engine start || fail "start"
said 'engine    ready'
said 'note .*was left as it is'
! b context create || fail "create"
rm "$HOME/.docker"
mkdir "$HOME/.docker" && chown 12345 "$HOME/.docker"
b engine start || fail "start"
said 'note .*belongs to user 12345'
[ -z "$(ls -A "$HOME/.docker")" ] || fail "written into another user's folder"
rmdir "$HOME/.docker" && mv "$work/aside" "$HOME/.docker"

say "a broken config.json is not lost"
printf '{"auths": {' >"$config"
b engine start --use-context || fail "start"
said 'note .*config.json'
[ "$(cat "$config")" = '{"auths": {' ] || fail "it was changed"
rm "$config"

say "DOCKER_CONFIG, and an engine that runs in the foreground"
export DOCKER_CONFIG=$work/elsewhere
b engine stop || fail "stop"
timeout 120 "$berth" engine run >"$work/run" 2>&1 &
run=$!
for _ in $(seq 600); do [ "$("$berth" engine status | sed -n 1p)" = "engine    ready" ] && break; sleep 0.1; done
b context use || fail "use"
[ "$(d version -f '{{.Server.Version}}')" = "$version" ] || fail "docker does not use it"
kill -TERM "$run"
wait "$run" || fail "run: $(cat "$work/run")"
grep -q "uses the context .default. again" "$work/run" || fail "run: $(cat "$work/run")"
[ "$(d context show)" = default ] || fail "left current"

say "removed, nothing is left"
b context use && b context remove || fail "remove"
[ "$(d context ls --format '{{.Name}}')" = default ] || fail "$(d context ls)"
[ "$(d context show)" = default ] || fail "left current"
[ -z "$(find "$DOCKER_CONFIG" -name '*berth*')" ] && [ -z "$(ls "$DOCKER_CONFIG/contexts/meta")" ] || fail "left"
b context remove && said 'there is none' || fail "a second removal"
[ ! -e "$(dirname "$socket")" ] || fail "the runtime folder is left"
! pgrep -f -- "$work( |/|\$)" >/dev/null || fail "processes are left"
say "done"
