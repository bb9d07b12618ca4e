#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2015,SC2016 # messages on failure; variables of perl
# Guarded blocks: each crime is reported with the stacks that it takes to mend it, what is no
# crime is not, and the program's own handler of SIGSEGV is called as without them.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
guarded=$build/tests/tools/guarded
library=$build/.libs/libhakmem-profile.so
cd "$work" || exit 1

# commit CODE CRIME [HANDLER [BYTES]]: its exit code; what it prints goes to out and err
commit() {
	local want=$1 got=0
	shift
	# in a shell of its own, which says that it was killed where nobody reads it
	(
		ulimit -c 0
		HAKMEM_GUARDED=${slots-64} HAKMEM_PROFILE_BYTES=${mean-1000} LD_PRELOAD=$library "$guarded" "$@" >out 2>err
	) 2>/dev/null || got=$?
	[ "$got" = "$want" ] || say "$*: exit code $got, not $want: $(cat out err)"
}

# reported CRIME CODE LINE WHO=FUNCTION ...: its line, and the first function of each stack, in order
reported() {
	local crime=$1 code=$2 line=$3 head file offset
	shift 3
	commit "$code" "$crime" || return 1
	head -n 1 err | grep -qE "^hakmem: $line\$" || say "$crime: $(head -n 1 err)" || return 1
	[ "$(grep -c '^hakmem: ' err)" = 1 ] || say "$crime: more than one report: $(cat err)" || return 1
	local stacks
	stacks=$(sed -nE 's/^  ([a-z ]+) by thread [0-9]+:$/\1/p' err)
	[ "$stacks" = "$(printf '%s\n' "${@%=*}")" ] || say "$crime: stacks are $stacks" || return 1
	command -v addr2line >/dev/null || return 0
	for head; do
		IFS=+ read -r file offset < <(grep -A 1 "^  ${head%=*} by thread" err | sed -nE 's/^    (.*) \[0x[0-9a-f]+\]$/\1/p')
		addr2line -fe "$file" "$offset" | grep -qx "${head#*=}" ||
			say "$crime: not ${head#*=} but $(addr2line -fe "$file" "$offset") at $file+$offset" || return 1
	done
}

addr="0x[0-9a-f]+"

overflows_are_reported() {
	reported overflow_at_end 139 "overflow: read at $addr, 1 bytes behind the end of the block $addr of 111 bytes" \
		allocated=made accessed=touched &&
		reported overflow_at_start 139 "overflow: write at $addr, 3985 bytes behind the end of the block $addr of 111 bytes" \
			allocated=made accessed=overflow_at_start
}

underflows_are_reported() {
	reported underflow_at_start 139 "underflow: read at $addr, 1 bytes before the block $addr of 101 bytes" \
		allocated=made accessed=touched &&
		reported underflow_at_end 139 "underflow: read at $addr, 3985 bytes before the block $addr of 101 bytes" \
			allocated=made accessed=touched
}

what_stays_within_the_page_is_reported_at_free() {
	local how="free\(\): block was written behind its end: pointer $addr, block size 99"
	reported overflow_by_one_at_end 134 "$how" allocated=made freed=freed &&
		reported overflow_before_realloc 134 "realloc${how#free}" allocated=made freed=overflow_before_realloc &&
		reported overflow_by_one_at_start 134 "$how" allocated=made freed=freed &&
		reported underflow_by_one 134 "free\(\): block was written before its start: pointer $addr, block size 101" \
			allocated=made freed=freed
}

uses_after_free_are_reported() {
	local how="use after free: (read|write) at $addr, [0-9]+ bytes into the freed block $addr of"
	reported read_after_free 139 "$how 1001 bytes" allocated=made freed=freed accessed=touched &&
		reported write_after_free 139 "$how 1001 bytes" allocated=made freed=freed accessed=write_after_free &&
		reported read_after_free_by_thread 139 "$how 16383 bytes" allocated=made freed=freed accessed=touched &&
		reported read_after_realloc 139 "$how 201 bytes" allocated=made freed=read_after_realloc accessed=touched
}

bad_frees_are_reported() {
	local how="pointer $addr, block size 101"
	reported double_free 134 "free\(\): double free: $how" allocated=made freed=freed "freed again=freed" &&
		reported free_inside 134 "free\(\): not the start of a block: $how" allocated=made freed=freed &&
		reported realloc_after_free 134 "realloc\(\): double free: $how" allocated=made freed=freed \
			"freed again=realloc_after_free"
}

after_a_bad_free_it_may_go_on() {
	HAKMEM_ABORT=0 commit 3 double_free && [ "$(grep -c '^hakmem: ' err)" = 1 ]
}

nothing_is_reported_where_there_is_no_crime() {
	commit 0 mixed && [ ! -s err ] || say "$(cat err)" || return 1
	slots=2000 mean=200 commit 0 mixed && [ ! -s err ] || say "many: $(cat err)" || return 1
	slots=3 mean=1 HAKMEM_HARDENED=1 commit 0 mixed && [ ! -s err ] || say "hardened: $(cat err)"
}

guarded_blocks_are_like_others() {
	local n found
	HAKMEM_GUARDED=200 HAKMEM_PROFILE_BYTES=1 LD_PRELOAD=$library "$build/tests/tools/ways" || say "exit code $?" || return 1
	command -v addr2line >/dev/null || return 0
	n=$("$hakmem" run --reclaim=off --guarded=500 --profile=left.heap --profile-bytes=1 "$build/tests/tools/leak" left) || return 1
	found=$("$hakmem" leaks --top=1000 left.heap | awk '/ in about / { n = $5 } /^    left / { sum += n } END { print sum + 0 }')
	[ "$n" = "$found" ] || say "$n blocks are left, the profile says $found"
}

# Set after the library's own; it is called after the report.
the_programs_handler_is_called() {
	local how
	for how in "4 handler handled" "4 jump 3 jumps" "139 again handled" "139 ignore" "139 none"; do
		# shellcheck disable=SC2086 # code, handler, what it prints
		set -- $how
		commit "$1" read_after_free "$2" && grep -q '^hakmem: use after free' err || say "$2: no report" || return 1
		shift 2
		[ "$(cat out)" = "$*" ] || say "$how: it prints $(cat out)" || return 1
	done
}

other_faults_are_as_they_were() {
	local crime
	for crime in wild_read raised; do
		commit 139 "$crime" && [ ! -s err ] || say "$crime: $(cat err)" || return 1
		commit 4 "$crime" handler && [ ! -s err ] && grep -qx handled out || say "$crime: $(cat err)" || return 1
	done
}

small_signal_stacks_are_enough() {
	local bytes
	for bytes in 8192 65536; do
		commit 139 read_after_free none "$bytes" && grep -q '^  accessed by' err || say "$bytes bytes: $(cat err)" || return 1
	done
}

without_slots_there_is_nothing() {
	slots=0 commit 3 read_after_free && grep -q 'no block is guarded' out
}

the_plain_library_says_that_it_has_none() {
	HAKMEM_GUARDED=10 LD_PRELOAD=$lib /bin/true 2>err
	grep -q 'libhakmem-profile.so' err
}

the_command_takes_the_right_library() {
	ulimit -c 0
	expect_code 134 "$hakmem" run --guarded=64 --profile-bytes=1000 "$guarded" double_free &&
		grep -q '^hakmem: free(): double free' err
}

# perl: makes and frees some 600,000 blocks
count_perl() {
	HAKMEM_GUARDED=$1 PERL_HASH_SEED=0 count "$library" perl -e \
		'my %h; for my $i (1 .. 60000) { my $k = "k" . $i % 7000; push @{$h{$k}}, "v$i"; $h{$k} = [] if @{$h{$k}} > 5 }'
}

functions_and_lines_are_named() {
	command -v addr2line >/dev/null || skip "no addr2line"
	local lines="  allocated by
    made at .*guarded\.c:[0-9]+
  freed by
    freed at .*guarded\.c:[0-9]+
  accessed by
    touched at .*guarded\.c:[0-9]+
    read_after_free at .*guarded\.c:[0-9]+" line
	commit 139 read_after_free
	(echo "before"; sed 's/^/server[7]: /' err) | "$hakmem" symbolize >named || return 1
	[ "$(head -n 1 named)" = before ] || say "other lines: $(cat named)" || return 1
	while IFS= read -r line; do
		grep -qE "^server\[7\]: $line" named || say "no '$line' in $(cat named)" || return 1
	done <<<"$lines"
	! grep -qF "$guarded+0x" named || say "an address is left: $(cat named)" || return 1
	# where nothing is known nothing changes
	sed "s,$guarded,/no/such/file,; s,/lib,/no/lib,; s,/usr,/no/usr," err >unknown
	expect_code 0 "$hakmem" symbolize unknown && cmp -s unknown out || say "not the same: $(diff unknown out)" || return 1
	expect_code 1 "$hakmem" symbolize missing
}

# Its addresses in the file are those in the process.
programs_that_lie_where_they_were_linked_have_names() {
	command -v addr2line >/dev/null || skip "no addr2line"
	${CC:-cc} -g -O1 -fno-builtin -fno-optimize-sibling-calls -fno-pie -no-pie -pthread -o fixed "$here/guarded.c" 2>/dev/null ||
		skip "no compiler for it"
	guarded=$PWD/fixed commit 139 overflow_at_end && "$hakmem" symbolize err >named &&
		grep -qE '^    made at .*guarded\.c:[0-9]+' named && grep -qE '^    touched at ' named || say "$(cat named)"
}

# By the default distance between samples; counts of instructions do not depend on the machine's load.
they_cost_less_than_one_per_cent_of_a_profile() {
	command -v perl >/dev/null || skip "no perl"
	! grep -q 'define HAK_DEBUG 1' "$build/config.h" || skip "a debug build"
	local without
	count_perl 0 || return 1
	without=$counted
	count_perl 1000 || return 1
	echo "perl: $without instructions, $counted with guarded blocks"
	[ "$without" -gt 10000000 ] && [ $((counted * 100)) -lt $((without * 101)) ]
}

check overflows_are_reported
check underflows_are_reported
check what_stays_within_the_page_is_reported_at_free
check uses_after_free_are_reported
check bad_frees_are_reported
check after_a_bad_free_it_may_go_on
check nothing_is_reported_where_there_is_no_crime
check guarded_blocks_are_like_others
check the_programs_handler_is_called
check other_faults_are_as_they_were
check small_signal_stacks_are_enough
check without_slots_there_is_nothing
check the_plain_library_says_that_it_has_none
check the_command_takes_the_right_library
check functions_and_lines_are_named
check programs_that_lie_where_they_were_linked_have_names
check they_cost_less_than_one_per_cent_of_a_profile
summary
