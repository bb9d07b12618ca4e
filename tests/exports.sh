#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Exported symbols are exactly those of exports.txt, and malloc carries no version: the
# dynamic linker ignores a versioned malloc under LD_PRELOAD.
set -euo pipefail
lib=$1
here=$(cd "$(dirname "$0")" && pwd)
failed=0
got=$(nm -D --defined-only "$lib" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort)
if ! diff <(LC_ALL=C sort "$here/exports.txt") <(printf '%s\n' "$got"); then
	echo "exported symbols differ from tests/exports.txt" >&2
	failed=$((failed + 1))
fi
bindings=$(LD_DEBUG=bindings LD_PRELOAD=$lib ls / 2>&1 >/dev/null)
for name in malloc free; do
	if ! grep -E "binding file ([^ ]*/)?ls \[0\] to $lib \[0\]: normal symbol \`$name'" <<<"$bindings" >/dev/null; then
		echo "ls does not bind $name to $lib" >&2
		failed=$((failed + 1))
	fi
done
echo "$((3 - failed)) passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
