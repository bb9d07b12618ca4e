#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Static analysis without a finding: analyze.sh BUILD [gcc|clang-tidy|cppcheck ...]
# BUILD is a configured tree, for its config.h. What is not to be asked stands in .clang-tidy and,
# for cppcheck, at the place itself or below.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$(realpath "${1:?usage: analyze.sh BUILD [gcc|clang-tidy|cppcheck ...]}")
shift
[ $# -gt 0 ] || set -- gcc clang-tidy cppcheck
cd "$top"
mapfile -t sources < <(find src -name '*.c' | sort)
flags=(-std=gnu11 -D_GNU_SOURCE -DHAVE_CONFIG_H -I"$build" -Isrc -Iinclude)
if command -v pkg-config >/dev/null; then
	mapfile -t -O ${#flags[@]} flags < <(pkg-config --cflags-only-I hwloc numa liburing 2>/dev/null | xargs -rn 1)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

one() { # of a tool: FILE
	case $tool in
	gcc)
		# that a tagged granule has an arena, and a number given out a heap, it cannot know
		gcc -fanalyzer -Wno-analyzer-too-complex -Wno-analyzer-null-dereference -O1 -c -o /dev/null "${flags[@]}" "$1"
		;;
	clang-tidy) clang-tidy --quiet "$1" -- "${flags[@]}" ;;
	cppcheck)
		cppcheck -q --std=c11 --enable=warning,performance,portability --inline-suppr \
			--suppress=missingIncludeSystem -D__x86_64__ -DHAVE_CONFIG_H -I"$build" -Isrc -Iinclude "$1"
		;;
	esac
}

for tool; do
	if ! command -v "$tool" >/dev/null; then
		skipped=$((skipped + 1))
		echo "$tool: skipped: it is not installed"
		continue
	fi
	for file in "${sources[@]}"; do
		one "$file" 2>&1 | grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header-filter' || true
	done >"$log"
	if [ -s "$log" ]; then
		failed=$((failed + 1))
		echo "$tool: FAILED: $(grep -cE '(warning|error):' "$log") findings"
		head -n 60 "$log"
	else
		passed=$((passed + 1))
		echo "$tool: ok: ${#sources[@]} files"
	fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
