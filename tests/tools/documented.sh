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
	done < <(cat "$top/README.md" "$top"/doc/*.md "$top"/man/* "$top"/examples/* | grep -oE 'HAKMEM_[A-Z][A-Z_]*[A-Z]' |
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
		done < <("$hakmem" "$command" --help | grep -oE -- ' --[a-z][a-z-]*' | tr -d ' ' | grep -vE -- '--(help|usage|version)')
	done < <("$hakmem" --help | awk '/^Commands:/ { on = 1; next } on && /^  / { print $1 }')
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

manual_pages_are_sound() {
	command -v man >/dev/null || skip "no man(1)"
	local page
	for page in hakmem.1 hakmem.3 hakmem.7; do
		man --warnings -l "$top/man/$page" >/dev/null 2>"$work/warnings"
		[ ! -s "$work/warnings" ] || say "$page: $(cat "$work/warnings")" || return 1
	done
}

files_that_are_named_exist() {
	local file
	while read -r file; do
		[ -e "$top/$file" ] || say "there is no $file" || return 1
	done < <(cat "$top/README.md" "$top"/doc/{tuning,migration,limits,comparison,statistics}.md |
		grep -oE '\b(doc|examples|tests|bench|models|src|man)/[A-Za-z0-9_./-]*[a-z]' | sort -u)
}

check every_option_is_in_the_manual_and_in_options_md
check defaults_and_ranges_are_those_of_the_table
check no_option_is_documented_that_is_not_there
check every_flag_is_in_the_manual
check every_function_is_in_the_manual
check every_key_is_explained
check manual_pages_are_sound
check files_that_are_named_exist
summary
