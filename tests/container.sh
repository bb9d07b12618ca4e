#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/container.sh: does examples/Dockerfile build, and its image run under the default seccomp profile?
#
# By hand, before a release: it needs root, the network and podman (PODMAN="podman --runtime runc", or
# PODMAN=docker). Where there is no debian:12 to pull one is made by debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra podman <<<"${PODMAN-podman}"
image=hakmem-example
limits=()
# podman asks for more than a limited session may have
[[ ${podman[0]} != podman ]] || limits=(--ulimit nofile=1024:4096 --ulimit nproc=4096:4096)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

base() { # NAME
	"${podman[@]}" image inspect "$1" >/dev/null 2>&1 || "${podman[@]}" pull -q "$1" >/dev/null 2>&1 || {
		[ -d "$work/debian" ] || debootstrap --variant=minbase bookworm "$work/debian" >"$work/log"
		tar -C "$work/debian" -c . | "${podman[@]}" import - "$1" >/dev/null
	}
}

run() { "${podman[@]}" run --rm --network host "${limits[@]}" "$image" "$@"; }

# expect WHAT PATTERN: in $work/out
expect() {
	grep -qE "$2" "$work/out" || { echo "FAILED: $1" >&2; cat "$work/out" >&2; exit 1; }
	echo "ok: $1"
}

base docker.io/library/debian:12
base docker.io/library/debian:12-slim
# what a checkout has, not what was built in it
mkdir "$work/source"
{ git ls-files -z 2>/dev/null || find . -type f -print0; } | xargs -0 cp --parents -t "$work/source"
"${podman[@]}" build --network host "${limits[@]}" -f "$work/source/examples/Dockerfile" -t "$image" "$work/source" >"$work/out" 2>&1 ||
	{ tail -n 30 "$work/out" >&2; exit 1; }
run >"$work/out" 2>&1 || true # its exit code is hakmem top's
expect "doctor sees the filter" '^note +seccomp +a filter is in force'
expect "top sees the service" '^ +[0-9]+  python3 '
run sh -c 'grep Seccomp: /proc/self/status; grep -m 1 -o "libhakmem.so.*" /proc/self/maps' >"$work/out" 2>&1
expect "the filter is in force" '^Seccomp:.2$'
expect "the library is preloaded" '^libhakmem.so'
run hakmem run --stats python3 -c 'x = [bytes(100000) for i in range(3000)]; del x' >"$work/out" 2>&1
expect "a program runs and gives back" '^engines: '
if grep -qE 'cannot be preloaded|FAULT' "$work/out"; then exit 1; fi
echo "5 passed, 0 failed"
