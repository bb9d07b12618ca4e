#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016 # variables for another shell
# The heap profile says what a program holds whose heap is known, and costs nothing where it is
# not asked for.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
leak=$build/tests/tools/leak
library=$build/.libs/libhakmem-profile.so
cd "$work" || exit 1

# stack FUNCTION: "MIB BLOCKS" that hakmem leaks says of the stack with it
stack() {
	"$hakmem" leaks --top=1000 "$1" | awk -v f="    $2" '/ in about / { head = $0 } index($0, f) == 1 && !seen++ { print head }' |
		sed -E 's/^([0-9.]+) MiB in about ([0-9]+) .*/\1 \2/'
}

need_addr2line() { command -v addr2line >/dev/null || skip "no addr2line"; }

# 60 MB are 57.2 MiB; a sample every 64 KiB makes 900 of them, 3 % of error
what_is_held_is_found_with_its_function() {
	need_addr2line
	expect_code 0 "$hakmem" run --profile=held.heap --profile-bytes=65536 "$leak" || return 1
	awk '{ exit !($1 > 50 && $1 < 65 && $2 > 2600 && $2 < 3400) }' <<<"$(stack held.heap held)" || say "held: $(stack held.heap held)" ||
		return 1
	[ -z "$(stack held.heap churned)" ] || say "churned holds something" || return 1
	"$hakmem" leaks held.heap | grep -E '^    held at .*leak\.c:[0-9]+' >/dev/null || say "no file and line"
}

# 200 MB in blocks of 100 bytes: what was asked for in all, less what is held
what_was_freed_counts_as_asked_for() {
	expect_code 0 "$hakmem" run --profile=all.heap --profile-bytes=65536 "$leak" || return 1
	# one sample of a block of 100 bytes stands for 65586 bytes
	tr '][:@' '    ' <all.heap | awk '$1 == 0 && $2 == 0 && $3 && $4 / $3 == 100 { n += $3 }
		END { bytes = n * 65586; print n; exit !(bytes > 180e6 && bytes < 220e6) }' >count ||
		say "$(cat count) samples of the freed blocks"
}

# With a distance of one byte every block is a sample: nothing may be lost or left over.
every_block_is_accounted_for() {
	local n
	need_addr2line
	n=$("$hakmem" run --reclaim=off --profile=left.heap --profile-bytes=1 "$leak" left) || return 1
	local found
	found=$("$hakmem" leaks --top=1000 left.heap | awk '/ in about / { n = $5 } /^    left / { sum += n } END { print sum + 0 }')
	[ "$n" = "$found" ] || say "$n blocks are left, the profile says $found"
}

# Sampled blocks lie elsewhere in their slabs, and are as good as any other.
sampled_blocks_are_like_others() {
	local bytes ways=$build/tests/tools/ways
	for bytes in 1 100000; do
		HAKMEM_PROFILE=ways.heap HAKMEM_PROFILE_BYTES=$bytes LD_PRELOAD=$library "$ways" || say "exit code $?" || return 1
	done
	HAKMEM_HARDENED=1 HAKMEM_PROFILE=ways.heap HAKMEM_PROFILE_BYTES=1 LD_PRELOAD=$library "$ways" ||
		say "hardened: exit code $?" || return 1
	"$hakmem" leaks ways.heap | grep '^about' >/dev/null || return 1
	expect_code 134 "$hakmem" run --profile=ways.heap --profile-bytes=1 "$ways" twice &&
		grep -q 'not the start of a block' err || say "a block freed twice: $(cat err)" || return 1
	# 60 MB are held, and of 200 MB more that are freed a third was sampled
	expect_code 0 "$hakmem" run --profile=left.heap --profile-bytes=200 --stats=json:live "$leak" || return 1
	[ "$(sed -E 's/.*"live":([0-9]+),"cached".*/\1/' live)" -lt 70000000 ] || say "sampled blocks are not freed: $(cat live)"
}

a_signal_writes_it() {
	mkfifo ready
	HAKMEM_PROFILE=$work/now-%p.heap HAKMEM_PROFILE_BYTES=65536 HAKMEM_STATS_SIGNAL=12 LD_PRELOAD=$library "$leak" wait >ready 2>err &
	local pid=$! i
	read -r _ <ready
	kill -USR2 "$pid"
	for ((i = 0; i < 100; i++)); do
		grep -qs '^MAPPED_LIBRARIES' "now-$pid.heap" && break
		sleep 0.05
	done
	kill -9 "$pid"
	wait "$pid" 2>/dev/null
	expect_code 0 "$hakmem" leaks "now-$pid.heap" && grep -q 'about [4-6][0-9][.0-9]* MiB held' out && [ ! -s err ]
}

a_program_asks_for_it() {
	need_addr2line
	HAKMEM_PROFILE=$work/exit.heap HAKMEM_PROFILE_BYTES=65536 LD_PRELOAD=$library "$leak" profile >asked.heap || say "refused" ||
		return 1
	[ "$(stack asked.heap held)" = "$(stack exit.heap held)" ] && [ -n "$(stack asked.heap held)" ] ||
		say "held: $(stack asked.heap held), at exit $(stack exit.heap held)" || return 1
	expect_code 1 env LD_PRELOAD="$lib" "$leak" profile && [ ! -s out ]
}

both_libraries_have_the_same_names() {
	diff <(nm -D --defined-only "$lib" | awk '{ print $3 }' | sort) <(nm -D --defined-only "$library" | awk '{ print $3 }' | sort)
}

the_plain_library_says_that_it_has_no_profile() {
	HAKMEM_PROFILE=$work/none LD_PRELOAD=$lib /bin/true 2>err
	grep -q 'libhakmem-profile.so' err && [ ! -e none ]
}

programs_with_threads_and_children_run() {
	expect_code 0 "$hakmem" run --profile=a-%p.heap --profile-bytes=1000 "$target" || return 1
	expect_code 0 "$hakmem" run --profile=b-%p.heap --profile-bytes=100 bash -c \
		'for i in 1 2 3 4 5; do (echo "$(ls | sort)" >/dev/null) & done; wait'
	local f
	for f in a-*.heap b-*.heap; do
		expect_code 0 "$hakmem" leaks "$f" || return 1
	done
}

# perl: makes and frees some 600,000 blocks
count_perl() {
	PERL_HASH_SEED=0 count "$1" perl -e \
		'my %h; for my $i (1 .. 60000) { my $k = "k" . $i % 7000; push @{$h{$k}}, "v$i"; $h{$k} = [] if @{$h{$k}} > 5 }'
}

# By the default distance; counts of instructions do not depend on the machine's load.
it_costs_less_than_two_per_cent() {
	command -v perl >/dev/null || skip "no perl"
	! grep -q 'define HAK_DEBUG 1' "$build/config.h" || skip "a debug build"
	! grep -q '^CFLAGS = .*--coverage' "$build/Makefile" || skip "it counts lines, too"
	local without
	count_perl "$lib" || return 1
	without=$counted
	count_perl "$library" || return 1
	echo "perl: $without instructions, $counted with the profile"
	[ "$without" -gt 10000000 ] && [ $((counted * 100)) -lt $((without * 102)) ]
}

what_is_no_profile_is_refused() {
	echo nonsense >no.heap
	expect_code 1 "$hakmem" leaks no.heap && expect_code 1 "$hakmem" leaks missing && expect_code 2 "$hakmem" leaks
}

pprof_reads_it() {
	command -v google-pprof >/dev/null || skip "no google-pprof"
	expect_code 0 "$hakmem" run --profile=p.heap --profile-bytes=65536 "$leak" || return 1
	google-pprof --text "$leak" p.heap 2>/dev/null | grep -E '^ +(5[0-9]|6[0-4])\.[0-9] .* held$' >/dev/null ||
		say "$(google-pprof --text "$leak" p.heap 2>&1 | head -n 8)"
}

check what_is_held_is_found_with_its_function
check what_was_freed_counts_as_asked_for
check every_block_is_accounted_for
check sampled_blocks_are_like_others
check a_signal_writes_it
check a_program_asks_for_it
check both_libraries_have_the_same_names
check the_plain_library_says_that_it_has_no_profile
check programs_with_threads_and_children_run
check it_costs_less_than_two_per_cent
check what_is_no_profile_is_refused
check pprof_reads_it
summary
