#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do the models hold, and would they notice if they did not?  Runs every model
# exhaustively under SPIN, then each seeded mutation, which counts as passed
# only if the assertion named here catches it.
#
#   models/run.sh            everything, under three minutes on one core
#   models/run.sh --deep     larger configurations too (some minutes more, 3 GB)
#   models/run.sh -k WORD    only runs whose line contains WORD
#
# Exit: 0 all passed, 1 something failed, 77 no spin or no C compiler.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cc=${CC:-cc}
deep=0
only=
limit=60		# seconds for one run
memory=1500		# MiB for one run
passed=0
failed=0
skipped=0
opt=-O2			# of pan; a mutation's search is short, its compilation is not

while [ $# -gt 0 ]; do
	case $1 in
	--deep) deep=1 ;;
	-k) only=${2:?-k needs a word}; shift ;;
	*) echo "usage: $0 [--deep] [-k WORD]" >&2; exit 2 ;;
	esac
	shift
done

work=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-models.XXXXXX")
trap 'rm -rf "$work"' EXIT

have=1
for tool in spin timeout "${cc%% *}"; do
	if ! command -v "$tool" >/dev/null 2>&1; then
		echo "models: no $tool, all runs are skipped"
		have=0
	fi
done

# build_and_run LABEL MODEL FLAGS...: sets $errors, $states, $depth, $why
build_and_run()
{
	local label=$1 model=$2 dir pan_flags=-n status=0
	shift 2
	dir=$work/run
	rm -rf "$dir"
	mkdir "$dir"
	errors='?' states='?' depth='?' why=
	# In a child of fork the other threads stand still: these two models
	# find deadlocks by a watchdog of their own instead.
	case $model in park | superslab) pan_flags='-n -E' ;; esac
	cd "$dir"
	if ! spin -a "$@" "$here/$model.pml" >log 2>&1 || grep -q 'Error' log; then
		why="spin: $(grep -m1 Error log || tail -n1 log)"
	elif ! $cc -w "$opt" -DSAFETY -DCOLLAPSE -DMEMLIM="$memory" -o pan pan.c >log 2>&1; then
		why="$cc: $(tail -n1 log)"
	else
		# shellcheck disable=SC2086
		timeout "$limit" ./pan $pan_flags -m100000 >log 2>&1 || status=$?
		errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' log)
		states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log)
		depth=$(sed -n 's/.*depth reached \([0-9]*\).*/\1/p' log)
		why=$(sed -n 's/^pan:[0-9]*: *//p' log | head -n1)
		if [ "$status" -eq 124 ]; then
			why="no end within $limit s"
			errors='?'
		elif grep -qE 'max search depth too small|out of memory|reached -DMEMLIM' log; then
			why="search cut short: $(grep -m1 -E 'max search depth|memory|MEMLIM' log)"
			errors='?'
		fi
	fi
	cd "$here"
}

wanted()
{
	case "$*" in *"$only"*) ;; *) return 1 ;; esac
	if [ "$have" -eq 0 ]; then
		skipped=$((skipped + 1))
		return 1
	fi
}

# holds LABEL MODEL FLAGS...: the whole state space, without an error
holds()
{
	wanted "$@" || return 0
	build_and_run "$@"
	if [ "$errors" = 0 ] && [ -z "$why" ]; then
		passed=$((passed + 1))
		printf 'ok    %-9s %10s states, depth %3s, 0 errors  %s\n' "$2" "$states" "$depth" "$1"
	else
		failed=$((failed + 1))
		printf 'FAIL  %-9s %s: %s\n' "$2" "$1" "${why:-no result}"
	fi
}

# caught LABEL ASSERTION MODEL FLAGS...: an error, and this one
caught()
{
	local label=$1 expect=$2
	shift 2
	wanted "$label" "$@" || return 0
	opt=-O0
	build_and_run "$label" "$@"
	opt=-O2
	if [ "$errors" = 1 ] && [[ $why == "assertion violated"*"$expect"* ]]; then
		passed=$((passed + 1))
		printf 'ok    %-9s %10s states, caught            %s\n' "$1" "$states" "$label"
	else
		failed=$((failed + 1))
		printf 'FAIL  %-9s %s: not caught as expected: %s\n' "$1" "$label" "${why:-0 errors}"
	fi
}

# --- remote.pml: lost, doubled, misplaced ---------------------------------
all=(-DNFREER=2 -DFREES=1 -DOPS_A=2 -DOPS_B=2 -DWITH_ADOPT -DWITH_RELEASE)
core=(-DNFREER=2 -DFREES=2 -DOPS_A=2)
holds 'free and collect, 2 slabs, 2 freers' remote "${core[@]}"
holds '3 freers, several words a slab' remote -DNFREER=3 -DFREES=1 -DOPS_A=2 -DSPLIT
holds 'owner change' remote -DNFREER=2 -DFREES=1 -DOPS_A=2 -DOPS_B=1 -DWITH_ADOPT
holds 'owner change, release and claim' remote "${all[@]}"
holds '1 slab through several lives' remote -DNS=1 -DNFREER=2 -DFREES=2 -DOPS_A=3 -DOPS_B=2 \
	-DWITH_ADOPT -DWITH_RELEASE -DSPLIT
holds 'both heaps claim' remote -DNS=1 -DNFREER=2 -DFREES=2 -DOPS_A=3 -DOPS_B=2 \
	-DWITH_RELEASE -DWITH_CLAIM_A
holds 'pop of one slab, under the lock' remote "${core[@]}" -DPOP_ONE
holds 'pop of all, even without the lock' remote -DNFREER=2 -DFREES=2 -DOPS_A=1 -DNA=2 -DUNLOCKED

caught 'pop of one slab without the lock: ABA' 'onstk[s]' \
	remote -DNFREER=2 -DFREES=2 -DOPS_A=1 -DNA=2 -DUNLOCKED -DPOP_ONE
lost='(word[s]==0)||(reach'
caught 'plain store in place of the CAS that pushes' "$lost" remote "${all[@]}" -DMUT_PUSH_STORE
caught 'QUEUED set by load and store' '!(onstk[s])' remote "${all[@]}" -DMUT_QUEUED_RACY
caught 'owner read before QUEUED is set' '(owner[s]==o)' remote "${all[@]}" -DMUT_OWNER_EARLY
caught 'QUEUED set before the bit' "$lost" remote "${all[@]}" -DMUT_BIT_LATE
caught 'QUEUED cleared after the words are taken' "$lost" remote "${all[@]}" -DMUT_CLEAR_LATE
caught 'link read after QUEUED is cleared' '!((reach' remote "${core[@]}" -DMUT_LINK_LATE
caught 'released without QUEUED (or metadata zeroed)' 'onstk[s]' remote "${all[@]}" -DMUT_RELEASE_UNQUEUED
caught 'EMPTY only looked for where a bit came back' '(fre[s]!=' remote "${all[@]}" -DMUT_NO_EMPTY_CHECK
caught 'adoption of a slab that is queued' 'owner[s]==h' remote "${all[@]}" -DMUT_ADOPT_NO_CAS
caught 'adoption clears QUEUED before the owner' '(owner[s]==o)' remote "${all[@]}" -DMUT_ADOPT_CLEAR_FIRST
caught 'no collect after adoption' "$lost" remote "${all[@]}" -DMUT_ADOPT_NO_RECOLLECT
caught 'claim opens the state before the owner' '(owner[s]==o)' remote "${all[@]}" -DMUT_CLAIM_OPEN_FIRST

# --- weak.pml: the memory orders -------------------------------------------
two=(-DLIVES=1 -DOPS_A=3)
holds 'orders: collect and adopt' weak
holds 'orders: release and claim' weak "${two[@]}"
holds 'R14 needs no acquire: the parked heap'"'"'s lock has it' weak -DR14=0
holds 'R12 needs no acquire: the heap'"'"'s lock has it' weak "${two[@]}" -DR12=0
race='(clk['
caught 'R1 relaxed: block handed out while in use' "$race" weak -DR1=0
caught 'R2 without acquire: stale owner' owt weak -DR2=1
caught 'R2 without release: block lost' '(word==0)' weak -DR2=2
caught 'R5 relaxed: link' 'pt[2]' weak -DR5=0
caught 'R6 relaxed: link' 'pt[2]' weak -DR6=0
caught 'R8 without acquire: block lost' '(word==0)' weak -DR8=1
caught 'R8 without release: link' 'pt[2]' weak -DR8=2
caught 'R9 relaxed: block handed out while in use' "$race" weak -DR9=0
caught 'R16 without acquire: block lost' '(word==0)' weak -DR16=1
caught 'R16 without release: stale owner' owt weak -DR16=2
caught 'R13 relaxed: owner of the next life' owr weak "${two[@]}" -DR13=0
caught 'R17 relaxed: owner of the next life' owr weak "${two[@]}" -DR17=0
caught 'R18 relaxed: stale owner' owt weak "${two[@]}" -DR18=0
caught 'R14 and the lock relaxed' owr weak -DR14=0 -DLOCK=0
caught 'lock relaxed: bitmap' 'pt[3]' weak -DLOCK=0

# --- park.pml: heaps, threads, fork ----------------------------------------
holds 'park, take whole, adopt' park -DNT=2 -DOPS=3
holds 'the same with fork' park -DNT=2 -DOPS=2 -DWITH_FORK
holds 'reclaimer and fork, 1 thread' park -DNT=1 -DOPS=2 -DWITH_RECLAIM -DWITH_FORK
holds 'reclaimer, 2 threads' park -DNT=2 -DOPS=1 -DWITH_RECLAIM
holds '3 threads, 2 lives each: the list' park -DNT=3 -DLIVES=2 -DOPS=0
f=(-DNT=1 -DOPS=3 -DWITH_FORK)
caught 'parked list without a lock: ABA' '(x==3)' park -DNT=3 -DLIVES=2 -DOPS=0 -DLOCKFREE_LIST
caught 'push on the parked list without its lock' 'parked[h]' park -DNT=2 -DOPS=2 -DMUT_PARK_NO_LOCK
caught 'heap marked as taken after the list'"'"'s lock: lost by fork' '(x==3)' park "${f[@]}" -DMUT_POP_MARKS_LATE
caught 'adopter waits for the parked heap'"'"'s lock: deadlock with fork' 'judged' park "${f[@]}" -DMUT_ADOPT_BLOCKS
caught 'popped taken for locked: races with the reclaimer' 'owner[b]==h' \
	park -DNT=2 -DOPS=2 -DWITH_RECLAIM -DMUT_POP_IS_LOCK
caught 'adoption from a heap with full magazines' 'owner[b]==' park -DNT=2 -DOPS=2 -DMUT_ADOPT_UNDRAINED
caught 'magazine top before the entry: garbage in the child' 'fre&live' park "${f[@]}" -DMUT_TOP_FIRST
caught 'late free without a lock: lost in the child' 'remote==0' park -DNT=2 -DOPS=1 -DWITH_FORK -DMUT_LATE_NO_LOCK
caught 'fork without the parked list'"'"'s lock' '(x==3)' park "${f[@]}" -DMUT_FORK_NO_PLOCK
caught 'child parks nothing' '(x==3)' park "${f[@]}" -DMUT_CHILD_PARKS_NONE

# --- superslab.pml: the node pool's word -----------------------------------
p=(-DOPS=2)
f=(-DOPS=3 -DNC=1 -DWITH_FORK)
holds '2 claimers, spans, 1 purge' superslab "${p[@]}"
holds '1 claimer, 2 purges, fork' superslab "${f[@]}" -DPURGES=2
holds '2 claimers, fork' superslab -DOPS=2 -DPURGES=0 -DWITH_FORK
caught 'claim by store' 'held[' superslab "${p[@]}" -DMUT_CLAIM_STORE
caught 'release by load and store' '==15' superslab "${p[@]}" -DMUT_GIVE_STORE
caught 'rollback forgets EMPTY granules' '==15' superslab "${p[@]}" -DMUT_ROLLBACK_EMPTY_LOST
caught 'rollback makes EMPTY granules UNUSED' 'dirty[' superslab "${p[@]}" -DMUT_ROLLBACK_UNUSED
caught 'no rollback' 'held[0]==0' superslab "${p[@]}" -DMUT_ROLLBACK_NONE
caught 'purge of what is still in the pool' '==0)' superslab "${p[@]}" -DMUT_PURGE_PEEK
caught 'put back before the completion' 'kern[' superslab "${p[@]}" -DMUT_BACK_EARLY
caught 'refused purge counts as zero' 'dirty[' superslab "${p[@]}" -DMUT_FAILED_UNUSED
caught 'range in flight not noted under the lock: lost by fork' '==15' superslab "${f[@]}" -DMUT_OUT_LATE
caught 'fork without the heaps'"'"' locks: granule in nobody'"'"'s list' 'noted' superslab "${f[@]}" -DMUT_FORK_NO_HEAP_LOCKS
caught 'child takes a range in flight for zero' 'dirty[' superslab "${f[@]}" -DMUT_CHILD_ZERO

if [ "$deep" -eq 1 ]; then
	limit=600
	memory=3000
	holds '1 slab, 3 blocks, 3 freers, all' remote -DNS=1 -DNB=3 -DNFREER=3 -DFREES=1 -DOPS_A=2 \
		-DOPS_B=2 -DWITH_ADOPT -DWITH_RELEASE -DSPLIT
	holds '3 threads and fork' park -DNT=3 -DOPS=1 -DWITH_FORK
	holds '2 threads, reclaimer and fork' park -DNT=2 -DOPS=1 -DWITH_RECLAIM -DWITH_FORK
	holds '2 threads, reclaimer, 2 operations' park -DNT=2 -DOPS=2 -DWITH_RECLAIM
	holds '2 claimers, 2 purges' superslab -DOPS=2 -DPURGES=2
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$have" -eq 1 ] || exit 77
[ "$failed" -eq 0 ]
