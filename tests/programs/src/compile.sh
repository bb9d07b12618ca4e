# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The compilers' common part: builds the project's C sources and threads.cc.
: "${source_dir:?sourced after lib.sh}"

# Compiles one file with the compiler under test; a digest of the object follows
# the file's name. A file that does not compile (another machine's configuration)
# has to fail the same way without the preload.
compile() { # COMPILER OPTIONS... FILE
	local file=${*: -1} object status=0

	object=$(tr '/' '_' <<<"${file#"$top"/}").o
	under_test "$@" -c -o "$object" 2>"$object.err" || status=$?
	if ((status == 0)); then
		result "$1 ${file##*/}" "$(digest "$object")"
	else
		result "$1 ${file##*/}" "status $status"
		refused=$((refused + 1))
	fi
	compiled=$((compiled + 1))
}

compile_all() { # C-COMPILER C++-COMPILER
	local file options

	top=$(cd "$source_dir/../.." && pwd)
	compiled=0
	refused=0
	options=(-std=gnu11 -O2 -g -D_GNU_SOURCE -DHAVE_CONFIG_H -I"$PWD" -I"$top/include" -I"$top/src")
	: >config.h
	while IFS= read -r file; do
		compile "$1" "${options[@]}" "$file"
	done < <(find "$top/src" "$top/bench" -name '*.c' | sort)
	((compiled > 0)) || fail "no C source below $top"
	((refused * 2 <= compiled)) || { cat ./*.err >&2; fail "$refused of $compiled sources do not compile"; }
	refused=0
	compile "$2" -std=c++17 -O2 -g "$source_dir/src/threads.cc"
	compile "$2" -std=c++17 -O0 -fsanitize=undefined "$source_dir/src/threads.cc"
	((refused == 0)) || { cat ./*threads*.err >&2; fail "threads.cc does not compile"; }
	echo "$compiled files compiled"
}
