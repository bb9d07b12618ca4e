#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Foreign blocks and early calls: foreign.sh LIB
# Builds foreign.c as a program and three libraries, and runs each case by itself, with the
# allocator preloaded or opened late.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$(realpath "${1:?usage: foreign.sh LIB}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-foreign.XXXXXX")
trap 'rm -rf "$dir"' EXIT

cc=${CC:-gcc}
flags=(-std=gnu11 -O1 -g -Wall -Wextra -D_GNU_SOURCE -pthread -fno-builtin)
"$cc" "${flags[@]}" -o "$dir/foreign" "$here/foreign.c" -ldl
"$cc" "${flags[@]}" -Wl,-z,lazy -o "$dir/foreign-lazy" "$here/foreign.c" -ldl
for role in HELPER EARLY WRAPPER; do
	"$cc" "${flags[@]}" -D${role}_LIBRARY -fPIC -shared -o "$dir/lib${role,,}.so" "$here/foreign.c" -ldl
done
export HELPER=$dir/libhelper.so

passed=0 failed=0
check() { # NAME COMMAND...
	local name=$1 status=0
	shift
	{ timeout 300 "$@" >"$dir/log" 2>&1; } 2>/dev/null || status=$?
	if [ "$status" -eq 0 ] && [ ! -s "$dir/log" ]; then
		passed=$((passed + 1))
		echo "$name: ok"
	else
		failed=$((failed + 1))
		echo "$name: FAILED: status $status"
		head -n 5 "$dir/log" | sed 's/^/  /'
	fi
}

for program in foreign foreign-lazy; do
	for case in dlopen-local dlopen-global dlopen-deepbind; do
		check "$program $case" "$dir/$program" "$case" "$lib"
	done
done
check deepbind-both env LD_PRELOAD="$lib" "$dir/foreign" deepbind-both
check deepbind-foreign env HAKMEM_DEEPBIND=1 LD_PRELOAD="$lib" "$dir/foreign" deepbind-foreign
check "early, first" env LD_PRELOAD="$dir/libearly.so:$lib" "$dir/foreign" early
check "early, last" env LD_PRELOAD="$lib:$dir/libearly.so" "$dir/foreign" early
check "wrapper, first" env LD_PRELOAD="$dir/libwrapper.so:$lib" "$dir/foreign" wrapper
check libc-blocks env LD_PRELOAD="$lib" "$dir/foreign" libc-blocks
check "libc-blocks, bound lazily" env LD_PRELOAD="$lib" "$dir/foreign-lazy" libc-blocks
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
