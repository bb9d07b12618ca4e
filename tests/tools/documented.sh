#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016 # backquotes of Markdown
# What there is stands in the documentation, and what stands there is so.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
top=$here/../..

# without roff's escapes: what a search for a name needs
for page in hakmem.1 hakmem.3 hakmem.7; do
	sed -e 's/\\-/-/g' -e 's/\\fR//g; s/\\fB//g' "$top/man/$page" >"$work/$page"
done

# One line an option: name, default, least, greatest; words have their names
options() {
	"$hakmem" options | awk '/^HAKMEM_/ { gsub(/;/, ""); print }'
}

every_option_is_in_the_manual_and_in_options_md() {
	local name rest
	while read -r name rest; do
		grep -q "^\.BR $name " "$work/hakmem.7" || say "hakmem(7) has no $name" || return 1
		grep -q "^| \`$name\` |" "$top/doc/options.md" || say "doc/options.md has no $name" || return 1
	done < <(options)
}

defaults_and_ranges_are_those_of_the_table() {
	local name default min max
	while read -r name default min _ max _; do
		grep -q "^| \`$name\` | $default | $min to $max |" "$top/doc/options.md" ||
			say "doc/options.md: $name is $default, $min to $max" || return 1
		grep -q "^\.BR $name \" ($default; $min to $max)\"" "$work/hakmem.7" ||
			say "hakmem(7): $name is $default, $min to $max" || return 1
	done < <(options | grep ' to ')
	local words
	while read -r name default words; do
		grep -q "^\.BR $name \" ($default; " "$work/hakmem.7" || say "hakmem(7): $name is $default" || return 1
		for word in ${words//|/ }; do
			grep "^| \`$name\` | \`$default\` |" "$top/doc/options.md" | grep -q "\`$word\`" ||
				say "doc/options.md: $name may be $word" || return 1
		done
	done < <(options | grep -F '|')
}

no_option_is_documented_that_is_not_there() {
	local name
	options | cut -d' ' -f1 | sort >"$work/options"
	while read -r name; do
		grep -qx "$name" "$work/options" || say "there is no $name" || return 1
	done < <(cat "$top/README.md" "$top"/doc/*.md "$top"/man/* "$top"/examples/* | grep -oE 'HAKMEM_[A-Z][A-Z0-9_]*[A-Z0-9]' |
		grep -vE '^HAKMEM_STATS_(TABLE|JSON|JSON_QUICK|VERSION)$|^HAKMEM_(NAME|VERSION|H)$|^HAKMEM_NODE_|^HAKMEM_KIND_' | sort -u)
}

# Flags that stand for the library's options are those of hakmem(7).
every_flag_is_in_the_manual() {
	local command flag
	while read -r command; do
		grep -q "^\.SS hakmem $command" "$work/hakmem.1" || say "hakmem(1) has no $command" || return 1
		while read -r flag; do
			grep -qx "HAKMEM_$(tr 'a-z-' 'A-Z_' <<<"${flag#--}")" <(options | cut -d' ' -f1) && continue
			grep -qF -- "$flag" "$work/hakmem.1" || say "hakmem(1) has no $flag of $command" || return 1
		done < <("$hakmem" "$command" --help | grep -oE -- ' --[a-z][a-z0-9-]*' | tr -d ' ' | grep -vE -- '--(help|usage|version)')
	done < <("$hakmem" --help | awk '/^Commands:/ { on = 1; next } on && /^  / { print $1 }')
}

every_exit_code_is_in_the_manual() {
	local code
	sed -n '/^\.SH EXIT STATUS/,/^\.SH [^E]/p' "$work/hakmem.1" >"$work/codes"
	while read -r code; do
		grep -qE "(^|[^0-9])$code([^0-9]|\$)" "$work/codes" || say "hakmem(1) has no exit code $code" || return 1
	done < <(sed -nE 's/^\tTOOL_[A-Z_]+ = ([0-9]+),.*/\1/p' "$top/tools/tool.h")
	grep -q '^127' <(sed -nE 's/^\tTOOL_[A-Z_]+ = ([0-9]+),.*/\1/p' "$top/tools/tool.h") || say "no codes in tools/tool.h"
}

every_function_is_in_the_manual() {
	local name
	while read -r name; do
		grep -qF "$name" "$work/hakmem.3" || say "hakmem(3) has no $name" || return 1
	done < <(grep -oE '\bhakmem_[a-z_]+\(' "$top/include/hakmem/hakmem.h" | tr -d '(' | sort -u)
}

every_key_is_explained() {
	local key
	HAKMEM_STATS=json:$work/json LD_PRELOAD=$lib "$hakmem" options --json >/dev/null
	[ "$(grep -oE '"[a-z0-9_]+":' "$work/json" | sort -u | wc -l)" -gt 40 ] || say "hardly any keys" || return 1
	while read -r key; do
		grep -qF "\`$key\`" "$top/doc/statistics.md" || say "doc/statistics.md has no $key" || return 1
	done < <(grep -oE '"[a-z0-9_]+":' "$work/json" | tr -d '":' | sort -u)
}

# Lines of the table at exit, and the titles of a report's pictures.
every_line_is_explained() {
	local line
	HAKMEM_STATS=1 LD_PRELOAD=$lib "$hakmem" options --json >/dev/null 2>"$work/table"
	sed -nE 's/^ +([a-z][A-Za-z0-9 ]*[a-z0-9]) +[0-9]+( KiB)?$/\1/p' "$work/table" >"$work/lines"
	[ "$(wc -l <"$work/lines")" -gt 25 ] || say "hardly any lines: $(cat "$work/lines")" || return 1
	while read -r line; do
		grep -qE "^\| ($line|\`$line\`)[ ,|]|^\|.*, $line \|" "$top/doc/statistics.md" || say "doc/statistics.md has no line '$line'" || return 1
	done <"$work/lines"
	while read -r line; do
		grep -qF "| $line |" "$top/doc/statistics.md" || say "doc/statistics.md has no picture '$line'" || return 1
	done < <(sed -nE 's/^\t\t"([A-Z][A-Za-z ]+)", "[A-Z].*/\1/p; s/.*\.title = "([^"]+)".*/\1/p; s/.*caption\("([^"]+)".*/\1/p' "$top/tools/report.c")
}

# A row each, and each row a test.
every_policy_has_its_row_and_its_test() {
	sed -n '/^| policy |/,/^$/p' "$top/doc/numa.md" | tail -n +3 | sed '$d' >"$work/rows"
	awk -F'|' '{ print $4 }' "$work/rows" | grep -oE '^ `policy-[a-z-]+`' | tr -d ' `' >"$work/documented"
	sed -nE 's/^policy ([a-z-]+) .*/policy-\1/p' "$top/tests/numa/run.sh" >"$work/run"
	[ "$(wc -l <"$work/rows")" = "$(wc -l <"$work/documented")" ] || say "a row of doc/numa.md names no test" || return 1
	[ "$(wc -l <"$work/run")" -ge 18 ] || say "hardly any policies" || return 1
	diff <(sort "$work/documented") <(sort "$work/run") >&2 || say "< doc/numa.md, > tests/numa/run.sh"
}

manual_pages_are_sound() {
	command -v man >/dev/null || skip "no man(1)"
	local page
	for page in hakmem.1 hakmem.3 hakmem.7; do
		man --warnings -l "$top/man/$page" >/dev/null 2>"$work/warnings"
		[ ! -s "$work/warnings" ] || say "$page: $(cat "$work/warnings")" || return 1
	done
}

# In the middle of a sentence: that the command and its options are there. tests/tools/commands.sh runs those
# that stand alone.
commands_in_sentences_exist() {
	local text command flag
	while read -r text; do
		read -r _ command _ <<<"$text"
		[[ $command != --* ]] || continue
		"$hakmem" "$command" --help >"$work/help" 2>&1 || say "no command: $text" || return 1
		while read -r flag; do
			grep -qE -- "$flag([=[, ]|$)" "$work/help" || say "no option: $text" || return 1
		done < <(grep -oE -- '--[a-z][a-z-]*' <<<"${text%% -- *}")
	done < <(grep -ohE '`hakmem [a-z-][^`]*`' "$top"/{README,SECURITY,CONTRIBUTING}.md "$top"/doc/*.md | tr -d '`' | sort -u)
	while read -r text; do
		grep -qE "^$text:" "$build/Makefile" || say "make $text does nothing" || return 1
	done < <(grep -ohE '`make [a-z-]+`' "$top"/{README,SECURITY,CONTRIBUTING}.md "$top"/doc/*.md "$top"/{bench,models}/README.md | tr -d '`' | cut -d' ' -f2 | sort -u)
}

files_that_are_named_exist() {
	local file
	while read -r file; do
		[ -e "$top/$file" ] || say "there is no $file" || return 1
	done < <(cat "$top"/{README,SECURITY,CONTRIBUTING}.md "$top"/doc/*.md "$top"/{bench,models}/README.md |
		grep -oE '\b(doc|examples|tests|bench|models|src|man)/[A-Za-z0-9_./-]*[a-z]' | grep -v MODULE | sort -u)
}

check every_option_is_in_the_manual_and_in_options_md
check defaults_and_ranges_are_those_of_the_table
check no_option_is_documented_that_is_not_there
check every_flag_is_in_the_manual
check every_exit_code_is_in_the_manual
check every_function_is_in_the_manual
check every_key_is_explained
check every_line_is_explained
check every_policy_has_its_row_and_its_test
check manual_pages_are_sound
check commands_in_sentences_exist
check files_that_are_named_exist
summary
