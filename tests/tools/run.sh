#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016 # variables for the program to expand
# hakmem run: the program gets its arguments, its environment and hakmem; we get its exit code.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"

the_exit_code_is_the_programs() {
	expect_code 0 "$hakmem" run true && expect_code 1 "$hakmem" run false &&
		expect_code 42 "$hakmem" run sh -c 'exit 42' && expect_code 42 "$hakmem" run --compare -- sh -c 'exit 42'
}

what_cannot_be_run_has_its_own_codes() {
	: >"$work/plain"
	expect_code 127 "$hakmem" run "$work/nothing" && expect_code 126 "$hakmem" run "$work/plain" &&
		expect_code 127 "$hakmem" run --compare "$work/nothing" &&
		expect_code 125 "$hakmem" run --nosuch true && expect_code 125 "$hakmem" run &&
		expect_code 125 "$hakmem" run --library="$work/nothing" true &&
		expect_code 125 "$hakmem" run --compare --runs=0 true
}

arguments_arrive_as_they_are() {
	expect_code 0 "$hakmem" run -- printf '<%s>' --stats '' 'a b' -- -x
	[ "$(cat "$work/out")" = '<--stats><><a b><--><-x>' ] || say "got $(cat "$work/out")"
}

the_library_comes_first_and_what_was_preloaded_stays() {
	LD_PRELOAD=libc.so.6 expect_code 0 "$hakmem" run sh -c 'echo $LD_PRELOAD; cat /proc/self/maps'
	[ "$(head -n 1 "$work/out")" = "$lib:libc.so.6" ] || say "LD_PRELOAD is $(head -n 1 "$work/out")"
	grep -qF "$lib" "$work/out" || say "it is not mapped"
}

options_become_variables() {
	expect_code 0 "$hakmem" run --decay-ms=7 --thp=0 --stats=0 sh -c 'env'
	local v
	for v in HAKMEM_DECAY_MS=7 HAKMEM_THP=0 HAKMEM_STATS=0; do
		grep -qx "$v" "$work/out" || say "no $v" || return 1
	done
	[ "$(grep -c ^HAKMEM_ "$work/out")" = 3 ] || say "more than was asked for"
}

every_variable_of_the_library_is_an_option() {
	local v flag
	"$hakmem" run --help >"$work/help"
	while read -r v; do
		flag=$(tr 'A-Z_' 'a-z-' <<<"${v#HAKMEM_}")
		grep -qE -- "--$flag(=|\[)" "$work/help" || say "no --$flag for $v" || return 1
	done < <("$hakmem" options | grep -o '^HAKMEM_[A-Z0-9_]*')
}

stats_prints_the_table() {
	expect_code 0 "$hakmem" run --stats true
	grep -q '^mapped memory' "$work/err" || say "no table: $(cat "$work/err")"
}

compare_runs_both_and_prints_both() {
	expect_code 0 "$hakmem" run --compare --runs=3 sh -c 'echo "${LD_PRELOAD-none}"'
	[ "$(sort "$work/out" | uniq -c | awk '{ print $1, $2 }')" = "3 $lib
3 none" ] || say "it ran: $(cat "$work/out")" || return 1
	local row
	for row in 'wall time' user system 'peak memory' 'minor faults' 'exit code'; do
		grep -qE "^$row.* [0-9]" "$work/err" || say "no row for $row: $(cat "$work/err")" || return 1
	done
}

a_static_program_is_warned_about() {
	echo 'int main(void){return 0;}' >"$work/static.c"
	${CC:-cc} -static -o "$work/static" "$work/static.c" 2>/dev/null || skip "no static C library"
	expect_code 0 "$hakmem" run "$work/static"
	grep -q 'linked statically' "$work/err" || say "no warning"
	expect_code 0 "$hakmem" run true
	[ ! -s "$work/err" ] || say "a warning about true: $(cat "$work/err")"
}

# The fastest of 21 runs each, in turn, as the machine may do other things; the limit is 10 ms.
it_adds_less_than_ten_milliseconds() {
	local i t ours plain
	for ((i = 0; i < 21; i++)); do
		t=$(date +%s%N)
		"$hakmem" run /bin/true
		echo $(($(date +%s%N) - t)) >>"$work/ours"
		t=$(date +%s%N)
		LD_PRELOAD=$lib /bin/true
		echo $(($(date +%s%N) - t)) >>"$work/plain"
	done
	ours=$(sort -n "$work/ours" | sed -n 1p) plain=$(sort -n "$work/plain" | sed -n 1p)
	echo "hakmem run adds $(((ours - plain) / 1000)) us"
	[ $((ours - plain)) -lt 10000000 ] || say "it takes longer"
}

check the_exit_code_is_the_programs
check what_cannot_be_run_has_its_own_codes
check arguments_arrive_as_they_are
check the_library_comes_first_and_what_was_preloaded_stays
check options_become_variables
check every_variable_of_the_library_is_an_option
check stats_prints_the_table
check compare_runs_both_and_prints_both
check a_static_program_is_warned_about
check it_adds_less_than_ten_milliseconds
summary
