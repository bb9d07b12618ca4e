#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do node's workers, buffers, streams and collector give the known answers?
. "${BASH_SOURCE%/*}/lib.sh"
packages nodejs
commands node
begin

under_test node --expose-gc "$source_dir/src/work.js" >work.out
expect_equal "last line" "done" "$(tail -n 1 work.out)"
result "digests" "$(paste -sd ' ' work.out)"
