# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# Counts and tells results; sourced.
passed=0 failed=0 skipped=0

# NAME STATUS: 0 passed, 77 skipped, any other failed; what the check said stands in $dir/log
result() {
	case $2 in
	0) passed=$((passed + 1)) && echo "$1: ok" ;;
	77) skipped=$((skipped + 1)) && echo "$1: skipped: $(tail -n 1 "$dir/log")" ;;
	*)
		failed=$((failed + 1))
		echo "$1: FAILED: status $2"
		head -n 5 "$dir/log" | sed 's/^/  /'
		;;
	esac
}

summary() { # the last line, and the status
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
}
