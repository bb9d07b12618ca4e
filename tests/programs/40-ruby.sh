#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does ruby survive GC.stress, threads, fork and compaction?
. "${BASH_SOURCE%/*}/lib.sh"
packages ruby
commands ruby
begin

under_test ruby "$source_dir/src/work.rb" >work.out
expect_equal "last line" "done" "$(tail -n 1 work.out)"
result "digests" "$(paste -sd ' ' work.out)"
