#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does what holds in normal mode hold in hardened mode, and with each of its features alone?
# Run in the build folder by make check; hardened.sh LIB
set -euo pipefail

export HAK_LIBRARY=${1:?usage: hardened.sh LIB}
passed=0 failed=0
run() { # FEATURES TEST
	if HAKMEM_HARDENED=$1 timeout 900 "tests/$2" >/dev/null 2>hardened.err; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL $2 with HAKMEM_HARDENED=$1"
		head -n 5 hardened.err
	fi
	rm -f hardened.err
}

if [ ! -x tests/test_api ]; then
	echo "SKIP: no unit tests were built"
	exit 77
fi
for features in 1 check random junk zero quarantine canary guard zero,canary,random; do
	run $features test_api
done
run 1 test_stress
run zero,canary,random test_stress

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
