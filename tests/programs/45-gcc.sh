#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does gcc under the allocator build the same objects from this project and a large C++ file?
. "${BASH_SOURCE%/*}/lib.sh"
packages g++ gcc libc6-dev
commands gcc g++
begin

. "$source_dir/src/compile.sh"
compile_all gcc g++
