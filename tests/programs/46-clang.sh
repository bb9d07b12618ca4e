#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does clang under the allocator build the same objects from this project and a large C++ file?
. "${BASH_SOURCE%/*}/lib.sh"
packages clang g++ libc6-dev
commands clang clang++
begin

. "$source_dir/src/compile.sh"
compile_all clang clang++
