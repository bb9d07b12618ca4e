#!/bin/bash
# SPDX-License-Identifier: MIT
#
# tests/fastpath.sh LIB: do malloc and free do their usual work alone, without a lock or a call?
#
# Disassembles the two entry functions of the shared library. Their cold parts are elsewhere
# (compilers put them into malloc.cold, we put them into *_slow functions) and are not looked at.
# In the function itself these fail:
#   - a lock prefix, an xchg with memory (it locks without saying so), a full fence
#   - a call of any kind; a jump out of the function is fine, that is the way to the slow part
#   - a system call
# An entry that never returns itself only passes the work on, so what it jumps to is looked at
# in its place.
set -euo pipefail

readonly ENTRIES=(malloc free)
readonly DEPTH=3 # so many functions may pass the work on

if [ $# -ne 1 ]; then
	echo "usage: ${0##*/} LIB" >&2
	exit 2
fi
lib=$1
[ -f "$lib" ] || { echo "${0##*/}: $lib: no such library" >&2; exit 2; }

skip() {
	echo "SKIP $1"
	echo "0 passed, 0 failed, ${#ENTRIES[@]} skipped"
	exit 77
}
for tool in objdump readelf; do
	command -v $tool >/dev/null || skip "$tool is not installed"
done
LC_ALL=C readelf -hW "$lib" | grep -q 'Machine:.*X86-64' ||
	skip "the rules are those of x86-64, and $lib is of another machine"

# All functions with a size: address, size, name. Both symbol tables: a stripped library still has
# the dynamic one.
functions=$(readelf -sW "$lib" | awk '$4 == "FUNC" && $3 != 0 && $7 != "UND" {
	sub(/@.*/, "", $8); print $2, $3, $8 }' | sort -u)

# code ADDRESS SIZE: the instructions, one a line: address, tab, instruction
code() {
	objdump -d --no-show-raw-insn --start-address=$((16#$1)) --stop-address=$((16#$1 + $2)) \
		"$lib" | sed -n 's/^ *\([0-9a-f]\+\):\t/\1\t/p'
}

# faults: of the instructions on stdin, those that a fast path must not have
faults() {
	awk -F '\t' '
	{ text = $2; sub(/ +#.*/, "", text) }
	text ~ /(^| )lock / { why = "lock prefix" }
	text ~ /^xchg.*\(/ { why = "xchg with memory locks" }
	text ~ /^mfence/ { why = "full fence" }
	text ~ /(^| )callq? / { why = "call" }
	text ~ /^(syscall|sysenter|int )/ { why = "system call" }
	why { print "     " $1 ": " text "    <- " why; why = "" }'
}

# passed_on START SIZE: the addresses outside that the instructions on stdin jump to
passed_on() {
	awk -F '\t' '$2 ~ /^(bnd )?j[a-z]+ +[0-9a-f]+( |$)/ {
		sub(/^(bnd )?j[a-z]+ +/, "", $2); sub(/ .*/, "", $2); print $2 }' |
		while read -r target; do
			if [ $((16#$target)) -lt $((16#$1)) ] || [ $((16#$target)) -ge $((16#$1 + $2)) ]; then
				printf '%x\n' $((16#$target))
			fi
		done | sort -u
}

# judge NAME ADDRESS SIZE DEPTH: prints what is wrong
judge() {
	local instructions target found
	instructions=$(code "$2" "$3")
	faults <<<"$instructions"
	if grep -qE $'\t(repz |bnd )?retq?( |$)' <<<"$instructions"; then
		return
	fi
	if [ "$4" -ge $DEPTH ]; then
		echo "     $1 is function $DEPTH in a row that only passes the work on"
		return
	fi
	found=no
	for target in $(passed_on "$2" "$3" <<<"$instructions"); do
		local address size name
		while read -r address size name; do
			if [ $((16#$address)) -eq $((16#$target)) ]; then
				found=yes
				judge "$name" "$address" "$size" $(($4 + 1))
				break
			fi
		done <<<"$functions"
	done
	[ $found = yes ] || echo "     $1 never returns, and where it jumps to is no known function"
}

passed=0 failed=0
for entry in "${ENTRIES[@]}"; do
	read -r address size < <(awk -v name="$entry" '$3 == name { print $1, $2; exit }' \
		<<<"$functions") || true
	if [ -z "${address:-}" ]; then
		echo "FAIL $entry: $lib does not define it"
		failed=$((failed + 1))
		continue
	fi
	wrong=$(judge "$entry" "$address" "$size" 1)
	count=$(code "$address" "$size" | wc -l)
	if [ -n "$wrong" ]; then
		echo "FAIL $entry, $count instructions in $size bytes:"
		echo "$wrong"
		failed=$((failed + 1))
	else
		echo "ok $entry, $count instructions in $size bytes: no lock, no call"
		passed=$((passed + 1))
	fi
	address=
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
