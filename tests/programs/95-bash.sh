#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does bash count right through thousands of subshells, pipes and expansions?
. "${BASH_SOURCE%/*}/lib.sh"
packages bash coreutils
commands bash seq sort
begin

under_test bash "$source_dir/src/work.bash" >work.out
expect_equal "subshells" "subshells 1500 1125750" "$(sed -n 1p work.out)"
expect_equal "last line" "done" "$(tail -n 1 work.out)"
result "answers" "$(paste -sd ' ' work.out)"
