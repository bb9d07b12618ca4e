#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016 # backquotes of Markdown
# The trace points that the guide names are there, and fire.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
if ! readelf -n "$lib" | grep -q 'Provider: hakmem'; then
	echo "skipped: built without sys/sdt.h" >&2
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi

names_are_those_of_the_guide() {
	diff <(readelf -n "$lib" | sed -n '/Provider: hakmem/ { n; s/.*Name: //p }' | sort -u) \
		<(sed -n '/^| probe |/,/^$/p' "$here/../../doc/tuning.md" | cut -d'|' -f2 | grep -o '`[a-z_]*`' | tr -d '`' | sort)
}

they_fire() {
	timeout 60 gdb -batch -nx -ex 'python 1' -ex run /bin/true 2>/dev/null | grep -q 'exited normally' ||
		skip "no gdb, or it may not run programs"
	local probe
	for probe in slab_new grow map; do
		timeout 60 gdb -batch -nx -ex 'set breakpoint pending on' -ex "set environment LD_PRELOAD $lib" \
			-ex 'set startup-with-shell off' -ex "tbreak -probe-stap $lib:hakmem:$probe" -ex run -ex 'print $_probe_arg1' \
			--args "$target" </dev/null >"$work/out" 2>&1
		grep -qE '^\$1 = [1-9]' "$work/out" || [ "$probe" = slab_new ] && grep -qE '^\$1 = [0-9]' "$work/out" ||
			say "$probe: $(tail -n 3 "$work/out")" || return 1
	done
}

check names_are_those_of_the_guide
check they_fire
summary
