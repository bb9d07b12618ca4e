# SPDX-License-Identifier: MIT
# What the tests of the command share: `lib` is the library, `hakmem` the command, `work` a
# folder of their own. A test is a function; `check NAME` runs it in a subshell.
# shellcheck shell=bash disable=SC2034
set -uo pipefail # so what writes much goes to grep, not to grep -q, which ends it by SIGPIPE
# a test that hangs fails
[ -n "${HAK_TIMED-}" ] || HAK_TIMED=1 exec timeout 900 bash "$0" "$@"
lib=$(readlink -f "$1")
build=$(cd "$(dirname "$1")/.." && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
hakmem=$build/tools/hakmem
target=$build/tests/tools/target
work=$(mktemp -d)
# shellcheck source=tests/results.sh
. "$here/../results.sh"
trap 'rm -rf "$work"' EXIT
unset LD_PRELOAD HAKMEM_STATS
export NO_COLOR=1

if [ ! -x "$hakmem" ]; then
	echo "the command was not built" >&2
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi

say() {
	echo "$*" >&2
	return 1
}

skip() {
	echo "skipped: $*" >&2
	exit 77
}

# check NAME: the test `NAME`, whose exit code 77 is "skipped"
check() {
	local status=0
	("$1") || status=$?
	case $status in
	0) passed=$((passed + 1)) ;;
	77) skipped=$((skipped + 1)) ;;
	*)
		failed=$((failed + 1))
		echo "FAILED: $1" >&2
		;;
	esac
}

# expect_code N COMMAND ...: its exit code; what it prints goes to $work/out and $work/err
expect_code() {
	local want=$1 got=0
	shift
	"$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
	[ "$got" = "$want" ] || say "exit code $got, not $want: $*: $(cat "$work/err")"
}

# start COMMAND ...: runs it in the background until `stop`; $pid is ready when this returns
start() {
	rm -f "$work/in" "$work/ready"
	mkfifo "$work/in" "$work/ready"
	"$@" <"$work/in" >"$work/ready" 2>"$work/target.err" &
	pid=$!
	exec 8>"$work/in" # what else is started in the background must close it
	read -r _ <"$work/ready"
}

stop() {
	exec 8>&-
	wait "$pid"
}

# count LIBRARY COMMAND ...: instructions, by callgrind, of the command under the library; in $counted.
# The library is stripped for it: valgrind 3.19 gives up on what clang 14 says to debuggers.
count() {
	local library=$1 program loader
	shift
	program=$(command -v "$1")
	shift
	if ! command -v valgrind || ! command -v strip; then skip "no valgrind, or no strip"; fi >/dev/null
	strip -g -o "$work/stripped.so" "$library" || return 1
	# the dynamic linker's --preload reaches the program alone, not valgrind's own start
	loader=$(readelf -lW "$(readlink -f "$program")" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
	valgrind --tool=callgrind --callgrind-out-file=/dev/null "$loader" --preload "$work/stripped.so" "$program" "$@" \
		>"$work/callgrind" 2>&1 </dev/null
	counted=$(awk '/Collected/ { print $NF }' "$work/callgrind")
	[ -n "$counted" ] || say "valgrind counts nothing: $(tail -n 5 "$work/callgrind")"
}

# "key":number of an object on stdin, one a line, whatever holds it
numbers() { tr -s '{}[],' '\n' | grep -E '^"[a-z0-9_]+":[0-9]+$' | LC_ALL=C sort -u; }
