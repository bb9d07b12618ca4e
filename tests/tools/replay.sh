#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The learner's log: what was decided is decided again from it, and what was altered is noticed.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
learns=$build/tests/tools/learns

# A program that makes the learner decide much and often.
learn() { # VARIABLE=VALUE ... SECONDS
	env LD_PRELOAD="$lib" HAKMEM_ACE_DWELL_MS=10 HAKMEM_ACE_SAMPLES=16 "${@:1:$#-1}" "$learns" "${@: -1}"
}

# line N of the log, through sed; the rest as it is
altered() { # N SED-SCRIPT
	sed "$1 { $2 }" "$work/log" >"$work/altered"
	! cmp -s "$work/log" "$work/altered" || say "$2 alters nothing in $(sed -n "$1p" "$work/log")"
}

notices() { # WHAT: replay of $work/altered fails and says it
	expect_code 1 "$hakmem" replay "$work/altered" || return 1
	[ "$(wc -l <"$work/err")" = 1 ] || say "not one line: $(cat "$work/err")" || return 1
	grep -qE "$1" "$work/err" || say "not '$1': $(cat "$work/err")"
}

learn HAKMEM_ACE_LOG="$work/log" 2 2>"$work/learn.err" || echo "the program failed" >&2
# a change of the first process, in a window that says something of W_MAX as well
line=$(awk 'match($0, /"arm":\[\[1,.*/) { arm = substr($0, RSTART); if (was && arm != was && /"changed":1/) { print NR; exit } was = arm }' "$work/log")
pid=$(grep -oE '^\{"version":1,"pid":[0-9]+' "$work/log" | sed -n '1s/.*://p')

a_run_is_decided_again_and_a_forked_child_goes_on() {
	[ ! -s "$work/learn.err" ] || say "$(cat "$work/learn.err")" || return 1
	expect_code 0 "$hakmem" replay "$work/log" || return 1
	cat "$work/out"
	local decisions changes
	read -r decisions changes < <(sed -E 's/^([0-9]+) .* ([0-9]+) of them .*/\1 \2/' "$work/out")
	[ "$decisions" -ge 6 ] && [ "$changes" -ge 3 ] || say "hardly any decisions: $(cat "$work/out")" || return 1
	[ "$(grep -c '"look":' "$work/log")" = "$decisions" ] && [ "$(grep -c '"changed":1' "$work/log")" = "$changes" ] ||
		say "not as many as are in the log" || return 1
	[ "$(grep -c '"state":' "$work/log")" = 2 ] || say "the child has no first line" || return 1
	# what the parent had learnt is the child's
	grep '"state":' "$work/log" | sed -n 2p | grep -qE '"state":\{"number":[1-9]' || say "the child began anew" || return 1
	"$hakmem" replay - <"$work/log" | cmp - "$work/out"
}

an_altered_outcome_is_named() {
	altered "$line" 's/"changed":1/"changed":0/' && notices "line $line, process $pid: the policy changes when decided again" &&
		altered "$line" 's/"wmax":\[\[1,/"wmax":[[1,9/' && notices "line $line, .*wmax of 1 is 9[0-9]* in the log, and [0-9]+ when" &&
		altered "$line" 's/\("decision":{"number":\)/\19/' && notices "line $line, .*number is 9" &&
		altered "$line" 's/\("arm":\[\[1,[0-9],\)/\17/' && notices "line $line, .*arm of 1, [0-9], number 1, is 7"
}

# Without one of its samples a decision is not made; without another's bytes it is another.
altered_inputs_are_noticed() {
	altered "$line" 's/"samples":[0-9]*/"samples":0/' && notices "line $line, " &&
		altered "$line" 's/"tier":\[[^a-z]*,"class"/"tier":[],"class"/' && notices "line $line, " &&
		altered 1 's/"wmax_learn":1/"wmax_learn":0/' && notices "line [0-9]*, " &&
		altered 1 's/"dwell_ms":10/"dwell_ms":90000/' && notices "line [0-9]*, process $pid: the policy changed in the log"
}

lines_that_are_missing_or_not_its_own_are_noticed() {
	altered "$line" d && notices 'line [0-9]*, .*: look [0-9]+ follows look [0-9]+' &&
		altered 1 d && notices "line 1, process $pid: the process's first line is missing" &&
		altered 1 's/"classes":\[\[0,16/"classes":[[0,32/' && notices 'other size classes' &&
		altered 2 's/"version":1/"version":2/' && notices 'line 2.*not of a learner.s log of version 1' &&
		altered 2 's/"live_kib":[0-9]*,//' && notices 'live_kib is missing' &&
		altered 2 's/"samples":/"samples":-/' && notices 'samples is not a number that can be there' &&
		altered 2 's/"nodes":1/"nodes":9/' && notices 'too many nodes' &&
		altered 2 's/"node":\[/"node":[[9,1,1],/' && notices 'row 1 of node does not belong there' &&
		altered 1 's/"\(config":.*"dyn":\[\)\]/"\1[0,4000000000]]/' && notices 'dyn is no size' || return 1
	: >"$work/altered"
	notices 'no decision' && expect_code 1 "$hakmem" replay "$work/missing" && expect_code 2 "$hakmem" replay
}

a_file_that_was_cut_off_is_noticed() {
	local size cut
	size=$(wc -c <"$work/log")
	for cut in 1 2 50 $((size / 3)) $((size / 2)) $((size - 1)); do
		head -c $((size - cut)) "$work/log" >"$work/altered"
		# all but the newline is there; or the cut is between two lines
		[ $cut = 1 ] || [ "$(tail -c 1 "$work/altered" | tr '\n' n)" = n ] || notices 'cut off' || return 1
	done
}

# Any byte may be any other: it is noticed or makes no difference, and does no harm.
damage_does_no_harm() {
	local size i code
	size=$(wc -c <"$work/log")
	RANDOM=7
	for ((i = 0; i < 60; i++)); do
		cp "$work/log" "$work/altered"
		printf '%d' $((RANDOM % 10)) | dd of="$work/altered" bs=1 seek=$(((RANDOM * 32768 + RANDOM) % size)) conv=notrunc status=none
		code=0
		"$hakmem" replay "$work/altered" >/dev/null 2>"$work/err" || code=$?
		[ $code -le 1 ] || say "exit code $code" || return 1
	done
}

each_process_may_have_a_file() {
	(cd "$work" && learn HAKMEM_ACE_LOG=each-%p 0.4) || return 1
	set -- "$work"/each-*
	[ $# = 2 ] || say "$# files" || return 1
	expect_code 0 "$hakmem" replay "$1" && expect_code 0 "$hakmem" replay "$2"
}

what_cannot_be_written_is_said_once() {
	local file
	mkfifo "$work/fifo"
	for file in "$work/no/log" /dev/full "$work/fifo"; do
		learn HAKMEM_ACE_LOG="$file" 0.4 2>"$work/err" || say "$file: the program failed" || return 1
		grep -q "^hakmem: cannot write.*: $file\$" "$work/err" || say "$file: $(cat "$work/err")" || return 1
		# once a process
		[ "$(wc -l <"$work/err")" -le 2 ] || say "$file: $(cat "$work/err")" || return 1
	done
	learn HAKMEM_LEARN=0 HAKMEM_ACE_LOG="$work/none" 0.2 2>"$work/err"
	[ "$(cat "$work/err")" = "hakmem: nothing is learnt, and HAKMEM_ACE_LOG is ignored: $work/none" ] || say "$(cat "$work/err")" || return 1
	[ ! -e "$work/none" ]
}

check a_run_is_decided_again_and_a_forked_child_goes_on
check an_altered_outcome_is_named
check altered_inputs_are_noticed
check lines_that_are_missing_or_not_its_own_are_noticed
check a_file_that_was_cut_off_is_noticed
check damage_does_no_harm
check each_process_may_have_a_file
check what_cannot_be_written_is_said_once
summary
