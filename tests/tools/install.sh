#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What `make install` puts in place is whole: programs build against it, by pkg-config and by
# CMake, shared and static, and the command finds its library there.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
unset MAKEFLAGS MFLAGS MAKELEVEL
root=$work/root
make -C "$build" install DESTDIR="$root" >"$work/install.log" 2>&1 || {
	cat "$work/install.log" >&2
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
}
pc=$(cd "$root" && find . -name hakmem.pc | head -n 1)
libdir=$root/$(dirname "$(dirname "$pc")")
cat >"$work/program.c" <<'END'
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
	struct hakmem_stats s;
	void *volatile p = malloc(100000);
	if (!p || hakmem_stats_get(&s, sizeof s) || s.live < 100000)
		return 1;
	puts(hakmem_version());
	return 0;
}
END

pkg_config() { PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config "$@" hakmem; }

a_program_builds_with_pkg_config() {
	# shellcheck disable=SC2046 # words
	${CC:-cc} -o "$work/shared" "$work/program.c" $(pkg_config --cflags --libs) || return 1
	[ "$(LD_LIBRARY_PATH=$libdir "$work/shared")" = "$(pkg_config --modversion)" ] || say "another version" || return 1
	[ -e "$libdir/libhakmem.a" ] || skip "no static library"
	# shellcheck disable=SC2046
	${CC:-cc} -o "$work/static" "$work/program.c" $(pkg_config --cflags) "$libdir/libhakmem.a" -pthread -ldl &&
		"$work/static" >/dev/null && ! ldd "$work/static" | grep libhakmem
}

# The lines of README.md that compile program.c, for a library that is installed elsewhere.
programs_build_as_the_readme_says() {
	local line n=0
	while read -r line; do
		[[ $line != */libhakmem.a* || -e $libdir/libhakmem.a ]] || continue
		line=${line//\/usr\/local\/lib/"$libdir"}
		(cd "$work" && C_INCLUDE_PATH=$libdir/../include PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$libdir/pkgconfig bash -c "$line" &&
			LD_LIBRARY_PATH=$libdir ./a.out >/dev/null) || say "$line" || return 1
		n=$((n + 1))
	done < <(grep -oE '^    cc .*' "$here/../../README.md")
	[ $n -ge 1 ] || say "it says nothing of it"
}

a_program_builds_with_cmake() {
	command -v cmake >/dev/null || skip "no cmake"
	mkdir "$work/cmake"
	cat >"$work/cmake/CMakeLists.txt" <<-END
		cmake_minimum_required(VERSION 3.16)
		project(program C)
		find_package(hakmem $(pkg_config --modversion) REQUIRED)
		add_executable(shared ../program.c)
		target_link_libraries(shared hakmem::hakmem)
		if(TARGET hakmem::static)
		  add_executable(static ../program.c)
		  target_link_libraries(static hakmem::static)
		endif()
	END
	(cd "$work/cmake" && cmake -Dhakmem_DIR="$libdir/cmake/hakmem" . && make) >"$work/cmake.log" 2>&1 ||
		say "$(tail -n 20 "$work/cmake.log")" || return 1
	"$work/cmake/shared" >/dev/null || return 1
	[ ! -e "$work/cmake/static" ] || "$work/cmake/static" >/dev/null || return 1
	sed -i 's/find_package(hakmem [0-9.]*/find_package(hakmem 99.0/' "$work/cmake/CMakeLists.txt"
	! (cd "$work/cmake" && cmake .) >"$work/cmake.log" 2>&1 || say "it takes itself for version 99"
}

the_command_finds_its_library() {
	local tool
	tool=$(find "$root" -path '*/bin/hakmem')
	expect_code 0 "$tool" run sh -c 'cat /proc/self/maps' || return 1
	grep -q "$(readlink -f "$libdir")/libhakmem.so" "$work/out" || skip "another one is installed, or not in PREFIX/lib"
}

everything_is_uninstalled() {
	make -C "$build" uninstall DESTDIR="$root" >"$work/install.log" 2>&1 || say "$(cat "$work/install.log")" || return 1
	[ -z "$(find "$root" ! -type d)" ] || say "left: $(find "$root" ! -type d)"
}

check a_program_builds_with_pkg_config
check programs_build_as_the_readme_says
check a_program_builds_with_cmake
check the_command_finds_its_library
check everything_is_uninstalled
summary
