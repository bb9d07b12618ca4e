#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Out of memory in every way a system has: limits.sh LIB
# Strict overcommit is set for the whole machine for a few seconds, where that is allowed
# and nobody is near the limit, and put back.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$(realpath "${1:?usage: limits.sh LIB}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-limits.XXXXXX")
chmod 755 "$dir"
overcommit=/proc/sys/vm/overcommit_memory
before=
finish() {
	[ -z "$before" ] || echo "$before" >"$overcommit"
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

"${CC:-gcc}" -std=gnu11 -O1 -g -Wall -Wextra -D_GNU_SOURCE -pthread -fno-builtin -o "$dir/limits" "$here/limits.c"
cp "$lib" "$dir/lib.so" # readable for another user
MIB=$((1 << 20))

# shellcheck source=tests/results.sh
. "$here/results.sh"
check() { # NAME ULIMIT-OPTIONS COMMAND...
	local name=$1 limit=$2 status=0
	shift 2
	(
		# shellcheck disable=SC2086 # options and values
		[ -z "$limit" ] || ulimit $limit
		exec timeout 300 "$@"
	) >"$dir/log" 2>&1 || status=$?
	result "$name" "$status"
}
preload=(env LD_PRELOAD="$dir/lib.so" "$dir/limits")

for mib in 24 64 200 1000; do
	check "ulimit -v, $mib MiB" "-v $((mib << 10))" "${preload[@]}" until $((600 * MIB))
done
check "RLIMIT_AS lowered at run time" "" "${preload[@]}" as-runtime $((400 * MIB))
check "full map count" "" "${preload[@]}" maps $((200 * MIB))

as_nobody=()
if [ "$(id -u)" -eq 0 ]; then
	check "mlockall, current and future" "-l unlimited" "${preload[@]}" mlock cf $((150 * MIB))
	if command -v setpriv >/dev/null; then
		as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all)
	fi
else
	check "mlockall, current and future" "" "${preload[@]}" mlock cf $((16 * MIB))
fi
if [ "$(id -u)" -ne 0 ] || [ ${#as_nobody[@]} -gt 0 ]; then
	for kib in 256 2048 8192; do
		check "mlockall, future, at most $kib KiB" "-l $kib" "${as_nobody[@]}" "${preload[@]}" mlock f $((60 * MIB))
	done
else
	echo "no setpriv" >"$dir/log"
	result "mlockall, future, unprivileged" 77
fi

meminfo() { awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo; }
room=$(($(meminfo CommitLimit) - $(meminfo Committed_AS)))
if ! [ -w "$overcommit" ] || ! before=$(cat "$overcommit") || ! (echo "$before" >"$overcommit") 2>/dev/null; then
	before=
	echo "overcommit_memory cannot be written" >"$dir/log"
	result "strict overcommit" 77
elif [ "$room" -lt $((2 << 20)) ]; then
	before=
	echo "$((room >> 10)) MiB are left to commit, which others may need" >"$dir/log"
	result "strict overcommit" 77
else
	echo 2 >"$overcommit"
	check "strict overcommit, ulimit -v 600 MiB" "-v $((600 << 10))" "${preload[@]}" until $((400 * MIB))
	check "strict overcommit" "" "${preload[@]}" until $((300 * MIB))
	echo "$before" >"$overcommit"
	before=
fi
summary
