#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2015,SC2016 # messages on failure; backquotes of Markdown
# The trace points that the guide names are there, and fire.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
if ! readelf -n "$lib" | grep 'Provider: hakmem' >/dev/null; then
	echo "skipped: built without sys/sdt.h" >&2
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi

names_are_those_of_the_guide() {
	diff <(readelf -n "$lib" | sed -n '/Provider: hakmem/ { n; s/.*Name: //p }' | sort -u) \
		<(sed -n '/^| probe |/,/^$/p' "$here/../../doc/tuning.md" | cut -d'|' -f2 | grep -o '`[a-z_]*`' | tr -d '`' | sort)
}

they_fire() {
	timeout 300 gdb -batch -nx -ex 'python 1' -ex run /bin/true 2>/dev/null | grep -q 'exited normally' ||
		skip "no gdb, or it may not run programs"
	local probe
	for probe in slab_new grow map; do
		timeout 300 gdb -batch -nx -ex 'set breakpoint pending on' -ex "set environment LD_PRELOAD $lib" \
			-ex 'set startup-with-shell off' -ex "tbreak -probe-stap $lib:hakmem:$probe" -ex run -ex 'print $_probe_arg1' \
			--args "$target" </dev/null >"$work/out" 2>&1
		grep -qE '^\$1 = [1-9]' "$work/out" || [ "$probe" = slab_new ] && grep -qE '^\$1 = [0-9]' "$work/out" ||
			say "$probe: $(tail -n 3 "$work/out")" || return 1
	done
}

# The guide's own line.
bpftrace_counts_them() {
	local line pid=
	[ "$(id -u)" = 0 ] && command -v bpftrace >/dev/null || skip "no bpftrace, or not root"
	line=$(sed -n 's/^    \(bpftrace .*\)/\1/p' "$here/../../doc/tuning.md")
	line=${line//\/usr\/lib\/libhakmem.so.0/"$lib"}
	"$hakmem" run --library="$lib" "$build/tests/tools/learns" 20 &
	pid=$!
	sleep 1
	timeout 60 bash -c "${line/PID/$pid}" >"$work/out" 2>&1 || true
	kill "$pid"
	wait "$pid" 2>/dev/null
	grep -v RLIMIT_MEMLOCK "$work/out" >"$work/said"
	grep -q '^Attaching 2 probes' "$work/said" && ! grep -q '^ERROR' "$work/said" || skip "it may not: $(tail -n 1 "$work/said")"
	grep -qE '^@\[[0-9]+\]: [1-9]' "$work/out" || say "$(cat "$work/out")"
}

check names_are_those_of_the_guide
check they_fire
check bpftrace_counts_them
summary
