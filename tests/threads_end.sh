#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Steady state over threads' ends: threads_end.sh LIB
# 10,000 threads in turn must not be resident for more than 1,000 are, nor have more mapped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$(realpath "${1:?usage: threads_end.sh LIB}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-ends.XXXXXX")
trap 'rm -rf "$dir"' EXIT
"${CC:-gcc}" -std=gnu11 -O1 -g -Wall -Wextra -D_GNU_SOURCE -pthread -fno-builtin \
	-o "$dir/threads_end" "$here/threads_end.c"

passed=0 failed=0
result() { # NAME STATUS
	if [ "$2" -eq 0 ]; then
		passed=$((passed + 1))
		echo "$1: ok"
	else
		failed=$((failed + 1))
		echo "$1: FAILED"
	fi
}

figure() { # KEY COUNT
	grep -o "\"$1\":[0-9]*" "$dir/$2.json" | head -n 1 | cut -d: -f2
}

for count in 1000 10000; do
	status=0
	timeout 300 env LD_PRELOAD="$lib" HAKMEM_STATS="json:$dir/$count.json" \
		"$dir/threads_end" "$count" || status=$?
	result "resident, $count threads" "$status"
done
# A step of growth, 32 MiB, may fall after the short run; two more threads may have met at once.
for key in mapped:33554432 heaps:2; do
	slack=${key#*:} key=${key%:*}
	short=$(figure "$key" 1000) long=$(figure "$key" 10000) status=0
	if [ -z "$short" ] || [ "$long" -gt $((short + slack)) ]; then
		echo "$key: $short after 1,000 threads, $long after 10,000" >&2
		status=1
	fi
	result "$key stays put" "$status"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
