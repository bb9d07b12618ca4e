#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do the models hold, and would they notice if they did not?  Runs every model
# exhaustively under SPIN, then each seeded mutation, which counts as passed
# only if the assertion named here catches it.  Before that, it compares the
# orders' tags in src/ with each other and with the table in README.md.
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
limit=600		# seconds for one run
memory=1500		# MiB for one run
passed=0
failed=0
skipped=0
opt=-O1			# of pan; a mutation's search is short, its compilation is not
compress=		# of pan: a quarter of the memory, twice the time

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

# build_and_run LABEL MODEL FLAGS...: sets $errors, $states, $depth, $why, and $begun to $SECONDS then
build_and_run()
{
	local label=$1 model=$2 dir pan_flags=-n status=0
	shift 2
	begun=$SECONDS
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
	elif ! $cc -w "$opt" -DSAFETY $compress -DMEMLIM="$memory" -o pan pan.c >log 2>&1; then
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
		printf 'ok    %-9s %10s states, depth %3s, 0 errors  %s (%d s)\n' "$2" "$states" "$depth" "$1" $((SECONDS - begun))
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
	opt=-O1
	if [ "$errors" = 1 ] && [[ $why == "assertion violated"*"$expect"* ]]; then
		passed=$((passed + 1))
		printf 'ok    %-9s %10s states, caught            %s (%d s)\n' "$1" "$states" "$label" $((SECONDS - begun))
	else
		failed=$((failed + 1))
		printf 'FAIL  %-9s %s: not caught as expected: %s\n' "$1" "$label" "${why:-0 errors}"
	fi
}

# tags SIDE FILE...: the tags that stand behind the word release or acquire
tags()
{
	local side=$1
	shift
	grep -rhoE "$side [A-Z]{3,}" "$@" | cut -d' ' -f2 | sort -u
}

# paired LABEL FILE...: each tag has both sides.  src/ knows all that models/ use
paired()
{
	wanted "$1 tags" || return 0
	local label=$1 odd
	shift
	odd=$(comm -3 <(tags release "$@") <(tags acquire "$@") | tr -d '\t' | tr '\n' ' ')
	odd+=$(comm -13 <(tags release "$here/../src") <(tags release "$@") | tr '\n' ' ')
	if [ -z "$odd" ] && [ -n "$(tags release "$@")" ]; then
		passed=$((passed + 1))
		printf 'ok    tags      %s\n' "$label"
	else
		failed=$((failed + 1))
		printf 'FAIL  tags      %s: without the other side, or not in src/: %s\n' "$label" "${odd:-all}"
	fi
}

# steps WHERE: the models' steps, as "[P3]" there and as "HAK_STEP(P3)" in the code
steps()
{
	grep -rhoE --include='*.pml' --include='*.[ch]' '(\[|HAK_STEP\()[A-Z][0-9]+[])]' "$1" | grep -oE '[A-Z][0-9]+' | sort -u
}

# tied: each step of a model is marked in the code, and the reverse
tied()
{
	wanted "steps" || return 0
	local odd
	# step.h names one to explain
	odd=$(comm -3 <(steps "$here") <(steps "$here/../src") | tr -d '\t' | tr '\n' ' ')
	if [ -z "$odd" ] && [ -n "$(steps "$here")" ]; then
		passed=$((passed + 1))
		printf 'ok    steps     %s\n' "$(steps "$here" | wc -l) steps of the models are marked in src/"
	else
		failed=$((failed + 1))
		printf 'FAIL  steps     not on both sides: %s\n' "${odd:-all}"
	fi
}

tied
paired 'release and acquire in src/' "$here/../src"
paired 'the same in models/README.md' "$here/README.md"
paired 'the same in remote.pml' "$here/remote.pml"

# --- remote.pml: lost, doubled, misplaced ---------------------------------
both=(-DOPS_A=2 -DOPS_B=2 -DWITH_ADOPT)
all=(-DNFREER=2 "${both[@]}" -DWITH_RELEASE)
three=(-DNS=1 -DNB=3 -DNFREER=3)
small=(-DNFREER=1 -DOPS_A=2 -DOPS_B=1 -DWITH_ADOPT)
holds '3 freers, 3 parcels' remote "${three[@]}" -DNP=3
holds 'parcels used again, or none left' remote -DNS=1 -DNB=3 -DNFREER=2 -DFREES=2 -DOPS_A=3
holds 'slabs change owner, there and back' remote -DNFREER=2 "${both[@]}"
holds 'parcels with blocks of two heaps' remote -DNB=2 -DNP=3 -DNFREER=2 -DOPS_A=1 -DOPS_B=1 -DWITH_ADOPT
holds 'owner change, release and claim' remote "${all[@]}"
holds '1 slab of 2 blocks through several lives' remote -DNS=1 -DNB=2 -DNFREER=1 -DFREES=2 \
	-DOPS_A=3 -DOPS_B=2 -DWITH_ADOPT -DWITH_RELEASE
holds 'heaps that free remotely too' remote -DNFREER=1 "${both[@]}" -DWITH_RELEASE -DWITH_BUFFER
holds 'collected by others' remote -DNFREER=1 "${both[@]}" -DWITH_RELEASE -DRESCUES=1
holds 'one parcel at a time, under the lock' remote "${three[@]}" -DPOP_ONE
holds 'the whole inbox, even without the lock' remote -DNS=1 -DNB=3 -DNFREER=2 -DFREES=2 -DOPS_A=1 -DNA=2 -DUNLOCKED

lost='(n==listed)'
caught 'one parcel at a time without the lock: ABA' "$lost" \
	remote "${three[@]}" -DOPS_A=1 -DNA=2 -DUNLOCKED -DPOP_ONE
caught 'push by plain store' "$lost" remote "${all[@]}" -DMUT_PUSH_STORE
caught 'inbox taken by load and store' "$lost" remote "${all[@]}" -DMUT_TAKE_STORE
caught 'next read after the parcel was given back' "$lost" remote "${all[@]}" -DMUT_NEXT_LATE
caught 'collected for another without its lock' "$lost" remote -DNFREER=2 -DRESCUES=1 -DMUT_RESCUE_NO_LOCK
caught 'all that is in the inbox taken for ours' '(tag[' remote "${all[@]}" -DMUT_NO_TAG_CHECK
caught 'not passed on' '(what[p]==0)' remote "${all[@]}" -DMUT_FORWARD_NONE
caught 'passed on to the same heap: no end' 'hops[p]' remote "${small[@]}" -DMUT_FORWARD_BACK
caught 'adoption without the parked heap'"'"'s lock' '(tag[' remote "${all[@]}" -DMUT_ADOPT_NO_LOCK
caught 'delivered by a tag read before the lock alone' '(tag[' remote "${all[@]}" -DMUT_DELIVER_UNCHECKED
caught 'delivered without a look for EMPTY' '(tag[s]==255)||' remote "${all[@]}" -DMUT_EMPTY_UNSEEN
caught 'blocks in parcels counted as free: released with blocks out' '((fre&' \
	remote "${small[@]}" -DNS=1 -DNB=2 -DFREES=2 -DWITH_RELEASE -DMUT_RELEASE_PARCELS

# --- weak.pml: the memory orders -------------------------------------------
holds 'orders: collect, deliver and adopt' weak
holds 'orders: release and claim' weak -DLIVES=1
parcel='pt[(2+p)]'
caught 'P3 relaxed: parcel read while it is written' "$parcel" weak -DP3=0
caught 'P3 relaxed where a parcel is passed on' "$parcel" weak -DP3F=0
caught 'P4 relaxed: parcel read while it is written' "$parcel" weak -DP4=0
caught 'P1, P6, P7 relaxed: new owner'"'"'s heap not found' '(ok==1)' weak -DP167=0
caught 'P10 relaxed: new owner'"'"'s heap not found' '(ok==1)' weak -DP10=0
caught 'P12 relaxed: fields of a new heap' 'pt[5]' weak -DP12=0
caught 'P13 relaxed: fields of a new heap' 'pt[5]' weak -DP13=0
caught 'P9 relaxed: slab still in use by its last owner' 'pt[4]' weak -DLIVES=1 -DP9=0
caught 'P11 relaxed: slab still in use by its last owner' 'pt[4]' weak -DLIVES=1 -DP11=0
caught 'heap lock without acquire: put home by the wrong heap' '==o)' weak -DLOCK=1
caught 'heap lock without release: put home by the wrong heap' '==o)' weak -DLOCK=2

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
caught 'popped taken for locked' '(owner[b]==o)' park -DNT=2 -DOPS=2 -DWITH_RECLAIM -DMUT_POP_IS_LOCK
caught 'adoption from a heap with full magazines' 'owner[b]==' park -DNT=2 -DOPS=2 -DMUT_ADOPT_UNDRAINED
caught 'magazine top before the entry: garbage in the child' 'fre&live' park "${f[@]}" -DMUT_TOP_FIRST
caught 'flush outside the own lock: sent twice by the child' '(inbox[o]' park "${f[@]}" -DMUT_FLUSH_NO_LOCK
caught 'late free without the owner'"'"'s lock' '(owner[b]==o)' park -DNT=2 -DOPS=2 -DMUT_LATE_NO_LOCK
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

# --- room.pml: the bits that searches go by ---------------------------------
r=(-DUSERS=2 -DOPS=2)
holds '2 users, 2 searchers' room "${r[@]}" -DSEARCHES=2
caught 'the word read before its bit is cleared' 'word==0' room "${r[@]}" -DMUT_WORD_FIRST
caught 'the word not read again' 'word==0' room "${r[@]}" -DMUT_WORD_UNSEEN
caught 'the bits read before the order'"'"'s is cleared' 'word==0' room "${r[@]}" -DMUT_ROOM_FIRST
caught 'the bits not read again' 'word==0' room "${r[@]}" -DMUT_ROOM_UNSEEN
caught 'the order noted before the bit' 'word==0' room "${r[@]}" -DMUT_ORDER_FIRST

# --- magazine.pml: what a sleeping thread has cached -------------------------
holds 'a magazine of 3, 5 operations' magazine -DOPS=5
holds 'a magazine of 2, 6 operations' magazine -DSIZE=2 -DOPS=6
holds 'no barrier in the kernel' magazine -DREFUSED -DOPS=5
caught 'no first barrier' 'home[p]' magazine -DMUT_NO_BARRIER
caught 'no second barrier' 'places==1' magazine -DMUT_ONE_BARRIER
caught 'the uppermost block is taken too' 'home[p]' magazine -DMUT_TOP_ITSELF
caught 'no look at what is there by then' 'places==1' magazine -DMUT_NO_LOOK
caught 'put back over what the owner pushed' 'out[p]' magazine -DMUT_PUT_BACK_BLINDLY
caught 'not put back' 'places==1' magazine -DMUT_NOT_PUT_BACK
caught 'taken above what is not' 'gap' magazine -DMUT_GAP -DOPS=7

if [ "$deep" -eq 1 ]; then
	limit=3600
	memory=3000
	compress=-DCOLLAPSE
	opt=-O2
	holds '2 slabs of 2 blocks, 3 parcels, all' remote -DNB=2 -DNP=3 -DNFREER=2 -DOPS_A=2 -DOPS_B=1 \
		-DWITH_ADOPT -DWITH_RELEASE
	holds '2 freers, collected by others' remote -DNFREER=2 -DOPS_A=1 -DOPS_B=1 -DWITH_ADOPT \
		-DWITH_RELEASE -DRESCUES=1
	holds '2 freers, 2 flushes' remote "${all[@]}" -DFREES=2
	holds '3 threads and fork' park -DNT=3 -DOPS=1 -DWITH_FORK
	holds '2 threads, reclaimer and fork' park -DNT=2 -DOPS=1 -DWITH_RECLAIM -DWITH_FORK
	holds '2 threads, reclaimer, 2 operations' park -DNT=2 -DOPS=2 -DWITH_RECLAIM
	holds '2 users, 3 searches by each of 2' room -DOPS=3 -DSEARCHES=3
	holds '2 claimers, 2 purges' superslab -DOPS=2 -DPURGES=2
	holds 'a magazine of 3, 7 operations' magazine -DOPS=7
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$have" -eq 1 ] || exit 77
[ "$failed" -eq 0 ]
