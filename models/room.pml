/* SPDX-License-Identifier: MIT */
/*
 * Is room in a SuperSlab ever unknown to searches, when all is at rest?
 *
 * One SuperSlab, whose word is here the order of its longest free run: 0 none, 1, or 2. Users give and take
 * granules; who gives notes the order that the word has then, who takes notes nothing. Searchers look at
 * the arena's bits by order, then at the SuperSlab's, then at the word, and put right what they find wrong. At
 * rest the word's order, or one above it, must have both bits.
 *
 * All accesses are seq_cst in the code, so interleavings are all there is.
 *
 * Configuration: USERS, OPS each; SEARCHES by each of two searchers.
 */
#ifndef USERS
#define USERS 2
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef SEARCHES
#define SEARCHES 2
#endif

byte word;			/* order of its longest run */
bit room[3];			/* the SuperSlab's bits, by order */
bit orders[3];			/* the arena's */
byte done;

inline order_note(o)
{
	if			/* [R3] load */
	:: d_step { orders[o] -> skip }
	:: else -> orders[o] = 1 /* [R4] fetch_or */
	fi
}

inline note(o)
{
	if
	:: o == 0
	:: else ->
		if		/* [R1] load */
		:: d_step { room[o] -> skip }	/* who set it notes the order, or has */
		:: else ->
#ifdef MUT_ORDER_FIRST
			order_note(o);
			room[o] = 1
#else
			room[o] = 1;	/* [R2] fetch_or */
			order_note(o)
#endif
		fi
	fi
}

inline super_put_right(o)
{
#ifdef MUT_WORD_FIRST
	seen = word;
	room[o] = 0;
	note(seen)
#else
	room[o] = 0;		/* [R5] fetch_and */
#ifndef MUT_WORD_UNSEEN
	seen = word;		/* [R6] load */
	note(seen)
#endif
#endif
}

inline order_put_right(o)
{
#ifdef MUT_ROOM_FIRST
	any = room[o];
	orders[o] = 0;
#else
	orders[o] = 0;		/* [R7] fetch_and */
#ifdef MUT_ROOM_UNSEEN
	any = 0;
#else
	any = room[o];		/* [R8] load */
#endif
#endif
	if
	:: any -> order_note(o)
	:: else
	fi
}

active [USERS] proctype user()
{
	byte n = OPS, now;
	do
	:: n > 0 ->
		if
		:: d_step { word < 2 -> word = word + 1; now = word };	/* hak_super_put */
		   note(now)
		:: d_step { word > 0 -> word = word - 1 }		/* take */
		fi;
		now = 0;
		n--
	:: n == 0 -> break
	od;
	done++
}

active [2] proctype searcher()
{
	byte n = SEARCHES, o, seen;
	bit any;
	do
	:: n > 0 ->
		if
		:: o = 1
		:: o = 2
		fi;
		if
		:: !orders[o]
		:: else ->
			if
			:: !room[o] -> order_put_right(o)
			:: else ->
				seen = word;
				if
				:: seen == o
				:: else -> super_put_right(o)
				fi
			fi
		fi;
		seen = 0;
		any = 0;
		o = 0;
		n--
	:: n == 0 -> break
	od;
	done++
}

active proctype judge()
{
	done == USERS + 2 ->
	assert(word == 0 || (room[2] && orders[2]) || (word == 1 && room[1] && orders[1]))	/* found */
}
