#!/bin/bash
# SPDX-License-Identifier: MIT
#
# tests/instructions.sh: has the pair of malloc and free become longer?
#
#   tests/instructions.sh [--update] [--table FILE] LIB    check LIB, or write its figures to the table
#   tests/instructions.sh --peers [LIB]                    print the peers' figures (and LIB's)
#   tests/instructions.sh --print LIB                      print LIB's alone, whatever they are
#
# Instructions a pair in the steady state, counted by callgrind, without the caller's loop: the loop
# is measured under a malloc and free that do nothing, and their own few instructions are added
# again. Counts do not depend on the machine's load. They do depend on the compiler: the table is of
# the release build by gcc. A figure fails if it is above the table's, or above the cap.
set -euo pipefail

readonly CAP=48
readonly PAIRS=100000
readonly SIZES=(16 64 256 1000 1024 2048 4096 16384 32768 33792 53248)
readonly PEERS=(libmimalloc.so.2 libjemalloc.so.2 libtcmalloc_minimal.so.4)

here=$(cd "$(dirname "$0")" && pwd)
table=$here/instructions.txt
update=no peers=no print=no lib=

usage() {
	echo "usage: ${0##*/} [--update] [--table FILE] LIB | --peers [LIB] | --print LIB" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--update) update=yes ;;
	--peers) peers=yes ;;
	--print) print=yes ;;
	--table)
		[ $# -ge 2 ] || usage
		table=$2
		shift
		;;
	-*) usage ;;
	*)
		[ -z "$lib" ] || usage
		lib=$1
		;;
	esac
	shift
done
[ -n "$lib" ] || [ $peers = yes ] || usage
if [ -n "$lib" ]; then
	[ -f "$lib" ] || { echo "${0##*/}: $lib: no such library" >&2; exit 2; }
	lib=$(realpath "$lib")
fi

for tool in valgrind objdump readelf "${CC:-cc}"; do
	if ! command -v "${tool%% *}" >/dev/null; then
		echo "SKIP all sizes: $tool is not installed"
		echo "0 passed, 0 failed, ${#SIZES[@]} skipped"
		exit 77
	fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# CC may hold a flag as well, so it is split.
# shellcheck disable=SC2086
{
	${CC:-cc} -std=gnu11 -O2 -fno-builtin "$here/pair.c" -o "$work/pair"
	${CC:-cc} -std=gnu11 -O2 -fno-builtin -shared -fPIC \
		-DPAIR_NOOP "$here/pair.c" -o "$work/noop.so"
}
# The dynamic linker's --preload reaches the program alone, not valgrind's own start.
loader=$(readelf -lW "$work/pair" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')

# with LIB COMMAND...: the command under LIB's malloc, or the C library's if LIB is empty
with() {
	local preload=$1
	shift
	if [ -n "$preload" ]; then
		"$@" "$loader" --preload "$preload" "$work/pair" "${arguments[@]}"
	else
		"$@" "$loader" "$work/pair" "${arguments[@]}"
	fi
}

# in_force LIB: ld.so only warns of a library that it cannot preload. Then all figures would be of
# the C library's malloc.
in_force() {
	local bound
	arguments=()
	bound=$(with "$1" timeout 300) || return 1
	[ "$(realpath "$bound")" = "$(realpath "$1")" ]
}

# total LIB SIZE PAIRS: all instructions of one run
total() {
	arguments=("$2" "$3")
	if ! with "$1" timeout 900 valgrind --tool=callgrind --callgrind-out-file="$work/out" \
		>"$work/log" 2>&1; then
		cat "$work/log" >&2
		return 1
	fi
	sed -n 's/^summary: *//p' "$work/out"
}

# steady LIB SIZE: instructions of $PAIRS pairs with the caller's loop
steady() {
	local none many
	none=$(total "$1" "$2" 0) || return 1
	many=$(total "$1" "$2" $PAIRS) || return 1
	echo $((many - none))
}

# length FUNCTION: instructions of a straight-line function of noop.so
length() {
	local start size
	read -r start size < <(readelf --dyn-syms -W "$work/noop.so" |
		awk -v name="$1" '$8 == name { print $2, $3 }')
	objdump -d --no-show-raw-insn --start-address="0x$start" \
		--stop-address=$((16#$start + size)) "$work/noop.so" | grep -c '^ *[0-9a-f]*:'
}

own=$(($(length malloc) + $(length free)))
in_force "$work/noop.so" || { echo "${0##*/}: no preload by $loader" >&2; exit 2; }
loop=$(steady "$work/noop.so" 64)

# tenths LIB SIZE: tenths of an instruction a pair
tenths() {
	local all
	all=$(steady "$1" "$2") || return 1
	echo $((((all - loop + own * PAIRS) * 10 + PAIRS / 2) / PAIRS))
}

# A figure as tenths, and tenths as a figure.
from() { awk -v x="$1" 'BEGIN { printf "%d", x * 10 + 0.5 }'; }
show() { echo "$(($1 / 10)).$(($1 % 10))"; }

if [ $peers = yes ] || [ $print = yes ]; then
	declare -a names=() paths=() wanted=()
	if [ $peers = yes ]; then
		names=(glibc) paths=("") wanted=("${PEERS[@]}")
	fi
	for peer in "${wanted[@]}"; do
		path=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p |
			awk -v name="$peer" '$1 == name && !seen++ { print $NF }')
		if [ -n "$path" ]; then
			names+=("${peer%%.so*}")
			paths+=("$path")
		else
			echo "$peer is not installed" >&2
		fi
	done
	if [ -n "$lib" ]; then
		names+=("$(basename "$lib")")
		paths+=("$lib")
	fi
	printf '%8s' bytes
	printf ' %20s' "${names[@]}"
	echo
	for size in "${SIZES[@]}"; do
		printf '%8d' "$size"
		for path in "${paths[@]}"; do
			printf ' %20s' "$(show "$(tenths "$path" "$size")")"
		done
		echo
	done
	exit 0
fi

if ! in_force "$lib"; then
	echo "FAIL $lib cannot be preloaded or does not define malloc"
	echo "0 passed, 1 failed, $((${#SIZES[@]} - 1)) skipped"
	exit 1
fi

passed=0 failed=0 skipped=0
fail() {
	echo "FAIL $*"
	failed=$((failed + 1))
}
{
	echo "# Instructions of a malloc+free pair in the steady state: size, figure."
	echo "# Of the release build by gcc. Written by tests/instructions.sh --update LIB."
} >"$work/table"

for size in "${SIZES[@]}"; do
	if ! now=$(tenths "$lib" "$size"); then
		fail "$size bytes: the run under callgrind did not end well"
		continue
	fi
	echo "$size $(show "$now")" >>"$work/table"
	before=
	if [ $update = no ] && [ -r "$table" ]; then
		before=$(awk -v size="$size" '$1 == size { print $2 }' "$table")
	fi
	if [ "$now" -gt $((CAP * 10)) ]; then
		fail "$size bytes: $(show "$now") instructions, at most $CAP are allowed"
	elif [ $update = yes ]; then
		echo "ok $size bytes: $(show "$now") instructions"
		passed=$((passed + 1))
	elif [ -z "$before" ]; then
		fail "$size bytes: $(show "$now") instructions, no figure in ${table##*/}: --update"
	elif [ "$now" -gt "$(from "$before")" ]; then
		fail "$size bytes: $(show "$now") instructions, ${table##*/} says $before"
	else
		note=
		[ "$now" -eq "$(from "$before")" ] || note=" (below the table's $before: --update)"
		echo "ok $size bytes: $(show "$now") instructions$note"
		passed=$((passed + 1))
	fi
done

# A table with a figure missing would fail from then on, so it is written whole or not at all.
if [ $update = yes ]; then
	if [ "$(grep -c '^[0-9]' "$work/table")" -eq ${#SIZES[@]} ]; then
		cp "$work/table" "$table"
	else
		echo "${0##*/}: $table is left as it was" >&2
	fi
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
