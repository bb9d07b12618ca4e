#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do real programs run under the allocator? Each program beside this file runs with
# LD_PRELOAD=LIB and checks its own output; where the library is hakmem it runs
# again with HAKMEM_STATS, and what it writes must parse and show no fallback.
# lib.sh says what a program looks like.

set -euo pipefail

usage() {
	cat <<'END'
usage: run.sh LIB [--only REGEX] [--once] [--keep FOLDER]
       run.sh --list | --packages | --install

  LIB            the library to preload
  --only REGEX   only programs whose name matches
  --once         hakmem only with HAKMEM_STATS, not without as well
  --keep FOLDER  leave logs, scratch files and statistics in FOLDER
  --list         name the programs and the question each one answers
  --packages     name the Debian packages they need
  --install      install those packages whose programs are missing, as root; the
                 services among them are not started

A program that is not installed is skipped, or a failure where CI=true.
HAK_PROGRAM_TIMEOUT is the limit of one run of one program (120 seconds).
END
}

here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
action=run
lib=
only=.
keep=
once=0

while (($# > 0)); do
	case $1 in
	--list | --packages | --install) action=${1#--} ;;
	--once) once=1 ;;
	--only | --keep)
		(($# > 1)) || { usage >&2; exit 2; }
		if [[ $1 == --only ]]; then only=$2; else keep=$2; fi
		shift
		;;
	-h | --help) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) lib=$1 ;;
	esac
	shift
done

# ---- what there is ----

programs=()
for file in "$here"/[0-9][0-9]-*.sh; do
	name=${file##*/}
	name=${name%.sh}
	[[ $name =~ $only ]] && programs+=("$name")
done
if ((${#programs[@]} == 0)); then
	echo "run.sh: no program's name matches '$only'" >&2
	exit 2
fi

ask() { # NAME packages|missing
	HAK_PROGRAM_MODE=$2 bash "$here/$1.sh"
}

list() {
	local name

	for name in "${programs[@]}"; do
		printf '%-16s %s\n' "$name" "$(sed -n '4s/^# //p' "$here/$name.sh")"
	done
}

packages_of() { # NAME...
	local name

	for name; do
		ask "$name" packages
	done | sort -u
}

apt_install() { # NAME...
	local packages

	mapfile -t packages < <(packages_of "$@")
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		"${packages[@]}" </dev/null
}

install_packages() {
	local name wanted=()

	for name in "${programs[@]}"; do
		[[ -z $(ask "$name" missing) ]] || wanted+=("$name")
	done
	if ((${#wanted[@]} == 0)); then
		echo "run.sh: every program is there"
		return 0
	fi
	# Debian starts a service when its package is installed, unless this file
	# says not to: a test has no business opening ports.
	local policy=/usr/sbin/policy-rc.d
	if [[ ! -e $policy ]]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		trap 'exit 130' INT TERM
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	# A fresh machine has no package lists yet, or lists that are out of date.
	apt_install "${wanted[@]}" || { apt-get update && apt_install "${wanted[@]}"; }
}

case $action in
list) list; exit ;;
packages) packages_of "${programs[@]}"; exit ;;
install) install_packages; exit ;;
esac

# ---- running one ----

if [[ ! -f $lib ]]; then
	echo "run.sh: no library '$lib'" >&2
	usage >&2
	exit 2
fi
unset LD_PRELOAD HAKMEM_STATS
limit=${HAK_PROGRAM_TIMEOUT:-120}

if [[ -n $keep ]]; then
	mkdir -p "$keep"
	work=$(cd "$keep" && pwd)
else
	work=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-programs.XXXXXX")
fi
# Some servers give up root before they write; others' folders are theirs alone.
chmod 711 "$work"

running=
leave() {
	local status=$?

	trap - EXIT INT TERM
	if [[ -n $running ]]; then
		kill -TERM "$running" 2>/dev/null || true
		wait "$running" 2>/dev/null || true
	fi
	sweep_strays >/dev/null || true
	cd /
	[[ -n $keep ]] || rm -rf "$work"
	exit "$status"
}

# A copy, so that servers that run as another user can read it, and so that a
# build that goes on meanwhile does not change what is tested.
install_library() {
	local real dir sibling

	real=$(realpath "$lib")
	dir=${real%/*}
	mkdir -p "$work/lib"
	preload=$work/lib/${lib##*/}
	cp -- "$real" "$preload"
	chmod 644 "$preload"
	is_hakmem=0
	if [[ ${lib##*/} == libhakmem* ]]; then
		is_hakmem=1
		for sibling in "$dir"/libhakmem-*.so*; do
			[[ ! -e $sibling ]] || cp -P -- "$sibling" "$work/lib/"
		done
	fi
}

# Processes that a run left: those whose environment holds this run's mark or
# whose working folder is its scratch folder (a server may overwrite the first).
strays() {
	local proc pid

	for proc in /proc/[0-9]*; do
		pid=${proc#/proc/}
		[[ $pid != "$$" ]] || continue
		if [[ $(readlink "$proc/cwd" 2>/dev/null) == "$work"/* ]] ||
			grep -Fqsza "HAK_PROGRAM_RECORDS=$work/" "$proc/environ"; then
			! grep -qs '^State:[[:space:]]*Z' "$proc/status" || continue
			echo "$pid"
		fi
	done 2>/dev/null
}

sweep_strays() { # prints what had to be ended; fails if there was any
	local pid left deadline=$((SECONDS + 5))

	while :; do
		left=$(strays)
		[[ -n $left ]] || return 0
		((SECONDS < deadline)) || break
		sleep 0.2
	done
	for pid in $left; do
		echo "still running: $pid $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || true)"
		kill -KILL "$pid" 2>/dev/null || true
	done
	return 1
}

# Runs one program in one mode; leaves $work/NAME/MODE/{log,results,statuses,pids,stats/}.
run_mode() { # NAME MODE
	local records=$work/$1/$2 run=$work/$1/run status=0 start=$SECONDS

	# The same folder in every mode, so that no path differs between results.
	rm -rf "$run" "$records"
	mkdir -p "$run" "$records/stats"
	# A process that changed its user before its end writes there too.
	chmod 755 "$work/$1" "$run"
	chmod 711 "$records"
	chmod 1777 "$records/stats"
	: >"$records/pids"
	: >"$records/results"
	: >"$records/statuses"
	chmod 666 "$records/pids"
	cd "$run"
	HOME=$run TMPDIR=$run HAK_PROGRAM_MODE=$2 HAK_PROGRAM_LIB=$preload \
		HAK_PROGRAM_RECORDS=$records timeout -k 10 "$limit" \
		bash "$here/$1.sh" </dev/null >"$records/log" 2>&1 &
	running=$!
	wait "$running" || status=$?
	running=
	cd "$work"
	times+=", $2 $((SECONDS - start))"
	sort -o "$records/statuses" "$records/statuses"
	if ((status == 124 || status == 137)); then
		echo "did not end within $limit seconds" >>"$records/log"
	fi
	if ! sweep_strays >>"$records/log"; then
		((status != 0)) || status=1
	fi
	# The allocator speaks on stderr only of what is wrong.
	if grep -Eaq '(^|[^-/[:alnum:]_])hakmem: ' "$records/log" "$run"/*.log 2>/dev/null; then
		grep -Eah '(^|[^-/[:alnum:]_])hakmem: ' "$records/log" "$run"/*.log 2>/dev/null |
			sed 's/^/the allocator says: /' | head -n 5 >"$records/said"
		cat "$records/said" >>"$records/log"
		((status != 0)) || status=1
	fi
	return "$status"
}

same() { # NAME MODE OTHER: results and exit statuses agree
	local record

	for record in results statuses; do
		if ! cmp -s "$work/$1/$2/$record" "$work/$1/$3/$record"; then
			echo "$record differ between $2 and $3:" >>"$work/$1/$3/log"
			diff "$work/$1/$2/$record" "$work/$1/$3/$record" |
				head -n 20 >>"$work/$1/$3/log" || true
			return 1
		fi
	done
}

# Prints the reason and the mode it was seen in, or nothing.
run_program() { # NAME
	local base=preload
	if ((once && is_hakmem)); then base=stats; fi
	run_mode "$1" "$base" || { blame=$base; return 1; }
	if ((is_hakmem)); then
		if ((!once)); then
			run_mode "$1" stats || { blame=stats; return 1; }
			same "$1" preload stats || { blame=stats; return 1; }
		fi
		/usr/bin/python3 -I "$here/src/check_stats.py" "$work/$1/stats/stats" \
			"$work/$1/stats/pids" >>"$work/$1/stats/log" 2>&1 ||
			{ blame=stats; return 1; }
	fi
	if [[ -s $work/$1/$base/results ]]; then
		run_mode "$1" bare || { blame=bare; return 1; }
		same "$1" bare "$base" || { blame=$base; return 1; }
	fi
}

report_failure() { # NAME MODE
	local log=$work/$1/$2/log

	echo "  in mode $2, the log's end:"
	tail -n 40 "$log" | sed 's/^/    /'
	if [[ $2 != bare && ! -e $work/$1/bare ]]; then
		if run_mode "$1" bare; then
			echo "  without the preload it passes"
		else
			echo "  without the preload it fails as well"
		fi
	fi
}

# ---- all of them ----

trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
install_library
passed=0 failed=0 skipped=0

for name in "${programs[@]}"; do
	if ! missing=$(ask "$name" missing | paste -sd ' '); then
		echo "FAIL $name: cannot say what it needs"
		failed=$((failed + 1))
		continue
	fi
	if [[ -n $missing ]]; then
		if [[ ${CI:-} == true ]]; then
			echo "FAIL $name: not installed: $missing"
			failed=$((failed + 1))
		else
			echo "SKIP $name: not installed: $missing"
			skipped=$((skipped + 1))
		fi
		continue
	fi
	times=
	blame=
	if run_program "$name"; then
		echo "PASS $name (seconds: ${times#, })"
		passed=$((passed + 1))
	else
		echo "FAIL $name (seconds: ${times#, })"
		report_failure "$name" "$blame"
		failed=$((failed + 1))
	fi
	[[ -n $keep ]] || rm -rf "${work:?}/$name"
done

echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
