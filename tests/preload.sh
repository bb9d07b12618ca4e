#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does the shipped library serve ordinary programs, all of their requests and by itself?
# preload.sh LIB
#
#   binds     the dynamic linker takes malloc and the rest from LIB, also where a program asks for
#             malloc@GLIBC_2.2.5
#   same      common commands give the same output and status as without LIB, nothing on stderr
#   alone     no statistics of theirs counts a fallback, and the C library's malloc, which then
#             traps (libc_trap.c), is never entered
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$(realpath "${1:?usage: preload.sh LIB}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-preload.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export LC_ALL=C TZ=UTC
# the system's own programs: a shim of an interpreter starts others, with other results
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
hardened=${HAKMEM_HARDENED-}
unset LD_PRELOAD "${!HAKMEM_@}"
[ -z "$hardened" ] || export HAKMEM_HARDENED=$hardened # all of it must hold in hardened mode, too

passed=0 failed=0 skipped=0
ok() {
	passed=$((passed + 1))
	echo "$1: ok"
}
bad() { # NAME WHY [FILE]
	failed=$((failed + 1))
	echo "$1: FAILED: $2"
	[ -z "${3-}" ] || head -n 5 "$3" | sed 's/^/  /'
}
skip() {
	skipped=$((skipped + 1))
	echo "$1: skipped: $2"
}

cc=${CC:-cc}
flags=(-std=gnu11 -O1 -g -Wall -Wextra -D_GNU_SOURCE -pthread -fno-builtin)
$cc "${flags[@]}" -fPIC -shared -o libtrap.so "$here/libc_trap.c" -ldl
$cc "${flags[@]}" -DWORK_PROGRAM -o work "$here/libc_trap.c" -ldl

# ---- binds ----

binds() { # PROGRAM NAME ...
	local program=$1 name line
	shift
	timeout 30 env LD_DEBUG=bindings LD_BIND_NOW=1 LD_PRELOAD="$lib" "$program" >/dev/null 2>ld.log || true
	for name; do
		line="binding file $program [0] to $lib [0]: normal symbol \`$name'"
		if grep -F "$line" ld.log >/dev/null; then
			ok "$program binds $name"
		else
			bad "$program binds $name" "not to the library" <(grep -F "symbol \`$name'" ld.log || true)
		fi
	done
}
binds "$(command -v ls)" malloc free calloc realloc
binds ./work malloc free calloc realloc aligned_alloc posix_memalign
# so that the check above means something: these references carry libc's version
if objdump -T work | grep -E 'GLIBC_[0-9.]+\)? +malloc$' >/dev/null; then
	ok "work asks for a versioned malloc"
else
	bad "work asks for a versioned malloc" "its reference has no version"
fi

# ---- same ----

seq 1 60000 | awk '{ print ($1 * 7919) % 60013, "line", $1 }' >numbers
mkdir tree
for i in $(seq 200); do head -n "$i" numbers >"tree/file$i"; done

# Name, then the command; run by sh, so pipes are part of it.
commands=(
	"ls" "ls -lR tree"
	"cat" "cat numbers"
	"sort" "sort -n numbers"
	"sort, two threads" "sort --parallel=2 -S 1M -k2,2 -k1,1n numbers"
	"uniq" "cut -c1 numbers | sort | uniq -c"
	"sed" "sed -E 's/([0-9]+) line ([0-9]+)/\\2 \\1/' numbers"
	"awk" "awk '{ a[\$1 % 977] = a[\$1 % 977] \$3 } END { for (i = 0; i < 977; i++) print length(a[i]) }' numbers"
	"grep" "grep -rE '(1|2)+3.*4\$' tree | LC_ALL=C sort"
	"find" "find tree -name 'f*9' -size +1k | sort"
	"xargs" "find tree -type f | sort | xargs -n 7 -P 2 cksum | sort"
	"diff" "diff tree/file10 tree/file199; true"
	"tar" "tar -cf - --sort=name --mtime=@0 --owner=0 --group=0 tree | cksum"
	"gzip" "gzip -9n <numbers | cksum"
	"bash" "bash -c 'a=(); for i in {1..20000}; do a+=(\"x\$i\"); done; echo \${#a[@]} \${a[*]: -3}; (echo sub; (echo subsub))'"
	"dash" "for i in 1 2 3 4 5 6 7 8 9; do echo \$(echo \$(echo \$i)); done"
	"perl" "perl -e 'my %h; \$h{\$_ % 5003} .= chr(65 + \$_ % 26) for 1 .. 300000; print map { length(\$h{\$_}), \"\\n\" } sort keys %h'"
	"python3" "/usr/bin/python3 -c 'import json, threading
d = {str(i): list(range(i % 50)) for i in range(20000)}
t = [threading.Thread(target=lambda: json.loads(json.dumps(d))) for _ in range(4)]
[x.start() for x in t]; [x.join() for x in t]
print(len(json.dumps(d)))'"
	"false" "false"
	"no such file" "exec 2>&1; cat no-such-file"
	"work" "./work"
)

# run LIBRARIES STATISTICS NAME COMMAND: output and status into NAME.out, NAME.err
run() {
	local status=0
	timeout 300 env ${1:+LD_PRELOAD="$1"} ${2:+HAKMEM_STATS="$2"} sh -c "$4" >"$3.out" 2>"$3.err" </dev/null || status=$?
	echo "status $status" >>"$3.out"
}

alike() { cmp -s "$1.out" "$2.out" && cmp -s "$1.err" "$2.err"; }

# each WHAT FUNCTION: the function with the name and the command of all that are there
each() {
	local i name
	for ((i = 0; i < ${#commands[@]}; i += 2)); do
		name=${commands[i]}
		case $name in
		perl | python3) [ -x "/usr/bin/$name" ] || { skip "$name, $1" "/usr/bin/$name is not there"; continue; } ;;
		esac
		"$2" "$name" "${commands[i + 1]}"
	done
}

mkdir stats
same_output() { # NAME COMMAND
	local name=$1 command=$2
	run "" "" bare "$command"
	run "$lib" "" preload "$command"
	run "$lib" "json:$dir/stats/%p.json" counted "$command"
	if ! cmp -s bare.out preload.out; then
		bad "$name, same output" "differs" <(diff bare.out preload.out || true)
	elif ! cmp -s bare.err preload.err; then
		bad "$name, same output" "differs on stderr" preload.err
	elif ! cmp -s bare.out counted.out; then
		bad "$name, same output" "differs with statistics" <(diff bare.out counted.out || true)
	else
		ok "$name, same output"
	fi
}
each "same output" same_output

# ---- alone ----

files=(stats/*.json)
if [ ! -e "${files[0]}" ] || [ ${#files[@]} -lt 20 ]; then
	bad "no fallback counted" "only ${#files[@]} processes wrote statistics"
elif grep -LE '"fallbacks": *0[,}[:space:]]' "${files[@]}" >counted && [ -s counted ]; then
	bad "no fallback counted" "in these statistics:" counted
else
	ok "no fallback counted in ${#files[@]} processes"
fi

# Without hakmem the same work must meet the trap: otherwise it would prove nothing.
run "$dir/libtrap.so" "" trap ./work
if grep -x 'status 77' trap.out >/dev/null; then
	skip "the C library's malloc is never entered" "$(tail -n 1 trap.err)"
else
	if grep -x 'status 99' trap.out >/dev/null && grep -F 'own allocator was entered: malloc' trap.err >/dev/null; then
		ok "the trap is met without hakmem"
	else
		bad "the trap is met without hakmem" "$(tail -n 1 trap.out)" trap.err
	fi
	alone() { # NAME COMMAND
		local name=$1 command=$2
		run "" "" bare "$command"
		# the trap's constructor before hakmem's and after it
		run "$dir/libtrap.so:$lib" "" trap "$command"
		if alike bare trap; then
			run "$lib:$dir/libtrap.so" "" trap "$command"
		fi
		if alike bare trap; then
			ok "$name, alone"
		else
			bad "$name, alone" "$(tail -n 1 trap.out)" trap.err
		fi
	}
	each alone alone
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
