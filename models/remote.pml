/* SPDX-License-Identifier: MIT */
/*
 * Is a block that another thread frees ever lost, doubled or put home by the
 * wrong heap?  This model owns the remote-free protocol: parcels, inboxes,
 * adoption, and release and claim of slabs.
 *
 * Every access to what threads share is one step here, tagged [Pn] as in
 * models/README.md.  What lies between two tags belongs to one thread alone:
 * it holds the heap's lock, or the parcel.
 *
 * Two heaps, A and B, each worked by a process that takes its heap's lock for
 * each operation: a thread, later the next thread that took the parked heap
 * whole.  Each may adopt from the other.  Freers own no slab; one that finds
 * no parcel delivers its blocks by itself, as threads without a heap do.  A
 * rescuer collects for others.  Whether a heap is parked when another adopts
 * from it is park.pml's question, and so are magazines; here the lock alone
 * stands for it, which allows more interleavings, not fewer.
 *
 * Configuration (all -D): NS slabs of NB blocks, NP parcels, NFREER x FREES
 * flushes, OPS_A and OPS_B slow paths of the heaps, MAXP
 * parcels a collect (the rest stays private), RESCUES collects for others,
 * WITH_ADOPT, WITH_RELEASE, WITH_BUFFER (heaps free remotely too), UNLOCKED (A
 * is collected by NA threads that take no lock: shows where ABA is).
 */

#ifndef NS
#define NS 2
#endif
#ifndef NB
#define NB 1
#endif
#ifndef NP
#define NP 2
#endif
#ifndef NFREER
#define NFREER 2
#endif
#ifndef FREES
#define FREES 1
#endif
#ifndef OPS_A
#define OPS_A 2
#endif
#ifndef OPS_B
#define OPS_B 0
#endif
#ifndef NA
#define NA 1
#endif
#ifndef MAXP
#define MAXP 1
#endif
#ifndef RESCUES
#define RESCUES 0
#endif

#define NH	2
#define A	0
#define B	1
#define NIL	255
#define BLOCKS	(NS * NB)
#define BIT(x)	(1 << (x))
#define SLAB(b)	((b) / NB)
#define OF(s)	(((1 << NB) - 1) << ((s) * NB))	/* the slab's blocks */

/* the code's state; sets of blocks are masks */
byte tag[NS];		/* the owner, NIL in the pool */
byte inbox[NH];		/* top of the stack of parcels */
byte rest[NH];		/* under the heap's lock: taken, not yet unpacked */
bit lock[NH];
byte nxt[NP];		/* parcels: of whoever made one, then of the collector */
byte what[NP];
byte meta;		/* parcels that are metadata memory or spares */
byte fre;		/* under the owner's lock */
byte buf[NH];		/* the heap's own buffer */
byte pool;		/* EMPTY bits of the SuperSlab word */

/* ghosts: seen by assertions only */
byte live;		/* blocks the program holds */
byte hand;		/* blocks inside a free, in no parcel yet */
byte listed;		/* parcels on an inbox or a rest */
byte hops[NP];		/* how often it was passed on */
byte adoptions;
byte done;

#define NPROC	(NFREER + NA + (OPS_B > 0) + (RESCUES > 0))

inline acquire_lock(h) { atomic { lock[h] == 0 -> lock[h] = 1 } }
inline release_lock(h) { lock[h] = 0 }

/* "to" is the heap, q the parcel, which is the caller's until it is pushed */
inline push(to, q)
{
	do
	:: d_step {	/* [P2] load the inbox (relaxed), store next (plain) */
		assert(!(meta & BIT(q)) && !(listed & BIT(q)));	/* it is ours to push */
		top = inbox[to];
		nxt[q] = top
	   }
#ifdef MUT_PUSH_STORE		/* a plain store in place of the CAS */
	   d_step { inbox[to] = q; listed = listed | BIT(q); ok = 1 }
#else
	   d_step {	/* [P3] CAS the inbox (release PARCEL) */
		ok = (inbox[to] == top);
		if
		:: ok -> inbox[to] = q; listed = listed | BIT(q)
		:: else
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

/* a parcel from metadata memory, or NIL */
inline parcel_new(q)
{
	atomic {
		q = 0;
		do
		:: q < NP && !(meta & BIT(q)) -> q++
		:: else -> break
		od;
		if
		:: q == NP -> q = NIL
		:: else -> meta = meta & ~BIT(q); hops[q] = 0
		fi
	}
}

inline parcel_free(q)
{
	d_step {
		assert(what[q] == 0);		/* no block is dropped with it */
		assert(!(meta & BIT(q)) && !(listed & BIT(q)));
		meta = meta | BIT(q);
		nxt[q] = NIL
	}
}

/* the owner's lock is held: an EMPTY slab goes to the pool */
inline try_release(s)
{
#ifdef WITH_RELEASE
#ifdef MUT_RELEASE_PARCELS	/* what waits in a parcel is taken for free */
#define GONE	(fre | what[0] | what[NP - 1])
#else
#define GONE	fre
#endif
	if
	:: atomic { (GONE & OF(s)) == OF(s) ->
		/* no slab is released with a block out */
		assert((fre & OF(s)) == OF(s));
		tag[s] = NIL
	   };
		d_step {	/* [P9] SuperSlab word: fetch_or (release POOL) */
			assert(!(pool & BIT(s)));
			pool = pool | BIT(s)
		}
	:: else
	fi
#else
	skip
#endif
}

/* from "place", the ghost; the tag of b's slab was read under h's lock, and names h */
inline mark(h, b, place)
{
	d_step {
		place = place & ~BIT(b);
		assert(tag[SLAB(b)] == h);	/* home is this heap's */
		assert(!(fre & BIT(b)));	/* no block comes back twice */
		assert(!(live & BIT(b)));
		fre = fre | BIT(b)
	}
}

inline put(h, b, place)
{
	mark(h, b, place);
	try_release(SLAB(b))
}

/* b: from here on, the first block in m, or BLOCKS */
inline next_block(m)
{
	do
	:: b < BLOCKS && !((m) & BIT(b)) -> b++
	:: else -> break
	od
}

/* h's lock is held; q is private to it */
inline unpack(h, q)
{
	to = NIL;
	do
	:: atomic {
		next_block(what[q]);
		if
		:: b == BLOCKS -> b = 0; break
		:: else
		fi;
		o = tag[SLAB(b)];	/* [P6] load (acquire TAG) */
#ifdef MUT_NO_TAG_CHECK			/* everything in the inbox is taken for ours */
		o = h;
#endif
	   };
	   if
	   :: o == h -> put(h, b, what[q])
	   :: else -> to = o
	   fi;
	   atomic { o = 0; b++ }
	od;
#ifdef MUT_FORWARD_NONE			/* what is not ours is not passed on */
	to = NIL;
#endif
#ifdef MUT_FORWARD_BACK			/* it goes back into this heap's inbox */
	if
	:: to != NIL -> to = h
	:: else
	fi;
#endif
	if
	:: to != NIL ->
		d_step {
			hops[q]++;
			assert(hops[q] <= adoptions)	/* each hop is some adoption's: they end */
		};
		push(to, q)
	:: else -> parcel_free(q)
	fi;
	to = 0
}

#ifdef UNLOCKED
#define REST(h)	mine
#else
#define REST(h)	rest[h]
#endif

/* h's lock is held (but for UNLOCKED) */
inline collect(h, most)
{
#ifndef POP_ONE
	if
	:: REST(h) == NIL ->
#ifdef MUT_TAKE_STORE			/* load and store in place of the exchange */
		REST(h) = inbox[h];
		inbox[h] = NIL
#else
		d_step {	/* [P4] exchange the inbox (acquire PARCEL) */
			REST(h) = inbox[h];
			inbox[h] = NIL
		}
#endif
	:: else
	fi;
#endif
	n = 0;
	do
	:: n < most ->
#ifdef POP_ONE				/* in place of P4 and P5: CAS the inbox to its top's next */
		do
		:: p = inbox[h];
		   if
		   :: p == NIL -> break
		   :: else -> top = nxt[p]
		   fi;
		   d_step {
			ok = (inbox[h] == p);
			if
			:: ok -> inbox[h] = top; assert(listed & BIT(p)); listed = listed & ~BIT(p)
			:: else
			fi
		   };
		   if
		   :: ok -> break
		   :: else
		   fi
		od;
		atomic { ok = 0; top = 0 };
		if
		:: p == NIL -> break
		:: else
		fi;
#else
		atomic {	/* [P5] load next (plain) */
			if
			:: REST(h) == NIL -> break
			:: else
			fi;
			p = REST(h);
			assert(listed & BIT(p));	/* a parcel is unpacked once */
			listed = listed & ~BIT(p);
#ifndef MUT_NEXT_LATE
			REST(h) = nxt[p]
#endif
		};
#endif
#ifdef MUT_NEXT_LATE			/* next read after the parcel was given back */
		unpack(h, p);
		REST(h) = nxt[p];
#else
		unpack(h, p);
#endif
		n++
	:: else -> break
	od;
	atomic { p = 0; n = 0 }
}

/* the caller's blocks m, no heap's lock of it taken here; own is its heap, or NIL */
inline flush(own, m)
{
	do
	:: m != 0 ->
		parcel_new(p);
		if
		:: p == NIL -> break
		:: else
		fi;
		to = NIL;
		do
		:: atomic {
			next_block(m);
			if
			:: b == BLOCKS -> b = 0; break
			:: else
			fi;
			o = tag[SLAB(b)];	/* [P1] load (acquire TAG) */
			assert(o != NIL);	/* its slab is somebody's */
			if
			:: to == NIL -> to = o
			:: else
			fi;
			if
			:: to == o ->
				what[p] = what[p] | BIT(b);
				m = m & ~BIT(b);
				hand = hand & ~BIT(b)
			:: else
			fi;
			o = 0;
			b++
		   }
		od;
		if
		:: to == own -> unpack(own, p)	/* adopted by the sender since */
		:: else -> push(to, p)
		fi
	:: else -> break
	od;
	atomic { p = 0; to = 0 }
}

/* no lock is held: a block goes home under its owner's */
inline deliver(b)
{
	do
	:: o = tag[SLAB(b)];	/* [P7] load (acquire TAG) */
	   assert(o != NIL);
	   acquire_lock(o);
#ifdef MUT_DELIVER_UNCHECKED	/* not looked at again under the lock */
	   ok = 1;
#else
	   ok = (tag[SLAB(b)] == o);	/* [P8] load (relaxed) */
#endif
	   if
#ifdef MUT_EMPTY_UNSEEN	/* a block delivered, and its slab not looked at */
	   :: ok -> mark(o, b, hand)
#else
	   :: ok -> put(o, b, hand)
#endif
	   :: else
	   fi;
	   release_lock(o);
	   if
	   :: ok -> break
	   :: else
	   fi
	od;
	atomic { o = 0; ok = 0 }
}

/* under h's lock: malloc a block, or free one, of a slab that h owns */
inline local_op(h)
{
	atomic {
		if
		:: b = 0
		:: b = BLOCKS - 1
		fi;
		if
		:: tag[SLAB(b)] == h && (fre & BIT(b)) ->
			fre = fre & ~BIT(b);
			live = live | BIT(b)
		:: tag[SLAB(b)] == h && (live & BIT(b)) ->
			live = live & ~BIT(b);
			hand = hand | BIT(b);
			ok = 1
		:: else
		fi
	};
	if
	:: ok -> ok = 0; put(h, b, hand)
	:: else
	fi;
	b = 0
}

/* h's lock is held, from's by trylock: one slab changes its owner */
inline adopt(h, from)
{
#ifdef MUT_ADOPT_NO_LOCK
	ok = 1;
#else
	d_step { ok = !lock[from]; lock[from] = 1 };
#endif
	if
	:: ok ->
		ok = 0;
		collect(from, MAXP);
		if
		:: tag[0] == from -> d_step {	/* [P10] store (release TAG) */
			tag[0] = h; adoptions++ }
#if NS > 1
		:: tag[NS - 1] == from -> d_step { tag[NS - 1] = h; adoptions++ }
#endif
		:: else
		fi;
#ifndef MUT_ADOPT_NO_LOCK
		release_lock(from)
#endif
	:: else
	fi
}

/* h's lock is held: a slab from the pool, with one block handed out */
inline claim(h)
{
	atomic {	/* [P11] SuperSlab word: CAS (acquire POOL) */
		if
		:: pool & 1 -> s = 0; ok = 1; pool = pool & ~1
		:: (pool & 2) -> s = 1; ok = 1; pool = pool & ~2
		:: else
		fi
	};
	if
	:: ok -> d_step {	/* private: nobody holds a block of it */
		ok = 0;
		assert((fre & OF(s)) == OF(s) && tag[s] == NIL);
		tag[s] = h;
		fre = fre & ~BIT(s * NB);
		live = live | BIT(s * NB)
	   }
	:: else
	fi;
	s = 0
}

/* a block of the other heap into h's buffer: the fast path, no lock */
inline buffer(h)
{
	atomic {
		b = 0;
		do
		:: b < BLOCKS && !(live & BIT(b) && tag[SLAB(b)] == 1 - h) -> b++
		:: else -> break
		od;
		if
		:: b < BLOCKS ->
			live = live & ~BIT(b);
			hand = hand | BIT(b);
			buf[h] = buf[h] | BIT(b)
		:: else
		fi;
		b = 0
	}
}

proctype freer()
{
	byte b, o, top, i, m, p, to, n;
	bit ok;

	do
	:: i < FREES ->
		atomic {	/* all blocks there are, or one */
			if
			:: live -> m = live
			:: live -> m = live & (~live + 1)
			:: else -> goto out
			fi;
			live = live & ~m;
			hand = hand | m
		};
		flush(NIL, m);
		do
		:: m & 1 -> deliver(0); m = m & ~1
#if NS * NB > 1
		:: (m & 3) == 2 -> deliver(1); m = m & ~2
#endif
#if NS * NB > 2
		:: (m & 7) == 4 -> deliver(2); m = m & ~4
#endif
#if NS * NB > 3
		:: m == 8 -> deliver(3); m = 0
#endif
		:: m == 0 -> break
		od;
		i++
	:: else -> break
	od;
out:
	atomic { m = 0; i = 0; done++ }
}

proctype heap(byte h; byte other; byte ops)
{
	byte s, b, o, top, p, n, to, i, mine = NIL;
	bit ok;

	do
	:: i < ops ->
#ifdef UNLOCKED
		collect(h, NP);
#else
#ifdef WITH_BUFFER
		buffer(h);
#endif
		acquire_lock(h);
		if
		:: collect(h, MAXP)
		:: local_op(h)
#ifdef WITH_ADOPT
		:: adopt(h, other)
#endif
#ifdef WITH_RELEASE
		:: pool -> claim(h)
#endif
#ifdef WITH_BUFFER
		:: buf[h] -> flush(h, buf[h])
#endif
		fi;
		release_lock(h);
#endif
		i++
	:: else -> break
	od;
	atomic { i = 0; done++ }
}

#if RESCUES > 0
proctype rescuer()
{
	byte b, o, top, p, n, to, i, h, mine = NIL;
	bit ok;

	do
	:: i < RESCUES ->
		if
		:: h = A
		:: OPS_B > 0 -> h = B
		fi;
#ifdef MUT_RESCUE_NO_LOCK
		ok = 1;
#else
		d_step { ok = !lock[h]; lock[h] = 1 };
#endif
		if
		:: ok ->
			ok = 0;
			collect(h, NP);
#ifndef MUT_RESCUE_NO_LOCK
			release_lock(h)
#endif
		:: else
		fi;
		i++
	:: else -> break
	od;
	atomic { h = 0; i = 0; done++ }
}
#endif

/* every block is in one place, every parcel of use in one inbox or rest */
inline account()
{
	d_step {
		n = fre; to = live;
		assert((n & to) == 0); n = n | to;
		to = buf[A] | buf[B];
		assert(hand == to);
		assert((n & to) == 0); n = n | to;
		b = 0;
		do
		:: b < NP ->
			assert((n & what[b]) == 0); n = n | what[b];
			assert((what[b] != 0) == !(meta & BIT(b)));
			b++
		:: else -> break
		od;
		assert(n == (1 << BLOCKS) - 1);	/* no block is lost */
		n = 0; h = 0;
		do
		:: h < NH ->
			s = 0;
			do
			:: s < 2 ->
				if
				:: s == 0 -> b = inbox[h]
				:: else -> b = rest[h]
				fi;
				do
				:: b != NIL ->
					assert(!(n & BIT(b)));	/* listed twice */
					n = n | BIT(b);
					b = nxt[b]
				:: else -> break
				od;
				s++
			:: else -> break
			od;
			h++
		:: else -> break
		od;
		assert(n == listed);
		assert((n | meta) == (1 << NP) - 1);	/* no parcel is lost */
		s = 0;
		do
		:: s < NS ->
#ifdef WITH_RELEASE
			assert((tag[s] == NIL) == ((pool >> s) & 1));
			assert(tag[s] == NIL || (fre & OF(s)) != OF(s));	/* no EMPTY slab stays */
			assert(tag[s] != NIL || (fre & OF(s)) == OF(s));
#else
			assert(tag[s] != NIL);
#endif
			s++
		:: else -> break
		od;
		s = 0; h = 0; n = 0; b = 0; to = 0
	}
}

/* what must hold when all is at rest, and again after the last collects */
proctype judge()
{
	byte s, h, b, o, top, p, n, to, i, mine = NIL;
	bit ok;

	done == NPROC;
	account();
	/* each twice, rest and inbox; more rounds, since what A passes on B has */
	i = 0;
	do
	:: i < 3 ->
		collect(A, NP); collect(A, NP);
		collect(B, NP); collect(B, NP);
		i++
	:: else -> break
	od;
	account();
	assert(listed == 0)			/* every parcel ends */
}

init
{
	byte i;

	atomic {
		fre = 0;
		live = (1 << BLOCKS) - 1;
		meta = (1 << NP) - 1;
		inbox[A] = NIL; inbox[B] = NIL;
		rest[A] = NIL; rest[B] = NIL;
		do
		:: i < NP -> nxt[i] = NIL; i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < NFREER -> run freer(); i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < NA -> run heap(A, B, OPS_A); i++
		:: else -> break
		od;
		i = 0;
#if OPS_B > 0
		run heap(B, A, OPS_B);
#endif
#if RESCUES > 0
		run rescuer();
#endif
		run judge()
	}
}
