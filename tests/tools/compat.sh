#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2015 # messages on failure
# What programs that know glibc's malloc ask of it: malloc_info, mallinfo2, malloc_usable_size.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
info=$build/tests/tools/info

# Blocks have the size of their class, 1.25 times what was asked for at most; what is neither in use
# nor free is metadata.
mallinfo_is_true() {
	expect_code 0 env LD_PRELOAD="$lib" "$info" || return 1
	awk '{ exit !($1 >= $2 && $1 < 1.25 * $2 && $3 >= 0 && $3 < $2 / 10) }' "$work/err" || say "grown by, asked for, metadata: $(cat "$work/err")"
}

# size XPATH: a number in the text
size() { xmllint --xpath "string($1/@size)" "$work/out"; }

malloc_info_is_xml() {
	command -v xmllint >/dev/null || skip "no xmllint"
	expect_code 0 env LD_PRELOAD="$lib" "$info" && xmllint --noout "$work/out" || say "$(cat "$work/out")" || return 1
	local live current
	live=$(size '/malloc/total[@type="live"]') current=$(size '/malloc/system[@type="current"]')
	[ "$live" -ge "$(cut -d' ' -f2 "$work/err")" ] && [ "$current" -ge "$live" ] || say "live $live of $current: $(cat "$work/err")"
}

# The compiler knows how much was asked for, and such a program may write no more.
fortified_programs_may_use_what_is_usable() {
	cat >"$work/fortified.c" <<-'END'
		#include <malloc.h>
		#include <stdlib.h>
		#include <string.h>
		int main(void)
		{
			char *p = malloc(101);
			memset(p, 1, malloc_usable_size(p));
			return p[100] - 1;
		}
	END
	printf '#include <features.h>\n#if __USE_FORTIFY_LEVEL != 3\n#error\n#endif\n' >"$work/level.c"
	${CC:-cc} -O2 -D_FORTIFY_SOURCE=3 -fsyntax-only "$work/level.c" 2>/dev/null &&
		${CC:-cc} -O2 -D_FORTIFY_SOURCE=3 -o "$work/fortified" "$work/fortified.c" || skip "no _FORTIFY_SOURCE=3"
	ulimit -c 0
	expect_code 134 env LD_PRELOAD="$lib" "$work/fortified" || return 1 # else nothing is tested below
	expect_code 0 env LD_PRELOAD="$lib" HAKMEM_HARDENED=check "$work/fortified"
}

check mallinfo_is_true
check fortified_programs_may_use_what_is_usable
check malloc_info_is_xml
summary
