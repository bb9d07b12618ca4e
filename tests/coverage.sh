#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How much of src/ do the tests reach? coverage.sh BUILD [TEST ...]
#
# BUILD is made here, with gcov's counters. In it `make check` runs, or the TESTs of it, and scripts on its
# library. Prints the lines of each file and of each part: src/, the libraries with their headers, and
# tools/, the command. Either below 90 % is a failure, and so is a failed test. A line is reached if it is
# in any of the objects that have it; BUILD/unreached names the others.
set -euo pipefail

readonly LEAST=90 # percent of all lines
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${1:?usage: coverage.sh BUILD [TEST ...]}
shift
mkdir -p "$build"
cd "$build"
[ -f Makefile ] || "$top/configure" -q --disable-static \
	CFLAGS="-g -O0 --coverage -fprofile-update=atomic -include $top/tests/coverage.h" >configure.log
find . -name '*.gcda' -delete
make -j"$(nproc)" >build.log 2>&1 || { tail build.log; exit 1; }
status=0
# Counting is slow. Of the faults all are in distcheck.
export CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-10} HAK_TEST_SECONDS=600 HAK_TIMED=1 FAULT_EVERY=${FAULT_EVERY:-25}
# But for the tests of what the libraries export and need, in which gcov's own is, and hardened.sh, which
# runs two of the others eleven times.
# shellcheck disable=SC2016 # for make
tests=('$(filter-out tests/exports.sh tests/needed.sh tests/hardened.sh,$(unit_tests) $(script_tests))')
[ $# = 0 ] || tests=("$@")
timeout 3600 make -j"$(nproc)" -k check TESTS="${tests[*]}" >check.log 2>&1 || status=1
grep -E '^(FAIL|ERROR)' check.log || true
run() { # LOG COMMAND ...
	timeout 1200 "${@:2}" >"$1.log" 2>&1 || { status=1; echo "FAIL: $1: $(tail -n 1 "$1.log")"; }
}
run faults_hardened env HAKMEM_HARDENED=1 LD_LIBRARY_PATH=.libs tests/test_faults '' 200
for script in preload_threads properties crimes foreign limits threads_end; do
	run "$script" bash "$top/tests/$script.sh" "$PWD/.libs/libhakmem.so"
done

# also what no test has run: an object without counts
find . \( -path './src/*' -o -path './tools/*' \) -name '*.gcno' -print0 | xargs -0 gcov -r -s "$top" -t 2>/dev/null >lines
awk -F : -v least=$LEAST -v unreached=unreached '
	$3 == "Source" { name = $4; next }
	name !~ /^(src|tools)\// || $1 ~ /^ *-$/ { next }
	{
		line = name ":" $2 + 0
		if (!(line in seen)) {
			seen[line] = $1 ~ /[#=]$/ ? 0 : 1
			all[name]++
			reached[name] += seen[line]
			text[line] = substr($0, index($0, $3))
		} else if (!seen[line] && $1 !~ /[#=]$/) {
			seen[line] = 1
			reached[name]++
		}
	}
	END {
		for (line in seen)
			if (!seen[line])
				print line ": " text[line] | "sort -t : -k 1,1 -k 2,2n >" unreached
		for (name in all) {
			printf "%6.2f %% of %4d  %s\n", 100 * reached[name] / all[name], all[name], name | "sort -n"
			part = substr(name, 1, index(name, "/"))
			part_reached[part] += reached[name]
			part_all[part] += all[name]
		}
		close("sort -n")
		for (part in part_all) {
			printf "%6.2f %% of %5d lines of %s\n", 100 * part_reached[part] / part_all[part], part_all[part], part
			bad += 100 * part_reached[part] < least * part_all[part]
		}
		exit bad > 0
	}' lines || status=1
exit $status
