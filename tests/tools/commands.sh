#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016 # the stub program expands its own
# Every command in the documentation for users runs. `program` and PID stand for something that
# is there; libhakmem.so is the one under test.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
top=$here/../..

# Commands are indented by four spaces, in a list by six; what follows three spaces is a remark.
commands_of() {
	case $1 in
	*.[137]) sed -n '/^\.EX/,/^\.EE/ { s/\\-/-/g; /^hakmem [a-z]/p }' "$1" ;;
	*) grep -hE '^( {4}| {6})[A-Za-z./]' "$1" | sed -e 's/^ *//' -e 's/   .*//' ;;
	esac
}

# Those that build, install or need the network: ./quickstart and CI run them.
elsewhere() { [[ $1 =~ ^(\./|cc\ ) ]]; }

mkdir -p "$work/bin" "$work/there"
ln -s "$hakmem" "$work/bin/hakmem"
printf '#!/bin/bash\nsleep 0.25\nexec sort "$0" >/dev/null\n' >"$work/bin/program"
chmod +x "$work/bin/program"

runs() {
	local command=$1 code=0
	command=${command//PID/$pid}
	command=$(sed -E "s#LD_PRELOAD=[^ ]*libhakmem\.so(\.0)?#LD_PRELOAD=$lib#" <<<"$command")
	(cd "$work/there" && PATH=$work/bin:$PATH timeout 30 bash -c "$command" >"$work/out" 2>"$work/err" </dev/null) 8>&- || code=$?
	[ $code = 0 ] || { [ $code = 1 ] && [ "$command" = 'hakmem doctor' ]; } || say "exit code $code: $1: $(cat "$work/err")" || return 1
	# the dynamic linker only warns
	! grep -q 'cannot be preloaded' "$work/err" || say "not preloaded: $1"
}

start "$hakmem" run "$target"
for file in README.md doc/tuning.md doc/migration.md doc/comparison.md doc/statistics.md doc/options.md \
	man/hakmem.1 man/hakmem.7; do
	while read -r command; do
		if elsewhere "$command"; then
			continue
		elif ! PATH=$work/bin:$PATH type "$(sed -E 's/^([A-Z_]+=[^ ]* )*//; s/ .*//' <<<"$command")" >/dev/null 2>&1; then
			skipped=$((skipped + 1))
			echo "skipped: not installed: $command" >&2
		elif runs "$command"; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			echo "FAILED: $file" >&2
		fi
	done < <(commands_of "$top/$file")
done
stop
[ $((passed + skipped)) -ge 20 ] || { echo "hardly any command was found" >&2; failed=$((failed + 1)); }
summary
