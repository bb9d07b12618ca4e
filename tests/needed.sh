#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The preloaded library needs nothing but libc and the dynamic linker.
set -euo pipefail
needed=$(objdump -p "$1" | awk '/NEEDED/ { print $2 }')
extra=$(grep -Ev '^(libc\.so\.6|ld-linux-[a-z0-9-]+\.so\.[0-9])$' <<<"$needed" || true)
if [ -n "$extra" ]; then
	echo "needs more than libc: $extra" >&2
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
fi
echo "1 passed, 0 failed, 0 skipped"
