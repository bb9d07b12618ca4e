#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# profile_cost.sh LIB: what the heap profile costs real programs, in instructions, by callgrind, which the
# machine's load does not change. By hand; the table is in doc/design.md. The distance between samples is
# the default, and random: so the last digit differs from run to run.
export HAK_TIMED=1 # it may take its time
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
jobs=$here/../../bench/macro
library=$build/.libs/libhakmem-profile.so
export PERL_HASH_SEED=0 PYTHONHASHSEED=0

# row NAME COMMAND ...: without the profile, with it, and with guarded blocks as well
row() {
	local name=$1 without with
	shift
	command -v "$1" >/dev/null || { echo "skipped: no $1" >&2 && return; }
	count "$lib" "$@" || return
	without=$counted
	count "$library" "$@" || return
	with=$counted
	HAKMEM_GUARDED=1000 count "$library" "$@" || return
	awk -v name="$name" -v a="$without" -v b="$with" -v c="$counted" 'BEGIN {
		printf "| %s | %.0f | %+.2f %% | %+.2f %% |\n", name, a / 1e6, (b / a - 1) * 100, (c / a - 1) * 100 }'
}

echo "| program | million instructions | with the profile | and 1,000 guarded slots |"
echo "| --- | ---: | ---: | ---: |"
gcc -DTENS=4 -E -P "$jobs/job.c" -o "$work/job.i"
{ echo 'CREATE TABLE size AS SELECT 20000 AS n;' && cat "$jobs/job.sql"; } >"$work/job.sql"
# shellcheck disable=SC2016 # perl's variables
row perl perl -e 'my %h; for my $i (1 .. 200000) { my $k = "k" . $i % 7000; push @{$h{$k}}, "v$i"; $h{$k} = [] if @{$h{$k}} > 5 }'
row python3 /usr/bin/python3 "$jobs/job.py" 5
PYTHONMALLOC=malloc row 'python3, PYTHONMALLOC=malloc' /usr/bin/python3 "$jobs/job.py" 5
row sqlite3 sqlite3 :memory: ".read $work/job.sql"
row 'gcc -fsyntax-only (cc1)' "$(gcc -print-prog-name=cc1)" -quiet -fsyntax-only "$work/job.i"
row 'gcc -O2 (cc1)' "$(gcc -print-prog-name=cc1)" -quiet -O2 -o /dev/null "$work/job.i"
