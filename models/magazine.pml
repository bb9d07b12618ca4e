/* SPDX-License-Identifier: MIT */
/*
 * May the reclaimer take blocks out of a magazine whose owner is in its fast path, which has no atomic
 * read-modify-write, no fence and no lock?
 *
 * One magazine of SIZE entries, full at first; its owner pops and pushes OPS times, and the reclaimer takes
 * once. What the owner stores waits in buffers, one for each word, and reaches memory in any order between
 * words (no x86-64 does that, others do). A barrier empties them. The slow path is the reclaimer's lock alone.
 *
 * At the end each block is with the program, in the magazine, or home, once; and what was taken leaves a gap
 * at the bottom only.
 *
 * Configuration: SIZE, OPS; REFUSED: the kernel has no barrier, and all is put back.
 */
#ifndef SIZE
#define SIZE 3
#endif
#ifndef OPS
#define OPS 4
#endif
#define BLOCKS (SIZE + 1)	/* the program has one more */
#define TOP 0			/* the buffer of the top; the others are entries' */

byte slot[SIZE + 1];		/* memory; slot[0] is NULL */
byte top = SIZE;
byte own[SIZE + 1];		/* what the owner stored last; own[TOP]: the top as it knows it */
chan buffer[SIZE + 1] = [4] of { byte };
bool out[BLOCKS + 1];		/* with the program */
bool home[BLOCKS + 1];
bool locked;
byte finished;

inline reach(w)			/* the oldest store to a word reaches memory */
{
	buffer[w] ? value;
	if
	:: w == TOP -> top = value
	:: else -> slot[w] = value
	fi
}

inline barrier()
{
	atomic {
		w = 0;
		do
		:: w <= SIZE && len(buffer[w]) > 0 -> reach(w)
		:: w <= SIZE && len(buffer[w]) == 0 -> w++
		:: w > SIZE -> break
		od
	}
}

/* Any store, at any time, as long as the owner may store. */
active proctype memory()
{
	byte w, value;
	do
	:: atomic { len(buffer[0]) > 0 -> w = 0; reach(w) }
	:: atomic { len(buffer[1]) > 0 -> w = 1; reach(w) }
	:: atomic { len(buffer[2]) > 0 -> w = 2; reach(w) }
#if SIZE > 2
	:: atomic { len(buffer[3]) > 0 -> w = 3; reach(w) }
#endif
	:: finished == 2 && len(buffer[0]) == 0 && len(buffer[1]) == 0 && len(buffer[2]) == 0 &&
	   len(buffer[SIZE]) == 0 -> break
	od
}

active proctype owner()
{
	byte ops, p, t, b;
	d_step {
		b = 1;
		do
		:: b <= SIZE -> slot[b] = b; b++
		:: else -> break
		od;
		own[TOP] = SIZE;
		out[BLOCKS] = true
	}
	locked = true;		/* the reclaimer may begin */
	do
	:: ops == OPS -> break
	:: ops < OPS ->
		ops++;
		t = own[TOP];
		if
		:: t > 0 ->	/* a pop */
			d_step {	/* [M5] load, of its own store if that waits still */
				p = (len(buffer[t]) > 0 -> own[t] : slot[t])
			}
			if
			:: p != 0 ->
				atomic {	/* [M6] store */
					buffer[TOP] ! t - 1;
					own[TOP] = t - 1;
					assert(!home[p]);	/* handed out, and at home */
					assert(!out[p]);
					out[p] = true
				}
			:: else -> break	/* the slow path waits for the lock */
			fi
		:: t < SIZE ->	/* a push of any that it has */
			if
			:: out[1] -> p = 1
			:: out[2] -> p = 2
			:: out[3] -> p = 3
#if BLOCKS > 3
			:: out[4] -> p = 4
#endif
			:: else -> p = 0
			fi;
			if
			:: p != 0 ->
				out[p] = false;
				atomic { buffer[t + 1] ! p; own[t + 1] = p };	/* [M7] store */
				atomic { buffer[TOP] ! t + 1; own[TOP] = t + 1 }	/* [M8] store */
			:: else
			fi
		fi
	od;
	finished++
}

active proctype reclaimer()
{
	byte taken[SIZE + 1];
	byte t, i, w, value;
	bool whole = true;	/* all from the bottom on were taken */
	locked;
	t = top;
	i = 1;
	do
	:: i < t ->
		d_step {	/* [M1] exchange */
			taken[i] = slot[i];
			slot[i] = 0
		};
		i++
	:: else -> break
	od;
#ifdef REFUSED
	t = 0;
#else
#ifndef MUT_NO_BARRIER
	barrier();
#endif
	t = top;		/* [M2] load */
#ifndef MUT_ONE_BARRIER
	barrier();
#endif
#endif
	i = 1;
	do
	:: i <= SIZE && taken[i] != 0 ->
		if		/* [M3] load */
#ifdef MUT_TOP_ITSELF
		:: i <= t && slot[i] == 0 && whole ->
#else
#ifdef MUT_NO_LOOK
		:: i < t && whole ->
#else
		:: i < t && slot[i] == 0 && whole ->
#endif
#endif
			atomic {
				assert(!out[taken[i]]);	/* taken home, and handed out */
				home[taken[i]] = true
			}
		:: else ->
#ifndef MUT_GAP
			whole = false;
#endif
#ifdef MUT_PUT_BACK_BLINDLY
			slot[i] = taken[i]
#else
#ifndef MUT_NOT_PUT_BACK
			atomic {	/* [M4] compare and swap */
				if
				:: slot[i] == 0 -> slot[i] = taken[i]
				:: else
				fi
			}
#endif
#endif
		fi;
		i++
	:: i <= SIZE && taken[i] == 0 -> i++
	:: else -> break
	od;
	finished++;
	/* at rest */
	finished == 2 && len(buffer[0]) == 0 && len(buffer[1]) == 0 && len(buffer[2]) == 0 && len(buffer[SIZE]) == 0;
	d_step {
		byte places, b;
		bool gap;
		b = 1;
		do
		:: b <= BLOCKS ->
			places = out[b] + home[b];
			i = 1;
			do
			:: i <= top -> places = places + (slot[i] == b); i++
			:: else -> break
			od;
			assert(places == 1);	/* each block is in one place */
			b++
		:: else -> break
		od;
		i = top;
		do
		:: i > 0 && slot[i] != 0 -> assert(!gap); i--	/* a gap at the bottom only */
		:: i > 0 && slot[i] == 0 -> gap = true; i--
		:: else -> break
		od
	}
}
