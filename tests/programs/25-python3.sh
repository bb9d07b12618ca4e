#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do python3's own tests of threads, gc and fork pass, with pymalloc and with malloc?
. "${BASH_SOURCE%/*}/lib.sh"
# The tests' package is named after the version that python3 stands for.
version=$(readlink -f "$python") && version=${version##*/}
[[ $version == python3.* ]] || version=$(apt-cache depends python3 2>/dev/null |
	sed -n 's/.*Depends: \(python3\.[0-9]*\)$/\1/p')
packages python3 "lib$version-testsuite"
commands "$python"
files "/usr/lib/$version/test/test_gc.py"
begin

# regrtest runs them in one process and prints its verdict last.
tests() {
	under_test "$python" -m test --timeout 100 "$@" >tests.log 2>&1 ||
		{ tail -n 40 tests.log >&2; fail "python3 -m test $* failed"; }
	expect_text "python3 -m test" "^(Tests? result|Result): SUCCESS" tests.log
}

tests test_thread test_threading_local test_gc test_mmap test_bytes

# With PYTHONMALLOC=malloc each small object is a block of the allocator's.
export PYTHONMALLOC=malloc
tests test_threading test_gc test_fork1 test_weakref
tests test_multiprocessing_fork -m test_map -m test_starmap -m test_many_processes \
	-m test_put -m test_joinable_queue -m test_fd_transfer -m test_no_import_lock_contention
