/* SPDX-License-Identifier: MIT */
/*
 * Which memory order does each atomic of the remote-free protocol need?
 *
 * remote.pml is sequentially consistent.  This model takes one slab with two
 * blocks in one word and adds what a weak machine and C11 add:
 *
 *  - Each thread's accesses run in any order that its dependencies (data,
 *    address, and control towards a store) and its acquire and release
 *    accesses allow.  Loads run ahead of branches.  Memory itself is
 *    multi-copy atomic, as on x86, ARMv8 and RISC-V.
 *  - Vector clocks follow happens-before as C11 defines it, release sequences
 *    included.  Accesses that the code leaves plain, or relaxed because
 *    another access orders them (block contents, link, owner), must be ordered
 *    by it, so a dependency alone does not count there.
 *
 * Every order is a macro Rn (tags as in remote.pml), so that run.sh can weaken
 * one at a time and see it caught.  1 is release, 2 acquire, 3 both.
 *
 * LIVES=0: heap A collects, B adopts the slab and collects.
 * LIVES=1: heap A collects and releases the slab, B claims it and collects.
 */
#define REL 1
#define ACQ 2
#ifndef R1
#define R1 REL			/* word fetch_or */
#endif
#ifndef R2
#define R2 (REL | ACQ)		/* state fetch_or */
#endif
#ifndef R5
#define R5 REL			/* pending CAS */
#endif
#ifndef R6
#define R6 ACQ			/* pending exchange */
#endif
#ifndef R8
#define R8 (REL | ACQ)		/* state fetch_and of the collector */
#endif
#ifndef R9
#define R9 ACQ			/* word exchange */
#endif
#ifndef R12
#define R12 ACQ			/* state CAS of the releaser */
#endif
#ifndef R13
#define R13 REL			/* pool word fetch_or */
#endif
#ifndef R14
#define R14 ACQ			/* state CAS of the adopter */
#endif
#ifndef R16
#define R16 (REL | ACQ)		/* state fetch_and of the adopter */
#endif
#ifndef R17
#define R17 ACQ			/* pool word CAS */
#endif
#ifndef R18
#define R18 REL			/* state store of the claimer */
#endif
#ifndef LOCK
#define LOCK (REL | ACQ)	/* the heap's lock */
#endif
#ifndef LIVES
#define LIVES 0
#endif
#ifndef OPS_A
#define OPS_A 2
#endif

#define NT	4		/* freers 0 and 1, heaps' threads 2 (A) and 3 (B) */
#define TA	2
#define TB	3
#define HA	0
#define HB	1

/* atomic locations: index of their release clocks */
#define LW	0
#define LS	1
#define LP	2		/* + heap */
#define LL	4
#define LPOOL	5
#define NLOC	6

byte word, pool, owner, fre;
bit queued, pend[2], lock;
byte done;

byte clk[16];			/* clk[t * NT + u]: what t knows of u */
byte rel[24];			/* rel[loc * NT + u] */
/* plain: 0, 1 the blocks, 2 link, 3 the slab's own bitmap */
byte pt[4], pe[4];
byte owt, owe, owr[NT];

#define max(a, b)	((a) > (b) -> (a) : (b))

inline join_from(th, l)
{
	clk[th * 4] = max(clk[th * 4], rel[(l) * 4]);
	clk[th * 4 + 1] = max(clk[th * 4 + 1], rel[(l) * 4 + 1]);
	clk[th * 4 + 2] = max(clk[th * 4 + 2], rel[(l) * 4 + 2]);
	clk[th * 4 + 3] = max(clk[th * 4 + 3], rel[(l) * 4 + 3])
}

inline join_to(th, l)
{
	rel[(l) * 4] = max(clk[th * 4], rel[(l) * 4]);
	rel[(l) * 4 + 1] = max(clk[th * 4 + 1], rel[(l) * 4 + 1]);
	rel[(l) * 4 + 2] = max(clk[th * 4 + 2], rel[(l) * 4 + 2]);
	rel[(l) * 4 + 3] = max(clk[th * 4 + 3], rel[(l) * 4 + 3]);
	clk[th * 4 + th]++
}

/* a relaxed read-modify-write leaves the release sequence as it is */
inline rmw(th, l, order)
{
	if
	:: (order) & ACQ -> join_from(th, l)
	:: else
	fi;
	if
	:: (order) & REL -> join_to(th, l)
	:: else
	fi
}

/* a plain store begins a new release sequence, or ends one */
inline store(th, l, order)
{
	rel[(l) * 4] = 0; rel[(l) * 4 + 1] = 0; rel[(l) * 4 + 2] = 0; rel[(l) * 4 + 3] = 0;
	if
	:: (order) & REL -> join_to(th, l)
	:: else
	fi
}

inline plain(th, p)
{
	assert(clk[th * 4 + pt[p]] >= pe[p]);	/* no data race */
	pt[p] = th;
	pe[p] = clk[th * 4 + th]
}

inline owner_read(th)
{
	assert(clk[th * 4 + owt] >= owe);	/* else a stale owner could be read */
	owr[th] = clk[th * 4 + th]
}

inline owner_write(th)
{
	assert(clk[th * 4 + owt] >= owe);
	/* else an earlier read could have returned this value */
	assert(clk[th * 4] >= owr[0] && clk[th * 4 + 1] >= owr[1]);
	assert(clk[th * 4 + 2] >= owr[2] && clk[th * 4 + 3] >= owr[3]);
	owt = th;
	owe = clk[th * 4 + th]
}

#define DID(m)		((dn & (m)) == (m))
#define TODO(m)		(!(dn & (m)))
/* a must be over before this access, if it has the order o */
#define AFTER(a, cond)	(!(cond) || DID(a))

#define fX 1
#define fW 2
#define fS 4
#define fO 8
#define fL 16
#define fP 32

proctype freer(byte t)
{
	byte dn, o;
	bit q;

	do
	:: TODO(fX) -> d_step {			/* last use of the block */
		plain(t, t); dn = dn | fX }
	:: TODO(fW) && AFTER(fX, R1 & REL) -> d_step {
		assert(!(word & (1 << t)));
		word = word | (1 << t); rmw(t, LW, R1); dn = dn | fW }
	:: TODO(fS) && AFTER(fX | fW, R2 & REL) && AFTER(fW, R1 & ACQ) -> d_step {
		q = queued; queued = 1; rmw(t, LS, R2); dn = dn | fS }
	:: TODO(fO) && AFTER(fS, R2 & ACQ) && AFTER(fW, R1 & ACQ) -> d_step {
		/* a load: it may run ahead of the branch on q */
		o = owner;
		if
		:: R2 & ACQ && !q -> owner_read(t)
		:: else
		fi;
		dn = dn | fO }
	:: TODO(fL) && DID(fS | fO) && !q -> d_step {
#if !(R2 & ACQ)
		owner_read(t);
#endif
		plain(t, 2); dn = dn | fL }
	:: TODO(fP) && DID(fS | fO) && !q && AFTER(fL | fX | fW, R5 & REL) -> d_step {
		assert(!pend[o]);		/* never queued twice */
		assert(owner == o);		/* only on its owner's stack */
		assert(!(pool & 1));			/* no slab of the pool is queued */
		pend[o] = 1; rmw(t, LP + o, R5); dn = dn | fP }
	:: DID(fX | fW | fS | fO) && (q || DID(fL | fP)) -> break
	od;
	atomic { dn = 0; o = 0; q = 0; done++ }
}

/* the blocks that a word gave back go to someone who writes to them */
inline reuse(t)
{
	if
	:: got & 1 -> plain(t, 0)
	:: else
	fi;
	if
	:: got & 2 -> plain(t, 1)
	:: else
	fi;
	plain(t, 3);
	fre = fre | got
}

#define cP 1
#define cL 2
#define cS 4
#define cW 8
#define cX 16

/* under A's lock (B's stack: by its own thread alone) */
inline collect(t, h)
{
	d_step { pop = pend[h]; pend[h] = 0; rmw(t, LP + h, R6); dn = cP };
	if
	:: pop ->
		do
		:: TODO(cL) -> d_step {		/* link of what was popped */
			assert(owner == h);
			plain(t, 2); dn = dn | cL }
		:: TODO(cS) && AFTER(cL, R8 & REL) -> d_step {
			queued = 0; rmw(t, LS, R8); dn = dn | cS }
		:: TODO(cW) && AFTER(cS, R8 & ACQ) -> d_step {
			got = word;
			word = 0; rmw(t, LW, R9); dn = dn | cW }
		:: TODO(cX) && DID(cW) -> d_step { reuse(t); got = 0; dn = dn | cX }
		:: DID(cL | cS | cW | cX) -> break
		od
	:: else
	fi;
	atomic { dn = 0; pop = 0 }
}

inline lock_a(t) { atomic { !lock -> lock = 1; rmw(t, LL, LOCK & ACQ) } }
inline unlock_a(t) { d_step { lock = 0; store(t, LL, LOCK & REL) } }

proctype heap_a()
{
	byte dn, got, i;
	bit pop, ok;

	do
	:: i < OPS_A && !(pool & 2) ->
		lock_a(TA);
		if
		:: owner == HA && !(pool & 2) -> collect(TA, HA)
#if LIVES
		:: owner == HA && !(pool & 2) && fre == 3 -> d_step {
			ok = !queued;
			if
			:: ok -> plain(TA, 3); queued = 1; rmw(TA, LS, R12)
			:: else
			fi
		   };
		   if
		   :: ok -> d_step {
			assert(word == 0 && !pend[HA]);
			pool = 3; rmw(TA, LPOOL, R13)
		      }
		   :: else
		   fi;
		   ok = 0
#endif
		:: else
		fi;
		unlock_a(TA);
		i++
	:: else -> break
	od;
	atomic { i = 0; done++ }
}

#define bC 1
#define bO 2
#define bS 4
#define bW 8
#define bX 16

proctype heap_b()
{
	byte dn, got;
	bit pop, ok;

#if LIVES
	if
	:: pool & 1 ->
		d_step { pool = 2; rmw(TB, LPOOL, R17) };
		do
		:: TODO(bO) -> d_step { owner_write(TB); owner = HB; plain(TB, 2); plain(TB, 3); dn = dn | bO }
		:: TODO(bS) && AFTER(bO, R18 & REL) -> d_step {
			queued = 0; store(TB, LS, R18); dn = dn | bS }
		:: DID(bO | bS) -> break
		od;
		dn = 0;
		collect(TB, HB);
		collect(TB, HB)
	:: true
	fi;
#else
	lock_a(TB);
	d_step {
		ok = !queued;
		if
		:: ok -> queued = 1; rmw(TB, LS, R14)
		:: else
		fi
	};
	if
	:: ok ->
		do
		:: TODO(bO) -> d_step { owner_write(TB); owner = HB; dn = dn | bO }
		:: TODO(bS) && AFTER(bO, R16 & REL) -> d_step {
			queued = 0; rmw(TB, LS, R16); dn = dn | bS }
		:: TODO(bW) && AFTER(bS, R16 & ACQ) -> d_step {
			got = word; word = 0; rmw(TB, LW, R9); dn = dn | bW }
		:: TODO(bX) && DID(bW) -> d_step { reuse(TB); got = 0; dn = dn | bX }
		:: DID(bO | bS | bW | bX) -> break
		od;
		dn = 0;
		unlock_a(TB);
		collect(TB, HB)
	:: else -> unlock_a(TB)
	fi;
#endif
	atomic { ok = 0; done++ }
}

proctype judge()
{
	done == 4;
	d_step {
		assert((word | fre) == 3 && !(word & fre));
		assert(word == 0 || (queued && pend[owner]));	/* nothing lost */
		if
		:: pool == 3 -> assert(queued && word == 0 && !pend[0] && !pend[1])
		:: else -> assert(queued == pend[owner] && !pend[1 - owner])
		fi
	}
}

init
{
	atomic {
		clk[0] = 1; clk[5] = 1; clk[10] = 1; clk[15] = 1;
		run freer(0); run freer(1); run heap_a(); run heap_b(); run judge()
	}
}
