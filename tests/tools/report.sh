#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016 # variables for another shell
# hakmem report, topo, doctor and options: whole output, from whatever input.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"

# Every tag that is opened is closed; no number is none; nothing comes from elsewhere.
sound() {
	local tag
	for tag in table tr td th b svg figure div ul li p span dl dt dd figcaption header main footer title; do
		[ "$(grep -oE "<${tag}[ >]" "$1" | wc -l)" = "$(grep -o "</$tag>" "$1" | wc -l)" ] ||
			say "<$tag> and </$tag> differ in number" || return 1
	done
	! grep -qiE 'nan|inf[^o]' <(grep -oE '(d|x|y|width|height|fill-opacity)="?[^">]*' "$1") || say "no number" || return 1
	! grep -qE 'https?:|src=|@import|url\(|<script' "$1" || say "it loads something"
}

a_recorded_run_becomes_a_page() {
	start "$hakmem" run --stats="jsonl:$work/run.jsonl:10" "$target"
	sleep 0.3
	stop
	expect_code 0 "$hakmem" report "$work/run.jsonl" -o "$work/run.html" && sound "$work/run.html" || return 1
	local title
	for title in 'Memory against live' 'Live by size' 'How full are the SuperSlabs of node 0' 'Where slabs came from' \
		'Share on huge pages' 'Blocks freed by other threads'; do
		grep -qF "<figcaption>$title</figcaption>" "$work/run.html" || say "no figure: $title" || return 1
	done
	"$hakmem" report - <"$work/run.jsonl" | cmp - "$work/run.html"
}

line() { # PID TIME LIVE
	printf '{"version":1,"library":"<0>","pid":%d,"time_ms":1700000000000,"monotonic_ms":%d,"rss":%d,"live":%d,"nodes":[]}\n' \
		"$1" "$2" "$3" "$3"
}

what_is_not_ours_is_left_out_and_one_process_is_shown() {
	{
		line 7 1000 5000
		echo 'nonsense'
		line 8 1000 1
		echo '{"version":2}'
		line 7 3000 9000
		line 7 2000 1000
		printf '{"version":1,"pid":7,"mono'
	} >"$work/mixed"
	expect_code 0 "$hakmem" report "$work/mixed" -o "$work/mixed.html" && sound "$work/mixed.html" || return 1
	grep -q '3 lines are not statistics' "$work/err" || say "it says: $(cat "$work/err")" || return 1
	grep -q '<h1>hakmem: process 7</h1>' "$work/mixed.html" && grep -q '2.0 s, 3 samples' "$work/mixed.html" &&
		grep -q '1 lines of other processes' "$work/mixed.html" && ! grep -q '<0>' "$work/mixed.html"
}

# Rows are where the threads ran, columns whose the blocks were; in the order of the list of nodes.
frees_between_nodes_are_a_matrix() {
	local ms nodes='"nodes":[{"node":0},{"node":3},{"node":3,"policy":2}],"remote_matrix":[[0,7000,0],[90,5,0],[0,0,0]]'
	for ms in 1000 2000; do
		line 7 $ms 5000 | sed "s/\"nodes\":\[\]/$nodes/"
	done >"$work/nodes"
	expect_code 0 "$hakmem" report "$work/nodes" -o "$work/nodes.html" && sound "$work/nodes.html" || return 1
	[ "$(grep -o 'class="cell' "$work/nodes.html" | wc -l)" = 9 ] || say "no matrix of 3 by 3" || return 1
	local cell
	for cell in 'title="7000 blocks of node 3 freed on node 0">7k<' 'title="90 blocks of node 0 freed on node 3">90<' '<span>3 p</span>'; do
		grep -qF "$cell" "$work/nodes.html" || say "no $cell" || return 1
	done
}

# The policy in force over time, and each change with what differs in bold.
the_learners_decisions_are_shown() {
	local change='{"version":1,"pid":%d,"number":1,"look":{"ms":%d},"changed":%d,"decision":{"dyn":[%s],"wmax":[[1,100],[2,%d]],"keep":[[0,7,2],[0,8,1]]}}\n'
	{
		line 7 1000 5000
		line 7 3000 5000
		line 7 9000 5000
	} >"$work/learns"
	{
		# shellcheck disable=SC2059 # the format is above
		printf "$change" 7 2000 1 '[0,33344]' 130 7 4000 0 '[0,1]' 115 8 4500 1 '[0,2]' 115 7 5000 1 '[0,33344],[1,2112]' 160
		echo 'cut off'
	} >"$work/learns.log"
	expect_code 0 "$hakmem" report --log="$work/learns.log" "$work/learns" -o "$work/learns.html" && sound "$work/learns.html" || return 1
	local text
	for text in '<figcaption>Dynamic classes<' '<figcaption>Bounds on lending<' 'peak 160 %' \
		'<tr><td>1.0 s</td><td><b>33344</b></td><td><b>0</b></td><td><b>100 %</b></td><td><b>130 %</b></td><td><b>3</b></td></tr>' \
		'<tr><td>4.0 s</td><td>33344</td><td><b>2112</b></td><td>100 %</td><td><b>160 %</b></td><td>3</td></tr></table>'; do
		grep -qF "$text" "$work/learns.html" || say "no $text" || return 1
	done
	expect_code 0 "$hakmem" report "$work/learns" -o "$work/learns.html" && ! grep -qE 'Dynamic classes|<table' "$work/learns.html" &&
		expect_code 1 "$hakmem" report --log="$work/missing" "$work/learns"
}

too_little_is_an_error() {
	line 7 1000 5000 >"$work/one"
	: >"$work/none"
	expect_code 1 "$hakmem" report "$work/one" && expect_code 1 "$hakmem" report "$work/none" &&
		expect_code 1 "$hakmem" report "$work/missing" && expect_code 2 "$hakmem" report &&
		expect_code 1 "$hakmem" report --pid=9 "$work/one" && expect_code 2 "$hakmem" report --pid=x "$work/one"
}

# 100,000 lines, times that stand still, figures that are all the same.
odd_recordings_do_no_harm() {
	line 7 1000 5000 >"$work/still"
	line 7 1000 5000 >>"$work/still"
	expect_code 0 "$hakmem" report "$work/still" -o "$work/still.html" && sound "$work/still.html" || return 1
	awk 'BEGIN { for (i = 0; i < 100000; i++)
		printf "{\"version\":1,\"pid\":7,\"time_ms\":1,\"monotonic_ms\":%d,\"rss\":%d,\"nodes\":[]}\n", i, i % 977 }' >"$work/long"
	expect_code 0 "$hakmem" report "$work/long" -o "$work/long.html" && sound "$work/long.html" || return 1
	[ "$(wc -c <"$work/long.html")" -lt 400000 ] || say "$(wc -c <"$work/long.html") bytes of page"
}

topo_draws_other_machines() {
	expect_code 0 "$hakmem" topo synthetic:'numa:4 core:2 pu:1' ||
		{ grep -qE 'hwloc|libhakmem-topo' "$work/err" && skip "no hwloc"; }
	[ "$(grep -cE '^ +[0-3]  DRAM' "$work/out")" = 4 ] || say "$(cat "$work/out")" || return 1
	expect_code 0 "$hakmem" topo --json "$here/../topologies/cxl.xml" && grep -q '"kind":"CXL"' "$work/out" &&
		expect_code 1 "$hakmem" topo "$work/nothing.xml"
}

topo_knows_this_machine() {
	expect_code 0 "$hakmem" topo || { grep -q 'libhakmem-topo' "$work/err" && skip "libhakmem-topo was not built"; }
	grep -q 'what the kernel allows here' "$work/out" && expect_code 0 "$hakmem" topo --json &&
		grep -q '"this_machine":true' "$work/out"
}

doctor_has_a_verdict_for_everything() {
	local code=0
	"$hakmem" doctor >"$work/out" 2>"$work/err" || code=$?
	[ $code -le 1 ] && [ ! -s "$work/err" ] || say "exit code $code" || return 1
	if grep -q ^change "$work/out"; then [ $code = 1 ]; else [ $code = 0 ]; fi || say "exit code $code" || return 1
	local subject
	for subject in kernel overcommit cgroup seccomp io_uring_setup mbind; do
		grep -qE "^(ok|note|change) +$subject " "$work/out" || say "nothing about $subject" || return 1
	done
}

completions() { # WORD ...: what bash would complete the last one to
	PATH=$build/tools:$PATH bash -c '
		. "$1/../../tools/hakmem.bash"
		shift
		COMP_WORDS=(hakmem "$@") COMP_CWORD=$#
		compopt() { :; }
		_hakmem
		printf "%s\n" "${COMPREPLY[@]}"' bash "$here" "$@"
}

bash_completes_commands_and_options() {
	[ "$(completions st)" = stat ] && [ "$(completions repo)" = report ] || say "commands: $(completions st)" || return 1
	[ "$(completions run --deca)" = --decay-ms= ] || say "options: $(completions run --deca)" || return 1
	[ "$(completions '' | sort)" = "$(commands | sort)" ] || say "$(completions '')"
}

commands() { "$hakmem" --help | awk '/^Commands:/ { on = 1; next } on && /^  / { print $1 }'; }

every_command_helps_and_completes() {
	local command flag
	expect_code 0 "$hakmem" --version && grep -qE '^hakmem [0-9]+\.[0-9]+\.[0-9]+$' "$work/out" || say "$(cat "$work/out")" || return 1
	while read -r command; do
		expect_code 0 "$hakmem" "$command" --help && cp "$work/out" "$work/help" &&
			expect_code 0 "$hakmem" "$command" --version || return 1
		while read -r flag; do
			completions "$command" "$flag" >"$work/completed"
			grep -qx -- "$flag" "$work/completed" || say "$command $flag completes to $(cat "$work/completed")" || return 1
		done < <(grep -oE -- ' --[a-z][a-z-]*=?' "$work/help" | tr -d ' ' | sort -u)
	done < <(commands)
}

colour_is_for_terminals() {
	unset NO_COLOR
	"$hakmem" options >"$work/out"
	! grep -q $'\033' "$work/out" || say "escape sequences in a file" || return 1
	script -qec true /dev/null </dev/null >/dev/null 2>&1 || skip "no script(1), or no terminal for it"
	TERM=xterm script -qec "$hakmem options" /dev/null </dev/null >"$work/out"
	grep -q $'\033' "$work/out" || say "none on a terminal" || return 1
	NO_COLOR=1 TERM=xterm script -qec "$hakmem options" /dev/null </dev/null >"$work/out"
	! grep -q $'\033\[[0-9]*m' "$work/out" || say "NO_COLOR does nothing"
}

check a_recorded_run_becomes_a_page
check what_is_not_ours_is_left_out_and_one_process_is_shown
check frees_between_nodes_are_a_matrix
check the_learners_decisions_are_shown
check too_little_is_an_error
check odd_recordings_do_no_harm
check topo_draws_other_machines
check topo_knows_this_machine
check doctor_has_a_verdict_for_everything
check bash_completes_commands_and_options
check every_command_helps_and_completes
check colour_is_for_terminals
summary
