#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do stress-ng's malloc, fork and mmap stressors verify what they touch?
. "${BASH_SOURCE%/*}/lib.sh"
packages stress-ng
commands stress-ng
begin

stress() { # STRESSOR OPERATIONS OPTIONS...
	local reached

	under_test stress-ng --verify --metrics-brief --temp-path "$PWD" --timeout 60 \
		"--$1" 2 "--$1-ops" "$2" "${@:3}" >"$1.log" 2>&1 ||
		{ cat "$1.log" >&2; fail "stress-ng --$1 failed"; }
	# It also ends well where the time ran out first.
	reached=$(awk -v name="$1" '/metrc:/ && $4 == name && $5 ~ /^[0-9]+$/ { print $5 }' "$1.log")
	((reached >= $2)) || { cat "$1.log" >&2; fail "stress-ng --$1: ${reached:-no} operations of $2"; }
	! grep -E 'fail:|FAILED|terminated on signal|unexpected' "$1.log"
}

# Mostly address space: large blocks of which few pages are touched.
stress malloc 5000 --malloc-bytes 16M --malloc-max 1024 --malloc-pthreads 2
# Mostly memory: every page of small and middle-sized blocks.
stress malloc 400000 --malloc-bytes 64K --malloc-max 8192 --malloc-pthreads 2 --malloc-touch
stress malloc 1000000 --malloc-bytes 2K --malloc-max 65536
stress fork 3000
stress mmap 40 --mmap-bytes 32M
