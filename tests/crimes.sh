#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/crimes.sh LIB: does every bad free die with one clear line, and every bad request or
# option fail as documented?
#
# Each crime of crimes.c runs in a process of its own under the preload. It passes if standard
# error is exactly one line, that line starts "hakmem: ", names the address and the fault, and the
# process ended by SIGABRT.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
	echo "usage: ${0##*/} LIB" >&2
	exit 2
fi
lib=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
readonly ABORTED=134

# CC may hold a flag as well, so it is split. Linked with the library for hakmem_*'s sake.
# shellcheck disable=SC2086
${CC:-cc} -std=gnu11 -O1 -g -fno-builtin -Wno-deprecated-declarations -I"$here/../include" \
	"$here/crimes.c" -o "$work/crimes" -pthread "$lib" -Wl,-rpath,"$(dirname "$1")"
ulimit -c 0

ok() { passed=$((passed + 1)); }
not_ok() {
	failed=$((failed + 1))
	echo "FAIL $1: $2"
	sed -n '1,5s/^/     | /p' "$work/err"
}

# under [NAME=VALUE...] -- ARGS...: runs the program under the preload; output to files; its status
under() {
	local vars=() status=0
	while [ "$1" != -- ]; do
		vars+=("$1")
		shift
	done
	shift
	# in a shell of its own, whose "Aborted" goes nowhere
	(exec timeout 200 env "${vars[@]}" LD_PRELOAD="$lib" "$work/crimes" "$@") \
		>"$work/out" 2>"$work/err" || status=$?
	echo $status
}

# one_line PREFIX: standard error is one line that starts with it
one_line() {
	[ "$(wc -l <"$work/err")" -eq 1 ] && grep -q "^$1" "$work/err"
}

list=$("$work/crimes" --list)
while IFS=$'\t' read -r name says; do
	status=$(under -- "$name")
	address=$(head -1 "$work/out")
	if [ "$status" -ne $ABORTED ]; then
		not_ok "$name" "status $status, not $ABORTED (SIGABRT)"
	elif ! one_line 'hakmem: '; then
		not_ok "$name" "not one line that starts with \"hakmem: \""
	elif ! grep -Eq "$says" "$work/err"; then
		not_ok "$name" "the line does not say \"$says\""
	elif ! grep -Eqi "$address([^0-9a-f]|$)" "$work/err"; then
		not_ok "$name" "the line does not name $address"
	else
		ok
	fi
done <<<"$list"

status=$(under -- --requests)
if [ "$status" -eq 0 ] && grep -q refused "$work/out"; then ok; else not_ok requests "status $status"; fi

# HAKMEM_ABORT=0 reports and goes on.
for name in twice_small interior_pool stack wild_kernel_half twice_run twice_by_two_threads_small; do
	status=$(under HAKMEM_ABORT=0 -- $name)
	if [ "$status" -eq 0 ] && one_line 'hakmem: '; then ok; else
		not_ok "$name with HAKMEM_ABORT=0" "status $status, or not one line"
	fi
done

# A bad value: one warning that names it, and the default stays.
for bad in ABORT=2 ABORT= ABORT=-1 ABORT=no ABORT=0x0 'ABORT= 0' ABORT=00000000000000000000000000001x \
	ABORT=18446744073709551616 DECAY_MS=3600001 DECAY_MS=1.5 DECAY_MS=9223372036854775808 \
	MAGAZINE_KIB=63 MAGAZINE_KIB=k HUGE_ZONE_KIB=1073741825 STATS=2 STATS=json: STATS=yes \
	STATS=json:"$(printf '%600s' '' | tr ' ' x)"; do
	status=$(under "HAKMEM_$bad" -- --requests)
	if [ "$status" -eq 0 ] && one_line "hakmem: .*HAKMEM_${bad%%=*}"; then ok; else
		not_ok "HAKMEM_${bad:0:60}" "status $status, or not one warning that names it"
	fi
done
status=$(under HAKMEM_ABORT=7 -- twice_small)
if [ "$status" -eq $ABORTED ] && [ "$(wc -l <"$work/err")" -eq 2 ]; then ok; else
	not_ok "HAKMEM_ABORT=7" "the default, to abort, was not kept: status $status"
fi

# An unknown name: one warning that names the nearest one.
while read -r unknown nearest; do
	status=$(under "HAKMEM_$unknown=1" -- --requests)
	if [ "$status" -eq 0 ] && one_line "hakmem: .*HAKMEM_$unknown.*HAKMEM_$nearest\\b"; then ok; else
		not_ok "HAKMEM_$unknown" "status $status, or not one warning that names HAKMEM_$nearest"
	fi
done <<-'END'
	DECAY DECAY_MS
	DECAYMS DECAY_MS
	ABRT ABORT
	STAT STATS
	stats STATS
	BINDS BIND
	MAGAZIN_KIB MAGAZINE_KIB
	HUGE_ZONE HUGE_ZONE_KIB
	RECLAIMER RECLAIM
	THPS THP
END

# Good values say nothing, and neither do other programs' variables.
status=$(under HAKMEM_ABORT=1 HAKMEM_DECAY_MS=0 HAKMEM_MAGAZINE_KIB=64 HAKMEM_STATS=0 HAKMEMX=1 XHAKMEM_Y=1 \
	-- --requests)
if [ "$status" -eq 0 ] && [ ! -s "$work/err" ]; then ok; else not_ok "good values" "status $status, or a warning"; fi

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
