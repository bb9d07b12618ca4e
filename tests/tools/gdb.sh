#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The gdb command names a pointer's block, slab and heap, in a process and in a core.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
blocks=$build/tests/tools/blocks
if ! timeout 300 gdb -batch -nx -ex 'python 1' -ex run /bin/true 2>/dev/null | grep -q 'exited normally'; then
	echo "skipped: no gdb with Python, or it may not run programs" >&2
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi

# ask GDB-ARGUMENT ...: what it says of each variable, "NAME: ..." in $work/said
ask() {
	local name script=()
	for name in allocated '(char *)allocated + 100' cached sent run '(char *)run + 200000' large fresh '&not_ours'; do
		script+=(-ex "echo $name:" -ex "hakmem block $name")
	done
	timeout 300 gdb -batch -nx -ex 'set auto-load off' "$@" -ex "source $here/../../tools/gdb.py" \
		"${script[@]}" >"$work/said" 2>"$work/gdb.err"
	grep -q '^allocated:' "$work/said" || say "gdb: $(cat "$work/said" "$work/gdb.err")"
}

# says NAME PATTERN: the two lines about it, joined
says() {
	local text
	text=$(grep -F -A1 -- "$1:0x" "$work/said" | head -n 2 | tr '\n' ' ')
	grep -qE -- "$2" <<<"$text" || say "$1: $text"
}

all_are_named() {
	says allocated ': block [0-9]+ of [0-9]+ in a slab of [0-9,]+ bytes at 0x[0-9a-f]+, blocks of 1,?0[0-9]+ bytes heap 1, node 0; allocated' &&
		says '(char *)allocated + 100' ': 100 bytes into block' &&
		says cached "free, in the heap's magazine" &&
		says sent 'blocks of 1[0-9]+ bytes heap [2-9], node 0; free, on its way home' &&
		says run ': 0x[0-9a-f]+\+0 of a block of 524,288 bytes, whole granules allocated' &&
		says '(char *)run + 200000' '\+200000 of a block of 524,288 bytes' &&
		says fresh 'blocks of 3,072 bytes heap [2-9], node 0; free' &&
		says large '\+0 of a block of 5,242,880 bytes' &&
		says '&not_ours' "no block of hakmem's"
}

in_a_process() {
	ask -ex 'set breakpoint pending on' -ex "set environment LD_PRELOAD $lib" -ex 'set startup-with-shell off' \
		-ex 'break stop_here' -ex run "$blocks" && all_are_named
}

in_a_core() {
	timeout 300 gdb -batch -nx -ex "set environment LD_PRELOAD $lib" -ex 'set startup-with-shell off' -ex 'break stop_here' -ex run \
		-ex "generate-core-file $work/core" "$blocks" >"$work/out" 2>&1
	[ -s "$work/core" ] || skip "no core: $(tail -n 1 "$work/out")"
	ask "$blocks" "$work/core" && all_are_named
}

without_hakmem_it_says_so() {
	timeout 300 gdb -batch -nx -ex 'break stop_here' -ex run -ex "source $here/../../tools/gdb.py" -ex 'hakmem block allocated' \
		"$blocks" >"$work/out" 2>&1
	grep -q 'does not run on hakmem' "$work/out" || say "$(cat "$work/out")"
}

check in_a_process
check in_a_core
check without_hakmem_it_says_so
summary
