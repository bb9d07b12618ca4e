#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does java compile a program and run it with each of its collectors?
. "${BASH_SOURCE%/*}/lib.sh"
packages default-jdk-headless
commands java javac
begin

under_test javac -J-Xmx256m -d . "$source_dir/src/Work.java"
for collector in Serial Parallel G1 Z; do
	under_test java -Xmx256m -XX:+Use"$collector"GC -cp . Work >"work.$collector"
	cmp work.Serial "work.$collector"
done
expect_equal "last line" "done" "$(tail -n 1 work.Serial)"
result "digests" "$(paste -sd ' ' work.Serial)"
