/* SPDX-License-Identifier: MIT */
/*
 * Which memory order does each atomic of the remote-free protocol need?
 *
 * remote.pml is sequentially consistent.  This model takes one slab with two
 * blocks and executes what C11 allows beyond that:
 *
 *  - Each thread has a view: what it knows of every other thread's steps, and
 *    how old a tag or an entry of the table of heaps it may still read.  Views
 *    travel with release and acquire alone, release sequences included.
 *  - A load of a tag or of the table returns any value that the view allows.
 *    The other atomics are read-modify-writes, which read the newest.
 *  - What the code leaves plain (blocks, parcels, the slab's struct, a heap's
 *    fields) must be ordered by the views, else it is a data race.
 *
 * Every order is a macro (steps as in remote.pml), so that run.sh can weaken
 * one at a time and see it caught.  1 is release, 2 acquire, 3 both.
 *
 * Thread A works heap A and looks in at heap B.  Thread B makes heap B while
 * the others run, and then:
 * LIVES=0: adopts the slab from A.
 * LIVES=1: claims the slab after A has collected both blocks and released it.
 */
#define REL 1
#define ACQ 2
#ifndef P3
#define P3 REL			/* push: inbox CAS of a flush */
#endif
#ifndef P3F
#define P3F REL			/* the same, of a parcel that is passed on */
#endif
#ifndef P4
#define P4 ACQ			/* collect: inbox exchange */
#endif
#ifndef P167
#define P167 ACQ		/* tag load of flush, unpack and deliver */
#endif
#ifndef P8
#define P8 0			/* tag load of deliver, under the lock */
#endif
#ifndef P9
#define P9 REL			/* pool word fetch_or */
#endif
#ifndef P10
#define P10 REL			/* tag store of the adopter */
#endif
#ifndef P11
#define P11 ACQ			/* pool word CAS */
#endif
#ifndef P12
#define P12 REL			/* [P12] table of heaps: store */
#endif
#ifndef P13
#define P13 ACQ			/* [P13] table of heaps: load */
#endif
#ifndef LOCK
#define LOCK (REL | ACQ)	/* a heap's lock */
#endif
#ifndef LIVES
#define LIVES 0
#endif
#ifndef OPS_A
#define OPS_A 2
#endif

/* freers 0 and 1, each with the block and the parcel of its number */
#define TA	2
#define TB	3
#define A	0
#define B	1
#define NIL	255

/* the tag's history */
#define OWNER(i)	((i) == 0 -> A : ((i) == LAST -> B : NIL))
#define LAST		(1 + LIVES)

/* a view: 0 to 3 threads' clocks, 4 the tag's index, 5 the table's */
#define VTAG	4
#define VTAB	5
#define NV	6
byte view[24];			/* view[t * NV + i] */
/* locations that carry views */
#define LI(h)	(h)		/* inbox */
#define LL(h)	(2 + (h))	/* lock */
#define LPOOL	4
#define LTAG	5
#define LTAB	6
byte rel[42];			/* rel[loc * NV + i] */

byte inbox[2], nxt[2];
bit lock[2];
byte tag;			/* index of the newest */
bit tab;			/* heap B can be found */
byte pool;			/* 1 the slab is EMPTY there */
byte home;			/* blocks that are back in the slab */
byte done;

/* plain: 0, 1 the blocks; 2, 3 the parcels; 4 the slab; 5 heap B's fields */
#define PARCEL(p)	(2 + (p))
#define SLAB	4
#define FIELDS	5
byte pt[6], pe[6];		/* last writer and its clock */

#define max(a, b)	((a) > (b) -> (a) : (b))
#define V(t, i)		view[(t) * NV + (i)]
#define R(l, i)		rel[(l) * NV + (i)]

inline join_from(t, l)
{
	V(t, 0) = max(V(t, 0), R(l, 0)); V(t, 1) = max(V(t, 1), R(l, 1));
	V(t, 2) = max(V(t, 2), R(l, 2)); V(t, 3) = max(V(t, 3), R(l, 3));
	V(t, 4) = max(V(t, 4), R(l, 4)); V(t, 5) = max(V(t, 5), R(l, 5))
}

inline join_to(t, l)
{
	R(l, 0) = max(V(t, 0), R(l, 0)); R(l, 1) = max(V(t, 1), R(l, 1));
	R(l, 2) = max(V(t, 2), R(l, 2)); R(l, 3) = max(V(t, 3), R(l, 3));
	R(l, 4) = max(V(t, 4), R(l, 4)); R(l, 5) = max(V(t, 5), R(l, 5));
	V(t, t)++
}

/* a relaxed read-modify-write leaves the release sequence as it is */
inline rmw(t, l, order)
{
	if
	:: (order) & ACQ -> join_from(t, l)
	:: else
	fi;
	if
	:: (order) & REL -> join_to(t, l)
	:: else
	fi
}

inline seen(t, x)
{
	assert(V(t, pt[x]) >= pe[x])	/* no data race */
}

inline plain(t, x)
{
	seen(t, x);
	pt[x] = t;
	pe[x] = V(t, t)
}

/* sets o; any value that is not older than the view */
inline read_tag(t, order)
{
	atomic {
		o = V(t, VTAG);
		do
		:: o < tag -> o++
		:: break
		od;
		V(t, VTAG) = o;
		if
		:: (order) & ACQ && o == LAST -> join_from(t, LTAG)
		:: else
		fi;
		o = OWNER(o);
		assert(o != NIL)		/* not of another life: no false fault */
	}
}

/* sets ok: heap B can be used */
inline find_b(t)
{
	atomic {
		ok = V(t, VTAB);
		if
		:: tab -> ok = 1
		:: true
		fi;
		if
		:: ok ->
			V(t, VTAB) = 1;
			if
			:: (P13) & ACQ -> join_from(t, LTAB)
			:: else
			fi;
			seen(t, FIELDS)
		:: else
		fi
	}
}

/* a tag named o: its heap must be there */
inline heap_of(t)
{
	if
	:: o == B -> find_b(t); assert(ok == 1); ok = 0
	:: else
	fi
}

inline push(t, p, order)
{
	d_step {
		plain(t, PARCEL(p));
		nxt[p] = inbox[o];
		inbox[o] = p;
		rmw(t, LI(o), order)
	}
}

inline put(t, h, b)
{
	d_step {
		assert(OWNER(tag) == h);	/* home is this heap's */
		assert(!(home & (1 << b)));
		plain(t, SLAB);
		plain(t, b);			/* the next user of the block */
		home = home | (1 << b)
	}
}

inline take_lock(t, h) { atomic { !lock[h] -> lock[h] = 1; rmw(t, LL(h), LOCK & ACQ) } }
inline drop_lock(t, h) { d_step { lock[h] = 0; rmw(t, LL(h), LOCK & REL) } }

/* h's lock is held */
inline collect(t, h)
{
	d_step { p = inbox[h]; inbox[h] = NIL; rmw(t, LI(h), P4) };
	do
	:: p != NIL ->
		d_step { plain(t, PARCEL(p)); nx = nxt[p] };
		read_tag(t, P167);
		if
		:: o == h -> put(t, h, p)
		:: else -> heap_of(t); push(t, p, P3F)
		fi;
		p = nx
	:: else -> break
	od;
	atomic { p = 0; nx = 0; o = 0 }
}

proctype freer(byte me)
{
	byte o, was;
	bit ok;

	d_step { plain(me, me); plain(me, PARCEL(me)) };	/* the last use; what is sent */
	read_tag(me, P167);
	heap_of(me);
	if
	:: push(me, me, P3)
	:: do				/* deliver */
	   :: take_lock(me, o);
	      was = o;
	      read_tag(me, P8);
	      if
	      :: o == was -> put(me, o, me); drop_lock(me, o); break
	      :: else -> drop_lock(me, was); read_tag(me, P167); heap_of(me)
	      fi
	   od
	fi;
	atomic { o = 0; was = 0; done++ }
}

proctype heap_a()
{
	byte o, p, nx, i;
	bit ok;

	do
	:: i < OPS_A ->
		take_lock(TA, A);
		collect(TA, A);
#if LIVES
		if
		:: tag == 0 && home == 3 ->
			d_step { plain(TA, SLAB); tag = 1; V(TA, VTAG) = 1 };
			d_step { pool = 1; rmw(TA, LPOOL, P9) }
		:: else
		fi;
#endif
		drop_lock(TA, A);
		i++
	:: i < OPS_A ->			/* for a heap whose thread may be asleep */
		find_b(TA);
		if
		:: ok && !lock[B] ->
			take_lock(TA, B);
			collect(TA, B);
			drop_lock(TA, B)
		:: else
		fi;
		ok = 0;
		i++
	:: else -> break
	od;
	atomic { i = 0; done++ }
}

proctype heap_b()
{
	byte o, p, nx;
	bit ok;

	d_step { plain(TB, FIELDS) };
	d_step {
		tab = 1; V(TB, VTAB) = 1;
		if
		:: P12 & REL -> join_to(TB, LTAB)
		:: else
		fi
	};
	take_lock(TB, B);
#if LIVES
	if
	:: pool == 1 ->
		d_step { pool = 0; rmw(TB, LPOOL, P11) };
		d_step { plain(TB, SLAB); plain(TB, 0); plain(TB, 1); tag = 2; V(TB, VTAG) = 2 }
	:: true
	fi;
#else
	atomic {
		if
		:: !lock[A] -> lock[A] = 1; rmw(TB, LL(A), LOCK & ACQ); ok = 1
		:: else
		fi
	};
	if
	:: ok ->
		ok = 0;
		d_step { plain(TB, SLAB) };
		d_step {
			tag = 1; V(TB, VTAG) = 1;
			if
			:: P10 & REL -> join_to(TB, LTAG)
			:: else
			fi
		};
		drop_lock(TB, A)
	:: else
	fi;
#endif
	collect(TB, B);
	drop_lock(TB, B);
	done++
}

/* nothing is lost: a block is back, or its parcel in an inbox */
proctype judge()
{
	byte h, p, n;

	done == 4;
	d_step {
		n = home;
		do
		:: h < 2 ->
			p = inbox[h];
			do
			:: p != NIL ->
				assert(!(n & (1 << p)));
				n = n | (1 << p);
				p = nxt[p]
			:: else -> break
			od;
			h++
		:: else -> break
		od;
		assert(n == 3)
	}
}

init
{
	atomic {
		view[0] = 1; view[7] = 1; view[14] = 1; view[21] = 1;
		inbox[A] = NIL; inbox[B] = NIL;
		nxt[0] = NIL; nxt[1] = NIL;
		run freer(0); run freer(1); run heap_a(); run heap_b(); run judge()
	}
}
