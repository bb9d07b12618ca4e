# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What every program of tests/programs shares: how it says what it needs, how it
# starts something under the allocator, and how it checks.
#
# A program NN-name.sh is a bash script of this shape:
#
#     #!/usr/bin/env bash
#     # SPDX-License-Identifier: MIT
#     #
#     # The question it answers, in one line that --list prints.
#     . "${BASH_SOURCE%/*}/lib.sh"
#     packages redis-server            Debian packages
#     commands redis-server redis-cli  commands it cannot do without
#     begin                            everything below runs in a scratch folder
#     under_test redis-server ...
#
# run.sh starts it once for each mode in HAK_PROGRAM_MODE:
#     packages  print the packages, do nothing
#     missing   print which commands or files are not there, do nothing
#     bare      run without the preload: what `result` writes is the reference
#     preload   run with LD_PRELOAD
#     stats     run with LD_PRELOAD and HAKMEM_STATS=json:FOLDER/%p.json
# and compares the results and the exit statuses of the modes.

set -Eeuo pipefail

: "${HAK_PROGRAM_MODE:?a program is started by run.sh}"

# shellcheck disable=SC2034 # the programs use it
source_dir=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
# Known answers are worked out in C; the system's own programs come before
# whatever stands first on the caller's PATH (shims of interpreters above all).
export LC_ALL=C TZ=UTC
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
python=/usr/bin/python3

program_packages=()
program_missing=()

# ---- what a program needs ----

packages() {
	program_packages+=("$@")
}

# Plain names, or absolute paths where any other program of that name is wrong.
commands() {
	local command

	for command; do
		command -v -- "$command" >/dev/null || program_missing+=("$command")
	done
}

files() {
	local file

	for file; do
		[[ -e $file ]] || program_missing+=("$file")
	done
}

begin() {
	case $HAK_PROGRAM_MODE in
	packages)
		printf '%s\n' "${program_packages[@]}"
		exit 0
		;;
	missing)
		((${#program_missing[@]} == 0)) || printf '%s\n' "${program_missing[@]}"
		exit 0
		;;
	bare | preload | stats) ;;
	*) fail "no mode '$HAK_PROGRAM_MODE'" ;;
	esac
	: "${HAK_PROGRAM_LIB:?}" "${HAK_PROGRAM_RECORDS:?}"
	trap 'say "stopped in line $LINENO: $BASH_COMMAND (status $?)"' ERR
	trap end EXIT
	trap 'exit 143' TERM INT
	# A program that crashes says so by its status; a core file nobody reads.
	ulimit -c 0
}

# ---- checks ----

say() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
	say "$*"
	exit 1
}

expect_equal() { # WHAT WANTED GOT
	[[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"
}

expect_text() { # WHAT EXTENDED-REGEX FILE
	grep -Eq -- "$2" "$3" || { tail -n 20 -- "$3" >&2; fail "$1: no line '$2' in $3"; }
}

# Must come out the same with and without the preload.
result() { # WHAT VALUE
	printf '%s: %s\n' "$1" "$2" >>"$HAK_PROGRAM_RECORDS/results"
}

digest() { # FILE, or - for the standard input
	sha256sum -- "$1" | cut -d ' ' -f 1
}

wait_until() { # SECONDS COMMAND...: true as soon as COMMAND is
	local deadline=$((SECONDS + $1))

	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || return 1
		sleep 0.1
	done
}

# ---- running under the allocator ----

run_as=() # a command that changes user before the program starts

# Replaces this process by the program. Everything before it, run_as included,
# runs without the preload, so the allocator meets the program and its children
# only, and the process id stays the one that was noted.
launch() {
	local settings=(-u LD_PRELOAD -u HAKMEM_STATS)

	case $HAK_PROGRAM_MODE in
	preload)
		settings+=("LD_PRELOAD=$HAK_PROGRAM_LIB")
		;;
	stats)
		settings+=("LD_PRELOAD=$HAK_PROGRAM_LIB"
			"HAKMEM_STATS=json:$HAK_PROGRAM_RECORDS/stats/%p.json")
		;;
	esac
	printf '%s %s\n' "$BASHPID" "${1##*/}" >>"$HAK_PROGRAM_RECORDS/pids"
	trap - ERR EXIT TERM INT
	exec "${run_as[@]}" env "${settings[@]}" "$@"
}

# The loader's own word that this program's malloc is the allocator's: a set-user-id
# program, a static one or one with an allocator of its own would pass every
# other check without testing anything.
expect_bound() { # PROGRAM
	local path seen record

	[[ $HAK_PROGRAM_MODE == preload ]] || return 0
	path=$(command -v -- "$1") || return 0 # launch reports it
	seen=$HAK_PROGRAM_RECORDS/bound
	grep -Fqsx -- "$path" "$seen" && return 0
	record=$(mktemp -d "$HAK_PROGRAM_RECORDS/bindings.XXXXXX")
	# The five variables make the loader bind every symbol and stop before main.
	env LD_TRACE_LOADED_OBJECTS=1 LD_WARN=yes LD_BIND_NOW=1 LD_DEBUG=bindings \
		LD_DEBUG_OUTPUT="$record/by" LD_PRELOAD="$HAK_PROGRAM_LIB" \
		"$path" >/dev/null 2>&1 || true
	# Not grep -q in a pipe: its early end would look like a failure of the first.
	cat "$record"/by.* | grep -F " to $HAK_PROGRAM_LIB " |
		grep -F "symbol \`malloc'" >"$record/malloc" ||
		fail "$path does not take malloc from $HAK_PROGRAM_LIB"
	rm -r -- "$record"
	printf '%s\n' "$path" >>"$seen"
}

note_status() { # PROGRAM STATUS
	printf '%s %s\n' "${1##*/}" "$2" >>"$HAK_PROGRAM_RECORDS/statuses"
}

# Runs a program to its end; the status is the program's.
under_test() { # PROGRAM ARGUMENTS...
	local status=0

	expect_bound "$1"
	(launch "$@") || status=$?
	note_status "$1" "$status"
	return "$status"
}

servers=()
server=0 # process id of the one started last

# Starts a program in the background, its output in LOG.
serve() { # LOG PROGRAM ARGUMENTS...
	local log=$1

	shift
	expect_bound "$1"
	launch "$@" >>"$log" 2>&1 &
	server=$!
	servers+=("$server")
}

# A running process has the allocator mapped (or, bare, has not).
expect_mapped() { # PID...
	local pid

	for pid; do
		if [[ $HAK_PROGRAM_MODE == bare ]]; then
			! grep -Fq -- "$HAK_PROGRAM_LIB" "/proc/$pid/maps" ||
				fail "process $pid has the preload without being asked to"
		else
			grep -Fq -- "$HAK_PROGRAM_LIB" "/proc/$pid/maps" ||
				fail "process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline")) runs without the preload"
		fi
	done
}

children_of() { # PID
	local stat fields

	for stat in /proc/[0-9]*/stat; do
		# The name in parentheses may hold blanks: the parent follows the last ")".
		fields=$(sed 's/.*) //' "$stat" 2>/dev/null) || continue
		read -r _ fields _ <<<"$fields"
		[[ $fields != "$1" ]] || basename "${stat%/stat}"
	done
}

# Waits for a server that ends by itself or was told to.
finish_server() { # PID NAME WANTED-STATUS
	local status=0 pid kept=()

	wait "$1" || status=$?
	for pid in "${servers[@]}"; do
		[[ $pid == "$1" ]] || kept+=("$pid")
	done
	servers=("${kept[@]}")
	note_status "$2" "$status"
	expect_equal "exit status of $2" "$3" "$status"
}

free_port() {
	"$python" -I -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# Whatever way the program ends, nothing it started goes on. What escapes here
# (another session, another parent) run.sh ends and reports.
end() {
	local status=$? pid

	trap - ERR EXIT
	((${#servers[@]} == 0)) || kill -TERM "${servers[@]}" 2>/dev/null || true
	for pid in "${servers[@]}"; do
		wait_until 3 ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
	done
	exit "$status"
}

ended() {
	! kill -0 "$1" 2>/dev/null || grep -q '^State:[[:space:]]*Z' "/proc/$1/status"
}
