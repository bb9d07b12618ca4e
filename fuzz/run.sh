#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the fuzzers: run.sh BUILD [SECONDS [FUZZER ...]]
#
# BUILD is made here if need be. SECONDS is the time for all together, 300 unless told: three
# quarters for the blocks. HAK_FUZZ_OPERATIONS=N: the blocks go on until N calls of the allocator have
# been made instead, and fewer are a failure. Each begins with its corpus, to which nothing is added: what is new
# stays in BUILD/fuzz/found. An input with a finding stays there as well, and its name is printed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${1:?usage: run.sh BUILD [SECONDS [FUZZER ...]]}
seconds=${2:-300}
shift $(($# < 2 ? $# : 2))
operations=${HAK_FUZZ_OPERATIONS-}
[[ $operations =~ ^([1-9][0-9]*)?$ ]] || { echo "HAK_FUZZ_OPERATIONS: a number above 0, not $operations" >&2; exit 2; }
[ $# -gt 0 ] || set -- blocks options topology

mkdir -p "$build"
cd "$build"
[ -f Makefile ] || "$here/../configure" -q --disable-shared --enable-debug CC="${CC:-clang}" \
	CFLAGS='-g -O1 -fsanitize=fuzzer-no-link,undefined -fno-sanitize-recover=undefined'
make -j"$(nproc)" fuzz >fuzz.log 2>&1 || { tail -n 20 fuzz.log; exit 1; }

passed=0 failed=0 skipped=0
for name; do
	# what the parsers warn of is no finding, and too much to keep
	case $name in
	blocks) share=$((seconds * 3 / 4)) least=${operations:-1} flags=(-len_control=0) ;;
	*) share=$((seconds / 8)) least=0 flags=(-close_fd_mask=2) ;;
	esac
	flags+=("-max_total_time=$((share > 0 ? share : 1))")
	[ "$name" != blocks ] || [ -z "$operations" ] || flags+=(-max_total_time=0) # for ever
	if [ ! -x "fuzz/$name" ]; then
		skipped=$((skipped + 1))
		echo "$name: skipped: it needs hwloc, libnuma or liburing"
		continue
	fi
	mkdir -p "fuzz/found/$name"
	# a leak is what the shadow finds; libFuzzer would ask LeakSanitizer after each input
	status=0 begin=$SECONDS
	"fuzz/$name" "${flags[@]}" -detect_leaks=0 -timeout=60 \
		-rss_limit_mb=4096 -max_len=2048 -artifact_prefix="fuzz/found/" \
		"fuzz/found/$name" "$here/corpus/$name" >"fuzz/$name.log" 2>&1 || status=$?
	made=$(sed -n 's/^fuzz: \([0-9]*\) operations$/\1/p' "fuzz/$name.log")
	if [ "$status" = 0 ] && [ "${made:-0}" -ge "$least" ]; then
		passed=$((passed + 1))
		echo "$name: ok: $(grep -E '^Done' "fuzz/$name.log" || echo "ended after $((SECONDS - begin)) s")${made:+, $made operations}$(sed -n 's/^fuzz: \(hwloc .*\)/, \1/p' "fuzz/$name.log")"
	elif [ "$status" = 0 ]; then
		failed=$((failed + 1))
		echo "$name: FAILED: ${made:-0} operations, not $least"
	else
		failed=$((failed + 1))
		echo "$name: FAILED: $(grep -m 1 -E 'ERROR|runtime error|^fuzz:|^hakmem:' "fuzz/$name.log" || tail -n 1 "fuzz/$name.log")"
		grep -E 'Test unit written|^ *#[0-9]' "fuzz/$name.log" | head -n 15 || true
	fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
