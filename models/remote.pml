/* SPDX-License-Identifier: MIT */
/*
 * Is a block that another thread frees ever lost, doubled or collected by the
 * wrong heap?  This model owns the remote-free protocol: remote bitmap words,
 * the QUEUED bit, the pending stack, owner change, release and claim of a slab.
 *
 * Every atomic access of the code is one d_step here, tagged [Rn] as in
 * models/README.md.  What lies between two tags belongs to one thread alone
 * (it holds the heap's lock, or it is the one who set QUEUED).
 *
 * Heap 0 ("A") is worked by a process that takes its lock for each operation:
 * a thread, later the next thread that took the parked heap whole.  Heap 1
 * ("B") adopts slabs from A, and claims slabs from the pool.  Freers own no
 * heap.  Whether A is parked when B adopts is park.pml's question; here the
 * lock alone stands for it, which allows more interleavings, not fewer.
 *
 * Configuration (all -D): NS slabs, NB blocks a slab, SPLIT puts each block in
 * a bitmap word of its own, NFREER x FREES remote frees, OPS_A and OPS_B slow
 * paths of the heaps, MAXQ slabs per collect (the rest stays private),
 * WITH_ADOPT, WITH_RELEASE, WITH_SELF_B (B is no separate thread if 0).
 */

#ifndef NS
#define NS 2
#endif
#ifndef NB
#define NB 2
#endif
#ifndef NFREER
#define NFREER 2
#endif
#ifndef FREES
#define FREES 2
#endif
#ifndef OPS_A
#define OPS_A 2
#endif
#ifndef OPS_B
#define OPS_B 0
#endif
#ifndef MAXQ
#define MAXQ 1
#endif

#define NH	2
#define A	0
#define B	1
#define NIL	255
#define ALL	((1 << NB) - 1)
#define BIT(b)	(1 << (b))

/*
 * POP_ONE: the consumer takes one slab at a time.  UNLOCKED: collects run
 * without the heap's lock, NA at a time.  Both serve to show where ABA is.
 */
#ifndef NA
#define NA 1
#endif
#ifdef UNLOCKED
#define REST(h)	mine
#else
#define REST(h)	rest[h]
#endif

/* shared state of the code */
byte word[NS];		/* remote bits (one or NB words, see SPLIT) */
bit queued[NS];		/* the state word */
byte owner[NS];
byte link[NS];		/* belongs to whoever set QUEUED, then to the consumer */
byte pend[NH];		/* head of the pending stack */
byte rest[NH];		/* under the heap's lock: taken, not yet worked off, still QUEUED */
bit lock[NH];
byte fre[NS];		/* under the owner's lock: free in the slab's bitmap */
byte pool;		/* EMPTY bits of the SuperSlab word */

/* ghosts: seen by assertions only */
byte live[NS];		/* blocks the program holds */
byte hand[NS];		/* blocks inside free_remote, before the OR */
bit onstk[NS];		/* is on a pending stack or rest list */
bit act[NS];		/* lives: some heap holds it */
byte done;

#define NPROC	(NFREER + NA + (OPS_B > 0))

/* every block is in exactly one place */
inline account(x)
{
	assert(live[x] + hand[x] + word[x] + fre[x] == ALL);
	assert((live[x] | hand[x] | word[x] | fre[x]) == ALL);
}

inline acquire_lock(h) { atomic { lock[h] == 0 -> lock[h] = 1 } }
inline release_lock(h) { lock[h] = 0 }

inline pushed(h, s)
{
	assert(!onstk[s]);		/* never queued twice */
	assert(owner[s] == h);		/* only on its owner's stack */
	assert(!(pool & BIT(s)));	/* no slab of the pool is queued */
	onstk[s] = 1
}

inline push(h, s)
{
	do
	:: d_step {	/* [R4] load head (relaxed), store link (private) */
		top = pend[h];
		link[s] = top
	   }
#ifdef MUT_PUSH_STORE		/* a plain store in place of the CAS */
	   d_step { pend[h] = s; ok = 1; pushed(h, s) }
#else
	   d_step {	/* [R5] CAS head (release) */
		if
		:: pend[h] == top -> pend[h] = s; ok = 1; pushed(h, s)
		:: else -> ok = 0
		fi
	   }
#endif
	   if
	   :: ok -> break
	   :: else
	   fi
	od;
	atomic { ok = 0; top = 0 }
}

inline set_queued(s)
{
#ifdef MUT_QUEUED_RACY		/* load and store in place of one fetch_or */
	q = queued[s];
	queued[s] = 1
#else
	d_step { q = queued[s]; queued[s] = 1 }	/* [R2] fetch_or (acq_rel) */
#endif
}

inline set_bit(s, b)
{
	d_step {	/* [R1] fetch_or (release) */
		assert(!(word[s] & BIT(b)));		/* no false double free */
		assert(hand[s] & BIT(b));
		word[s] = word[s] | BIT(b);
		hand[s] = hand[s] & ~BIT(b)
	}
}

inline free_remote(s, b)
{
#ifdef MUT_OWNER_EARLY		/* owner read before QUEUED is ours */
	o = owner[s];
#endif
#ifdef MUT_BIT_LATE		/* QUEUED before the bit */
	set_queued(s);
	set_bit(s, b);
#else
	set_bit(s, b);
	set_queued(s);
#endif
	if
	:: q
	:: else ->
#ifndef MUT_OWNER_EARLY
		o = owner[s];	/* [R3] load (relaxed) */
#endif
		push(o, s)
	fi;
	q = 0; o = 0
}

/* caller is the owner, under its lock */
inline take_word(s, m)
{
	d_step {	/* [R9] exchange (acquire), preceded by a relaxed load that may skip it */
		assert((word[s] & fre[s]) == 0);	/* no block comes back twice */
		fre[s] = fre[s] | (word[s] & (m));
		word[s] = word[s] & ~(m)
	}
}

inline take_words(s)
{
#ifdef SPLIT
	take_word(s, 1);
	take_word(s, ALL & ~1)
#else
	take_word(s, ALL)
#endif
}

inline clear_queued(s)
{
	d_step {	/* [R8] fetch_and (acq_rel) */
		onstk[s] = 0;
		queued[s] = 0
	}
}

/* an EMPTY slab goes to the pool, if nobody has it queued; owner's lock held */
inline try_release(s)
{
#ifdef WITH_RELEASE
	if
	:: fre[s] == ALL ->
#ifdef MUT_RELEASE_UNQUEUED	/* leaves state at 0 in the pool */
		ok = 1;
#else
		d_step {	/* [R12] CAS state 0 -> QUEUED (acquire) */
			ok = !queued[s];
			queued[s] = 1
		}
#endif
		if
		:: ok -> d_step {	/* [R13] SuperSlab word, fetch_or (release) */
			assert(word[s] == 0 && !onstk[s]);
			assert(!(pool & BIT(s)));
			act[s] = 0;
			pool = pool | BIT(s)
		   }
		:: else		/* skipped: whoever collects it next checks again */
		fi;
		ok = 0
	:: else
	fi
#else
	skip
#endif
}

inline collect(h, max)
{
#ifndef POP_ONE
	if
	:: REST(h) == NIL -> d_step {	/* [R6] exchange head (acquire) */
		REST(h) = pend[h];
		pend[h] = NIL
	   }
	:: else
	fi;
#endif
	n = 0;
	do
	:: n < max ->
#ifdef POP_ONE			/* in place of R6 and R7: CAS head -> link of one slab */
		do
		:: s = pend[h];
		   if
		   :: s == NIL -> break
		   :: else -> nx = link[s]
		   fi;
		   d_step {
			ok = (pend[h] == s);
			if
			:: ok -> pend[h] = nx
			:: else
			fi
		   };
		   if
		   :: ok -> break
		   :: else
		   fi
		od;
		ok = 0;
		if
		:: s == NIL -> break
		:: else
		fi;
		assert(onstk[s] && owner[s] == h);
#else
		if
		:: REST(h) == NIL -> break
		:: else
		fi;
		d_step {	/* [R7] load link (plain) */
			s = REST(h);
			assert(onstk[s]);
			assert(owner[s] == h);
			nx = link[s];
			REST(h) = nx
		};
#endif
#ifdef MUT_NO_EMPTY_CHECK	/* EMPTY only looked for where a bit came back */
		had = fre[s];
#endif
#ifdef MUT_LINK_LATE		/* link read after QUEUED is cleared */
		clear_queued(s);
		nx = link[s];
		REST(h) = nx;
		take_words(s);
#else
#ifdef MUT_CLEAR_LATE		/* QUEUED cleared after the words were taken */
		take_words(s);
		clear_queued(s);
#else
		clear_queued(s);
		take_words(s);
#endif
#endif
#ifdef MUT_NO_EMPTY_CHECK
		if
		:: had != fre[s] -> try_release(s)
		:: else
		fi;
#else
		try_release(s);	/* even if no bit came back: an earlier try may have found it QUEUED */
#endif
		n++
	:: else -> break
	od;
	s = 0; nx = 0; n = 0
}

/*
 * Under h's lock: malloc a block, or free one locally (a drain), of a slab
 * that h holds.  The choice is free, so a slab may fill, empty or do neither.
 */
inline local_op(h)
{
	atomic {
		if
		:: s = 0
		:: s = NS - 1
		fi;
		if
		:: b = 0
		:: b = NB - 1
		fi;
		if
		:: act[s] && owner[s] == h && (fre[s] & BIT(b)) ->
			fre[s] = fre[s] & ~BIT(b);
			live[s] = live[s] | BIT(b)
		:: act[s] && owner[s] == h && (live[s] & BIT(b)) ->
			live[s] = live[s] & ~BIT(b);
			fre[s] = fre[s] | BIT(b);
			home = 1
		:: else
		fi;
		b = 0
	};
	if
	:: home -> home = 0; try_release(s)
	:: else
	fi;
	s = 0
}

/* h and the parked heap "from" are locked; one slab changes its owner */
inline adopt(s, from, h)
{
#ifdef MUT_ADOPT_NO_CAS		/* QUEUED set without asking whether it was */
	ok = 1;
	queued[s] = 1;
#else
	d_step {	/* [R14] CAS state 0 -> QUEUED (acquire) */
		ok = !queued[s];
		queued[s] = 1
	};
#endif
	if
	:: ok ->
#ifdef MUT_ADOPT_CLEAR_FIRST	/* QUEUED cleared before the owner is changed */
		queued[s] = 0;
		owner[s] = h;
#else
		owner[s] = h;	/* [R15] store (relaxed); the tag likewise */
		queued[s] = 0;	/* [R16] fetch_and (acq_rel) */
#endif
#ifndef MUT_ADOPT_NO_RECOLLECT
		take_words(s);	/* these frees saw our QUEUED and left */
#endif
		try_release(s)
	:: else
	fi;
	ok = 0
}

/* h's lock is held: a slab from the pool, with one block handed out */
inline claim(h)
{
	atomic {	/* [R17] SuperSlab word, CAS (acquire) */
		if
		:: pool & 1 -> s = 0; ok = 1; pool = pool & ~1
		:: (pool & 2) -> s = 1; ok = 1; pool = pool & ~2
		:: else
		fi
	};
	if
	:: ok ->
		ok = 0;
#ifdef MUT_CLAIM_OPEN_FIRST	/* state opened before the owner is set */
		queued[s] = 0;
		owner[s] = h;
#else
		d_step { owner[s] = h; fre[s] = ALL };	/* private: nobody acts on the slab */
		queued[s] = 0;	/* [R18] store (release): the new life begins */
#endif
		d_step {
			act[s] = 1;
			fre[s] = fre[s] & ~1;
			live[s] = live[s] | 1
		}
	:: else
	fi;
	s = 0
}

proctype freer()
{
	byte s, b, o, top, i;
	bit q, ok;

	do
	:: i < FREES ->
		atomic {
			if
			:: live[0] & 1 -> s = 0; b = 0
			:: live[0] & 2 -> s = 0; b = 1
#if NB > 2
			:: live[0] & 4 -> s = 0; b = 2
#endif
#if NS > 1
			:: live[1] & 1 -> s = 1; b = 0
			:: live[1] & 2 -> s = 1; b = 1
#endif
			:: goto out
			fi;
			live[s] = live[s] & ~BIT(b);
			hand[s] = hand[s] | BIT(b)
		};
		free_remote(s, b);
		i++
	:: else -> break
	od;
out:
	atomic { s = 0; b = 0; i = 0; done++ }
}

proctype heap_a()
{
	byte s, b, n, nx, i;
	byte had, mine = NIL;
	bit ok, home;

	do
	:: i < OPS_A ->
#ifdef UNLOCKED
		collect(A, NS);
#else
		acquire_lock(A);
		if
		:: collect(A, MAXQ)
		:: local_op(A)
#ifdef WITH_CLAIM_A
		:: pool -> claim(A)
#endif
		fi;
		release_lock(A);
#endif
		i++
	:: else -> break
	od;
	atomic { i = 0; done++ }
}

#if OPS_B > 0
proctype heap_b()
{
	byte s, b, n, nx, i;
	byte had, mine = NIL;
	bit ok, home;

	do
	:: i < OPS_B ->
		acquire_lock(B);
		if
#ifdef WITH_ADOPT
		:: acquire_lock(A);
		   if
		   :: act[0] && owner[0] == A -> s = 0; adopt(s, A, B)
		   :: act[NS - 1] && owner[NS - 1] == A -> s = NS - 1; adopt(s, A, B)
		   :: else
		   fi;
		   s = 0;
		   release_lock(A)
#endif
		:: collect(B, MAXQ)
#ifdef WITH_RELEASE
		:: pool -> claim(B)
#endif
		fi;
		release_lock(B);
		i++
	:: else -> break
	od;
	atomic { i = 0; done++ }
}
#endif

/* what must hold when all is at rest, and again after the last collect */
proctype judge()
{
	byte s, h, n, reach, nx;
	byte had, mine = NIL;
	bit ok;

	done == NPROC;
	d_step {
		h = 0;
		do
		:: h < NH ->
			n = 0;
			do
			:: n < 2 ->
				if
				:: n == 0 -> s = pend[h]
				:: else -> s = rest[h]
				fi;
				do
				:: s != NIL ->
					assert(!(reach & BIT(s)));	/* on one list, once */
					assert(owner[s] == h && queued[s] && onstk[s]);
					reach = reach | BIT(s);
					s = link[s]
				:: else -> break
				od;
				n++
			:: else -> break
			od;
			h++
		:: else -> break
		od;
		s = 0;
		do
		:: s < NS ->
			account(s);
			if
			:: act[s] ->
				/* a remote bit is within reach of a collect */
				assert(word[s] == 0 || (reach & BIT(s)));
				/* QUEUED means queued: no slab is stuck */
				assert(queued[s] == ((reach >> s) & 1));
#ifdef WITH_RELEASE
				/* an EMPTY slab waits for a collect or is gone */
				assert(fre[s] != ALL || (reach & BIT(s)))
#endif
			:: else ->
				assert(pool & BIT(s));
				assert(word[s] == 0 && fre[s] == ALL);
				assert(!(reach & BIT(s)))
			fi;
			s++
		:: else -> break
		od;
		s = 0; h = 0; n = 0; reach = 0
	};
	/* and the collects that follow bring everything home */
	collect(A, NS); collect(A, NS);
	collect(B, NS); collect(B, NS);
	d_step {
		do
		:: s < NS ->
			account(s);
			assert(word[s] == 0 && hand[s] == 0);
			assert(!act[s] || !queued[s]);
			s++
		:: else -> break
		od
	}
}

init
{
	byte s;

	atomic {
		do
		:: s < NS ->
			owner[s] = A;
			live[s] = ALL;
			act[s] = 1;
			link[s] = NIL;
			s++
		:: else -> break
		od;
		pend[A] = NIL; pend[B] = NIL;
		rest[A] = NIL; rest[B] = NIL;
		s = 0;
		do
		:: s < NFREER -> run freer(); s++
		:: else -> break
		od;
		s = 0;
		do
		:: s < NA -> run heap_a(); s++
		:: else -> break
		od;
		s = 0;
#if OPS_B > 0
		run heap_b();
#endif
		run judge()
	}
}
