#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/crimes_table.sh LIB: which crimes does which malloc notice? Prints SECURITY.md's table.
#
#   reported     the process ended by SIGABRT, after a message of the allocator's
#   crash        it ended by another signal
#   hang         it did not end in 30 seconds
#   unnoticed    it went on
#
# Fails if hakmem notices less than is promised: in normal mode a bad free that glibc notices, in
# hardened mode any but those that no allocator without guarded blocks can.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
lib=$(realpath "${1:?usage: crimes_table.sh LIB}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ulimit -c 0
unset LD_PRELOAD "${!HAKMEM_@}"

# Without the compiler's knowledge of malloc; with the C++ runtime, for its operator delete[].
${CC:-cc} -std=gnu11 -O1 -g -w -fno-builtin "$here/crimes_table.c" -o "$work/crimes" -pthread \
	-Wl,--no-as-needed "$(${CXX:-c++} -print-file-name=libstdc++.so.6)"

# verdict CRIME [NAME=VALUE]...
verdict() {
	local crime=$1 status=0
	shift
	(exec timeout 300 env "$@" "$work/crimes" "$crime") >/dev/null 2>"$work/err" || status=$?
	case $status in
	0) echo unnoticed ;;
	124) echo hang ;;
	134) echo reported ;;
	139 | 135 | 132 | 133 | 136) echo crash ;;
	*) echo "status $status" ;;
	esac
}

columns=(hakmem "hakmem hardened" glibc)
settings=("LD_PRELOAD=$lib" "LD_PRELOAD=$lib HAKMEM_HARDENED=1" "X=")
for peer in mimalloc:libmimalloc.so.2 jemalloc:libjemalloc.so.2 tcmalloc:libtcmalloc_minimal.so.4; do
	path=$(ldconfig -p 2>/dev/null | awk -v so="${peer#*:}" '$1 == so && !seen++ { print $NF }')
	[ -n "$path" ] || continue
	columns+=("${peer%%:*}")
	settings+=("LD_PRELOAD=$path")
done

passed=0 failed=0
row="| crime |" line="| --- |"
for column in "${columns[@]}"; do row+=" $column |" line+=" --- |"; done
printf '%s\n%s\n' "$row" "$line"
for crime in $("$work/crimes"); do
	row="| ${crime//_/ } |" got=()
	for setting in "${settings[@]}"; do
		# shellcheck disable=SC2086 # several settings
		got+=("$(verdict "$crime" $setting)")
	done
	for g in "${got[@]}"; do row+=" $g |"; done
	echo "$row"
	ok=yes
	case $crime in
	free_* | double_free* | twice*) [ "${got[0]}" = reported ] && [ "${got[1]}" = reported ] || ok=no ;;
	use_after_free_read | use_after_free_write_large | new_delete_mismatch | underflow_large) ;;
	*) [ "${got[1]}" = reported ] || [ "${got[1]}" = crash ] || ok=no ;;
	esac
	if [ $ok = yes ]; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "FAIL $crime"
	fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
