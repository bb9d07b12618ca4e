#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does a C++ program with threads, exceptions and over-aligned new hold together?
. "${BASH_SOURCE%/*}/lib.sh"
packages g++
commands g++
begin

g++ -std=c++17 -O2 -pthread -o threads "$source_dir/src/threads.cc"
under_test ./threads >threads.out
expect_equal "last line" "done" "$(tail -n 1 threads.out)"
result "answers" "$(paste -sd ' ' threads.out)"
