#!/bin/bash
# SPDX-License-Identifier: MIT
#
# tests/entry_points.sh: has an entry point become longer, for any kind of size?
#
#   tests/entry_points.sh [--update] [--table FILE] LIB    check LIB, or write its figures to the table
#   tests/entry_points.sh --print LIB                      print any malloc's figures
#
# Instructions, loads, stores and branches of a call in a steady state, slow paths included in their
# share, by callgrind. tests/entry_points.c has the calls. What libc's memset, memcpy and memmove take
# is left out: it differs by processor. Counts do not depend on the machine's load, but on the
# compiler: the table is of the release build by the compiler in its head, and a library by another
# one is not compared. The reclaimer is off: what it takes and gives back meanwhile depends on the
# load. A figure fails above the table's by more than TOLERANCE percent and HALF.
set -euo pipefail

readonly TOLERANCE=5 # percent: slow paths may take a step more, fast paths may not
readonly HALF=0.5    # of an instruction, for the small figures
# Both ends of tiny and pool; l25's slabs and runs; spans; a mapping of its own.
readonly SIZES=(16 64 256 1024 2048 4096 16384 32768 53248 65536 262144 1048576 4194304 67108864)

here=$(cd "$(dirname "$0")" && pwd)
table=$here/entry_points.txt
mode=check lib=

usage() {
	echo "usage: ${0##*/} [--update] [--table FILE] LIB | --print LIB" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--update | --print) mode=${1#--} ;;
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
[ -n "$lib" ] || usage
[ -f "$lib" ] || { echo "${0##*/}: $lib: no such library" >&2; exit 2; }
lib=$(realpath "$lib")

skip() {
	echo "SKIP $1"
	echo "0 passed, 0 failed, ${#SIZES[@]} skipped"
	exit 77
}
for tool in valgrind readelf "${CC:-cc}"; do
	command -v "${tool%% *}" >/dev/null || skip "$tool is not installed"
done

# By its own account: "GCC: (Debian 12.2.0-14+deb12u1) 12.2.0" becomes "gcc 12".
compiler=$(readelf -p .comment "$lib" | sed -n 's/.*GCC: (.*) \([0-9]*\)\..*/gcc \1/p
	s/.*clang version \([0-9]*\)\..*/clang \1/p' | sort -u | tail -n 1)
if [ "$mode" = check ]; then
	[ -r "$table" ] || { echo "FAIL no ${table##*/}: --update"; exit 1; }
	of=$(sed -n 's/^# compiler: //p' "$table")
	[ "$compiler" = "$of" ] || skip "the table is of $of, the library of ${compiler:-an unknown compiler}"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# CC may hold a flag as well, so it is split.
# shellcheck disable=SC2086
if ! ${CC:-cc} -std=gnu11 -O2 -fno-builtin -fno-plt -fno-optimize-sibling-calls \
	"$here/entry_points.c" -o "$work/entry_points" 2>"$work/log"; then
	grep -q 'valgrind/callgrind.h' "$work/log" && skip 'valgrind/callgrind.h is not installed'
	cat "$work/log" >&2
	exit 1
fi
# The dynamic linker's --preload reaches the program alone, not valgrind's own start.
loader=$(readelf -lW "$work/entry_points" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
run=("$loader" --preload "$lib" "$work/entry_points")

# ld.so only warns of a library that it cannot preload; then all figures would be of another malloc.
bound=$(timeout 300 "${run[@]}") || bound=none
if [ "$(realpath "$bound")" != "$lib" ]; then
	echo "FAIL $lib cannot be preloaded or does not define malloc"
	echo "0 passed, 1 failed, $((${#SIZES[@]} - 1)) skipped"
	exit 1
fi
if ! HAKMEM_RECLAIM=off timeout 1200 valgrind --tool=callgrind --cache-sim=yes --branch-sim=yes --compress-strings=no \
	--compress-pos=no --callgrind-out-file="$work/out" "${run[@]}" "${SIZES[@]}" >"$work/log" 2>&1; then
	cat "$work/log" >&2
	echo "FAIL the run under callgrind did not end well"
	echo "0 passed, 1 failed, $((${#SIZES[@]} - 1)) skipped"
	exit 1
fi

# figures DUMP: lines of `entry size instructions loads stores branches`. In a dump, "fn=F" opens
# what F does; "cfn=G", "calls=N ..." and a line of inclusive costs is what G cost when F called it.
# Costs that are 0 at a line's end are left out.
figures() {
	awk '
	/^desc: Trigger: Client Request: / { size = $NF }
	/^events:/ { for (i = 2; i <= NF; i++) at[$i] = i }
	/^fn=/ { fn = substr($0, 4) }
	/^cfn=/ { callee = substr($0, 5) }
	/^calls=/ {
		split($1, part, "=")
		getline
		entry = ""
		sign = 1
		if (fn ~ /^do_/) {
			entry = substr(fn, 4)
			calls[entry] += part[2]
		} else if (callee ~ /mem(set|cpy|move)/) {
			entry = callee ~ /memset/ ? "calloc" : "realloc_grow"
			sign = -1
		}
		if (entry != "") {
			cost[entry, 1] += sign * $at["Ir"]
			cost[entry, 2] += sign * $at["Dr"]
			cost[entry, 3] += sign * $at["Dw"]
			cost[entry, 4] += sign * ($at["Bc"] + $at["Bi"])
		}
	}
	END {
		for (entry in calls) {
			printf "%s %d", entry, size
			for (i = 1; i <= 4; i++)
				printf " %.1f", cost[entry, i] / calls[entry]
			print ""
		}
	}' "$1" | sort
}
{
	echo "# What a call takes in a steady state: entry point, bytes, instructions, loads, stores, branches."
	echo "# Of the release build. Written by tests/entry_points.sh --update LIB."
	echo "# compiler: $compiler"
	for ((i = 1; i <= ${#SIZES[@]}; i++)); do
		figures "$work/out.$i"
	done
} >"$work/table"

case $mode in
print)
	cat "$work/table"
	exit 0
	;;
update)
	cp "$work/table" "$table"
	echo "$(grep -c '^[a-z]' "$table") figures written"
	exit 0
	;;
esac

awk -v tolerance=$TOLERANCE -v half=$HALF -v name="${table##*/}" '
	/^#/ { next }
	NR == FNR { before[$1, $2] = $0; left[$1 " " $2] = 1; next }
	{
		split("instructions loads stores branches", what, " ")
		delete left[$1 " " $2]
		bad = ""
		if (!(($1, $2) in before))
			bad = "no figure in " name ": --update"
		else {
			split(before[$1, $2], old, " ")
			for (i = 3; i <= 6; i++)
				if ($i > old[i] * (1 + tolerance / 100) + half)
					bad = bad sprintf("%s%s %s instead of %s", bad ? ", " : "", what[i - 2], $i, old[i])
			if ($3 < old[3] * (1 - tolerance / 100) - half)
				below++
		}
		if (bad) {
			print "FAIL " $1 " of " $2 " bytes: " bad
			failed++
		} else
			passed++
	}
	END {
		for (missing in left) {
			print "FAIL " missing " bytes: not measured"
			failed++
		}
		if (below)
			print below " figures are below the table by more than the tolerance: --update"
		printf "%d passed, %d failed, 0 skipped\n", passed, failed
		exit failed > 0
	}' "$table" "$work/table"
