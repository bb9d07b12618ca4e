#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What other allocators' and C libraries' tests ask of any malloc: properties.sh LIB
# Each property in a process of its own on LIB; properties.c and .cc say who asks for it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$(realpath "${1:?usage: properties.sh LIB}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-properties.XXXXXX")
trap 'rm -rf "$dir"' EXIT

passed=0 failed=0 skipped=0
run() { # PROGRAM
	local name status
	for name in $("$1"); do
		status=0
		timeout 600 env LD_PRELOAD="$lib" "$1" "$name" >"$dir/log" 2>&1 || status=$?
		if [ $status != 0 ]; then
			failed=$((failed + 1)) && echo "$name: FAILED: status $status"
			head -n 5 "$dir/log" | sed 's/^/  /'
		elif grep -q '^skipped' "$dir/log"; then
			skipped=$((skipped + 1)) && echo "$name: $(cat "$dir/log")"
		elif [ "$name" = exit_handlers ] && ! grep -q '^exit handlers ran' "$dir/log"; then
			failed=$((failed + 1)) && echo "$name: FAILED: they did not run"
		else
			passed=$((passed + 1)) && echo "$name: ok"
		fi
	done
}

# the programs ask for more than there can be
flags=(-O1 -g -Wall -Wextra -D_GNU_SOURCE -pthread -fno-builtin -Wno-alloc-size-larger-than)
"${CC:-gcc}" -std=gnu11 "${flags[@]}" -o "$dir/properties" "$here/properties.c"
run "$dir/properties"
if command -v "${CXX:-g++}" >/dev/null; then
	"${CXX:-g++}" -std=c++17 "${flags[@]}" -o "$dir/properties++" "$here/properties.cc"
	run "$dir/properties++"
else
	skipped=$((skipped + 1)) && echo "operators new and delete: skipped: no C++ compiler"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
