/* SPDX-License-Identifier: MIT */
/*
 * Does every heap have at most one user, and none get lost, while threads end
 * and start, adopt slabs, the reclaimer looks in, and somebody forks?
 *
 * Threads take a parked heap whole (or run without one), refill, allocate and
 * free on the fast path (no lock, entry before top), buffer and send others'
 * blocks, adopt one slab of a parked heap, and park.  A slab holds one block
 * here: block b is slab b.  The remote protocol itself is remote.pml's; here an
 * inbox is a set, and a flush is a step to make a parcel, one to push it and
 * one to forget what was sent, so that fork can come between.
 *
 * fork: after "child" is set only the forking thread runs (provided clauses),
 * on the state that the others left.  The forker has no heap of its own.
 *
 * Configuration: NT threads, LIVES heaps taken in turn by each, OPS each time,
 * WITH_FORK, WITH_RECLAIM, LOCKFREE_LIST (the parked list without its lock).
 */
#ifndef NT
#define NT 2
#endif
#ifndef LIVES
#define LIVES 1
#endif
#ifndef OPS
#define OPS 3
#endif
#define NH	2
#define NB	3		/* blocks = slabs; 0 and 1 start in heap 0, 2 in heap 1 */
#define NIL	255
#define NONE	255
#define BIT(b)	(1 << (b))
#define CAP	2

/* the code's state */
bit lock[NH];
bit plock;			/* the node's parked list */
byte phead = NIL;
byte hlink[NH];
bit parked[NH];			/* heap's state, written under plock */
byte owner[NB];			/* the slab's owner, also its tag */
byte slabs[NH];			/* the heap's list of slabs (mask) */
byte fre;			/* the slabs' bitmaps (mask) */
byte inbox[NH];			/* blocks in its parcels (masks) */
byte buf[NH];			/* the buffers for others' blocks (masks) */
byte mag[NH * CAP];
byte top[NH];
byte pool;			/* EMPTY slabs that no heap owns */

/* ghosts */
byte user[NH] = NONE;
byte live;			/* blocks the program holds */
byte reg;			/* blocks in a register of a fast path or a remote free */
bit child;
byte done;
bit judged;

#define HERE	(!child)
#define acquire(l)	atomic { !(l) -> l = 1 }
#define drop(l)		l = 0

inline list_push(h)	/* [K1] push (under the list's lock) */
{
#ifdef LOCKFREE_LIST
	do
	:: d_step { t = phead; hlink[h] = t };
	   d_step {
		ok = (phead == t);
		if
		:: ok -> phead = h; parked[h] = 1
		:: else
		fi
	   };
	   if
	   :: ok -> break
	   :: else
	   fi
	od;
	ok = 0
#else
#ifndef MUT_PARK_NO_LOCK
	acquire(plock);
#endif
	hlink[h] = phead;
	phead = h;
	parked[h] = 1;
#ifndef MUT_PARK_NO_LOCK
	drop(plock)
#endif
#endif
}

/* h: a heap that is now the caller's alone, or NIL */
inline list_pop(h)	/* [K2] pop (under the list's lock) */
{
#ifdef LOCKFREE_LIST
	do
	:: h = phead;
	   if
	   :: h == NIL -> break
	   :: else -> t = hlink[h]
	   fi;
	   d_step {
		ok = (phead == h);
		if
		:: ok -> phead = t; parked[h] = 0
		:: else
		fi
	   };
	   if
	   :: ok -> break
	   :: else
	   fi
	od;
	ok = 0
#else
	acquire(plock);
	h = phead;
	if
	:: h != NIL ->
		phead = hlink[h];
#ifndef MUT_POP_MARKS_LATE	/* marked as taken only after plock is dropped */
		parked[h] = 0;
#endif
	:: else
	fi;
	drop(plock);
#ifdef MUT_POP_MARKS_LATE
	if
	:: h != NIL -> parked[h] = 0
	:: else
	fi
#endif
#endif
}

/* h's lock held, under which b's tag was read */
inline put(h)
{
	d_step {
		assert(owner[b] == h);		/* home is this heap's */
		assert(!((fre | live) & BIT(b)));	/* a double free, or garbage */
		fre = fre | BIT(b)
	}
}

/* h's lock held: what is another heap's by now is passed on */
inline collect(h)
{
	d_step {
		x = inbox[h];
		inbox[h] = 0;
		b = 0;
		do
		:: b < NB ->
			if
			:: (x & BIT(b)) && owner[b] == h ->
				assert(!((fre | live) & BIT(b)));
				fre = fre | BIT(b)
			:: (x & BIT(b)) && owner[b] != h ->
				inbox[owner[b]] = inbox[owner[b]] | BIT(b)
			:: else
			fi;
			b++
		:: else -> break
		od;
		b = 0; x = 0
	}
}

inline drain(h)
{
	do
	:: top[h] > 0 -> d_step {
		top[h]--;
		b = mag[h * CAP + top[h]]
	   };
	   put(h)
	:: else -> break
	od;
	b = 0
}

/* h's lock held: whether it covers all three steps is the question */
inline flush(h)
{
	do
	:: buf[h] ->
		d_step {	/* [K4] into a parcel; the buffer is as it was */
			b = 0;
			do
			:: !(buf[h] & BIT(b)) -> b++
			:: else -> break
			od;
			o = owner[b]
		};
		if
		:: o == h -> put(h)	/* adopted by us since */
		:: else -> d_step {
			assert(!(inbox[o] & BIT(b)));
			inbox[o] = inbox[o] | BIT(b)
		   }
		fi;
		buf[h] = buf[h] & ~BIT(b)
	:: else -> break
	od;
	b = 0; o = 0
}

/* a thread without a heap: no lock held */
inline deliver()
{
	do
	:: o = owner[b];
#ifndef MUT_LATE_NO_LOCK
	   acquire(lock[o]);
#endif
	   if
	   :: owner[b] == o ->
		put(o);
		reg = reg & ~BIT(b);
		ok = 1
	   :: else
	   fi;
#ifndef MUT_LATE_NO_LOCK
	   drop(lock[o]);
#endif
	   if
	   :: ok -> break
	   :: else
	   fi
	od;
	ok = 0; o = 0
}

inline pick(set)
{
	if
	:: (set) & 1 -> b = 0
	:: (set) & 2 -> b = 1
	:: (set) & 4 -> b = 2
	fi
}

/* own lock held: magazine from bitmaps */
inline refill()
{
	collect(h);
	if
	:: top[h] < CAP && (fre & slabs[h]) -> atomic {
		pick(fre & slabs[h]);
		assert(owner[b] == h);
		fre = fre & ~BIT(b);
		mag[h * CAP + top[h]] = b;
		top[h]++;
		b = 0
	   }
	:: else
	fi
}

/* own lock held: one slab of a parked heap becomes ours */
inline adopt()
{
	list_pop(p);
	if
	:: p != NIL ->
#ifdef MUT_ADOPT_BLOCKS		/* waits for p's lock with its own lock held */
		acquire(lock[p]);
		ok = 1;
#else
#ifdef MUT_POP_IS_LOCK		/* takes "popped" for "locked" */
		ok = 1;
#else
		d_step { ok = !lock[p]; lock[p] = 1 };	/* [K3] trylock of a parked heap */
#endif
#endif
		if
		:: ok ->
			ok = 0;
			assert(user[p] == NONE);
#ifndef MUT_ADOPT_UNDRAINED
			drain(p);	/* p parked in O(1): its magazines are full */
#endif
			x = slabs[p];
			if
			:: atomic { x ->
				pick(x);
				owner[b] = h;	/* slab and tag: before p is put back */
				slabs[h] = slabs[h] | BIT(b)
			   };
			   slabs[p] = x & ~BIT(b)
			:: else
			fi;
			b = 0; x = 0;
#ifndef MUT_POP_IS_LOCK
			drop(lock[p])
#endif
		:: else
		fi;
		list_push(p)
	:: else
	fi;
	p = 0
}

proctype thread(byte id) provided (HERE)
{
	byte h, p, b, o, x, t, i, n;
	bit ok;

	do
	:: n < LIVES ->
		list_pop(h);
		atomic {
			if
			:: h != NIL ->
				assert(user[h] == NONE);	/* one user at most */
				assert(!parked[h]);
				user[h] = id
			:: else
			fi
		};
		i = 0;
		do
		:: i < OPS && h != NIL ->
			if
			:: acquire(lock[h]); refill(); drop(lock[h])
			:: acquire(lock[h]); adopt(); drop(lock[h])
			:: top[h] > 0 ->		/* malloc, fast */
				d_step {
					top[h]--;
					b = mag[h * CAP + top[h]];
					assert(owner[b] == h);
					assert(!((live | reg | fre) & BIT(b)));
					reg = reg | BIT(b)
				};
				d_step {
					reg = reg & ~BIT(b);
					live = live | BIT(b)
				};
				b = 0
			:: atomic { live ->		/* free of anybody's block */
				pick(live); live = live & ~BIT(b); reg = reg | BIT(b) };
				if
				:: owner[b] != h -> d_step {
					buf[h] = buf[h] | BIT(b);
					reg = reg & ~BIT(b)
				   }
				:: owner[b] == h && top[h] < CAP ->
#ifdef MUT_TOP_FIRST		/* top before the entry */
					d_step { x = b; top[h]++ };
					d_step { mag[h * CAP + top[h] - 1] = x; reg = reg & ~BIT(x); x = 0 }
#else
					mag[h * CAP + top[h]] = b;
					d_step { top[h]++; reg = reg & ~BIT(b) }
#endif
				:: owner[b] == h && top[h] == CAP ->
					acquire(lock[h]);
					put(h);
					reg = reg & ~BIT(b);
					drop(lock[h])
				fi;
				b = 0
			:: buf[h] ->
#ifdef MUT_FLUSH_NO_LOCK
				flush(h)
#else
				acquire(lock[h]); flush(h); drop(lock[h])
#endif
			fi;
			i++
		:: atomic { i < OPS && h == NIL && live ->
			pick(live); live = live & ~BIT(b); reg = reg | BIT(b) };
			deliver();
			b = 0;
			i++
		:: true -> break
		od;
		i = 0;
		if
		:: h != NIL ->
			user[h] = NONE;
			list_push(h)
		:: else
		fi;
		h = 0;
		n++
	:: else -> break
	od;
	atomic { n = 0; done++ }
}

#ifdef WITH_RECLAIM
/* takes one EMPTY slab of any heap, live or parked, by trylock */
proctype reclaimer() provided (HERE)
{
	byte h, b, x, i;
	bit ok;

	do
	:: i < 2 ->
		if
		:: h = 0
		:: h = 1
		fi;
		d_step { ok = !lock[h]; lock[h] = 1 };
		if
		:: ok ->
			collect(h);
			x = slabs[h];
			if
			:: atomic { x & fre ->
				pick(x & fre);
				assert(owner[b] == h);
				pool = pool | BIT(b)
			   };
			   slabs[h] = x & ~BIT(b)
			:: else
			fi;
			ok = 0; x = 0; b = 0;
			drop(lock[h])
		:: else
		fi;
		i++
	:: else -> break
	od;
	atomic { h = 0; i = 0; done++ }
}
#define NPROC	(NT + 1)
#else
#define NPROC	NT
#endif

/* walks the parked list: every heap but those in use, each once */
inline check_heaps()
{
	d_step {
		x = 0; b = 0; h = phead;
		do
		:: h != NIL ->
			assert(!(x & BIT(h)));
			assert(parked[h] && user[h] == NONE);
			x = x | BIT(h);
			h = hlink[h]
		:: else -> break
		od;
		assert(x == 3);			/* no heap is lost */
		x = 0; h = 0
	}
}

inline check_blocks()
{
	flush(0); flush(1);
	collect(0); collect(1); collect(0);
	drain(0); drain(1);
	d_step {
		/* every parcel is home, a block is in one place, a slab in one list */
		assert(inbox[0] == 0 && inbox[1] == 0);
		assert((fre & live) == 0 && (fre & reg) == 0);
		assert((fre | live | reg) == 7);
		assert((slabs[0] & slabs[1]) == 0 && (slabs[0] & pool) == 0 && (slabs[1] & pool) == 0);
		assert((slabs[0] | slabs[1] | pool) == 7)
	}
}

proctype judge() provided (HERE)
{
	byte h, b, o, x;

	done == NPROC;
	check_heaps();
	assert(reg == 0);
	acquire(lock[0]);
	acquire(lock[1]);	/* fork must not cut it off */
	check_blocks();
	judged = 1;
	drop(lock[0]); drop(lock[1])
}

#ifdef WITH_FORK
proctype forker()
{
	byte h, b, o, x, t;
	bit ok;

	/* the order of locks: heaps by id, then the parked list */
	acquire(lock[0]);
	acquire(lock[1]);
#ifndef MUT_FORK_NO_PLOCK
	acquire(plock);
#endif
	if
	:: d_step { child = 1; user[0] = NONE; user[1] = NONE }
	:: goto parent
	fi;
	/* the child: every other thread is gone, wherever it was */
	drop(lock[0]); drop(lock[1]);
	drop(plock);
	do
	:: h < NH ->
#ifdef MUT_CHILD_PARKS_NONE
		skip;
#else
		if
		:: !parked[h] -> list_push(h)
		:: else
		fi;
#endif
		h++
	:: else -> break
	od;
	check_heaps();
	/* blocks cut off in a register are lost to the child, and only those */
	check_blocks();
	judged = 1;
	goto end;
parent:
	drop(lock[0]); drop(lock[1]);
	drop(plock);
end:
	skip
}
#endif

init
{
	byte i;

	atomic {
		slabs[0] = 3; slabs[1] = 4;
		owner[2] = 1;
		live = 2;		/* block 1 is out, the rest is free */
		fre = 5;
		hlink[0] = NIL; hlink[1] = 0; phead = 1;
		parked[0] = 1; parked[1] = 1;
		do
		:: i < NT -> run thread(i); i++
		:: else -> break
		od;
		i = 0;
#ifdef WITH_RECLAIM
		run reclaimer();
#endif
#ifdef WITH_FORK
		run forker();
#endif
		run judge()
	}
}

/*
 * Deadlock.  Run with pan -E: in a child the vanished threads stand still, so
 * an end state says nothing by itself.
 */
active proctype watchdog()
{
	timeout;
	assert(judged)
}
