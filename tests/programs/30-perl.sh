#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do perl hashes, sorts, regular expressions and threads give the known digest?
. "${BASH_SOURCE%/*}/lib.sh"
packages perl
commands perl
begin

under_test perl "$source_dir/src/work.pl" >work.out
result "digests" "$(paste -sd ' ' work.out)"
expect_text "perl" "^threads [0-9a-f]{32}$" work.out
