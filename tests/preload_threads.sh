#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Threads and processes under the preload: preload_threads.sh LIB [CASE ...]
# Builds preload_threads.c and runs each of its cases by itself.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$(realpath "${1:?usage: preload_threads.sh LIB [CASE ...]}")
shift
seconds=${HAK_TEST_SECONDS:-300}
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-threads.XXXXXX")
trap 'rm -rf "$dir"' EXIT

cc=${CC:-gcc}
flags=(-std=gnu11 -O1 -g -Wall -Wextra -D_GNU_SOURCE -pthread -fno-builtin)
"$cc" "${flags[@]}" -o "$dir/threads" "$here/preload_threads.c"
"$cc" "${flags[@]}" -DATFORK_LIBRARY -fPIC -shared -o "$dir/libatfork.so" "$here/preload_threads.c"
"$cc" "${flags[@]}" -o "$dir/threads-atfork" "$here/preload_threads.c" \
	-Wl,--no-as-needed -L"$dir" -latfork -Wl,-rpath,"$dir"

passed=0 failed=0 skipped=0
if [ $# -eq 0 ]; then
	mapfile -t cases < <("$dir/threads")
else
	cases=("$@")
fi
for case in "${cases[@]}"; do
	program=$dir/threads
	[ "$case" = atfork ] && program=$dir/threads-atfork
	status=0
	start=$SECONDS
	timeout "$seconds" env LD_PRELOAD="$lib" "$program" "$case" >"$dir/log" 2>&1 || status=$?
	if [ "$status" -eq 0 ] && [ -s "$dir/log" ]; then
		status=output
	fi
	case $status in
	0) passed=$((passed + 1)) word=ok ;;
	77) skipped=$((skipped + 1)) word="skipped: $(tail -n 1 "$dir/log")" ;;
	124) failed=$((failed + 1)) word="FAILED: hangs" ;;
	*) failed=$((failed + 1)) word="FAILED: status $status" ;;
	esac
	echo "$case: $word ($((SECONDS - start)) s)"
	case $word in FAILED*) head -n 5 "$dir/log" | sed 's/^/  /' ;; esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
