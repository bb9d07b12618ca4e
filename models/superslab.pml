/* SPDX-License-Identifier: MIT */
/*
 * Is a granule ever held twice, lost, taken for zero when it is not, or held
 * while the kernel takes its pages?  This model owns the node pool's word: one
 * atomic a SuperSlab, an EMPTY and an UNUSED bit for each granule.
 *
 * Claimers take single granules, aligned pairs (one CAS) and a span that
 * begins in one SuperSlab and ends in the next (a CAS for each word, rolled
 * back if a later one fails).  They hold their heap's lock for each operation.
 * The reclaimer takes a SuperSlab without holders out by CAS, has the kernel
 * drop its pages, and puts it back.  fork can come at any moment.
 *
 * Configuration: NC claimers with OPS operations each, PURGES by the
 * reclaimer, WITH_FORK, SPAN_ONLY (claimers only want spans and singles).
 * 4 granules a SuperSlab stand for 32, 2 SuperSlabs for an arena.
 */
#ifndef NC
#define NC 2
#endif
#ifndef OPS
#define OPS 3
#endif
#ifndef PURGES
#define PURGES 1
#endif

#define G	4
#define NS	2
#define FULL	15
#define E(v)	((v) & FULL)
#define U(v)	((v) >> G)

byte w[NS];			/* low: EMPTY, high: UNUSED */
bit hlock[NC];			/* the claimer's own heap */
bit rlock;			/* the reclaimer's, free during the system call */
byte out;			/* under rlock: SuperSlabs with the reclaimer (mask) */

/* ghosts */
byte held[NS];			/* granules that some claimer holds */
byte dirty[NS];			/* granules whose pages may hold data */
byte kern[NS];			/* granules whose pages the kernel is dropping */
byte noted[NS];			/* of these, what the holder's heap lists */
bit child, judged;
byte done;

#define HERE	(!child)
#define acquire(l)	atomic { !(l) -> l = 1 }

/* ghost: granules tm of SuperSlab ts now belong to the caller; tz: said to be zero */
inline take(ts, tm, tz)
{
	assert((held[ts] & (tm)) == 0);		/* held once */
	assert((kern[ts] & (tm)) == 0);		/* not under the kernel'ts hands */
	assert((dirty[ts] & (tz)) == 0);	/* UNUSED means tz */
	held[ts] = held[ts] | (tm)
}

/* v: what was loaded; ok: granted; got: the EMPTY and UNUSED bits that were taken */
inline claim(cs, cm)
{
	v = w[cs];			/* [S1] load (relaxed) */
	if
	:: ((E(v) | U(v)) & (cm)) == (cm) ->
		got = v & ((cm) | ((cm) << G));
#ifdef MUT_CLAIM_STORE		/* a store of the new word in place of the CAS */
		d_step { ok = 1; w[cs] = v & ~got; take(cs, cm, U(got)) }
#else
		d_step {		/* [S2] CAS (acquire) */
			ok = (w[cs] == v);
			if
			:: ok -> w[cs] = v & ~got; take(cs, cm, U(got))
			:: else
			fi
		}
#endif
	:: else
	fi;
	v = 0
}

inline give(gs, gb, gm)
{
#ifdef MUT_GIVE_STORE		/* load and store in place of the fetch_or */
	v = w[gs];
	d_step { held[gs] = held[gs] & ~(gm); w[gs] = v | (gb); v = 0 }
#else
	d_step {			/* [S3] fetch_or (release) */
		assert((held[gs] & (gm)) == (gm));
		assert((w[gs] & ((gm) | ((gm) << G))) == 0);
		held[gs] = held[gs] & ~(gm);
		w[gs] = w[gs] | (gb)
	}
#endif
}

/* granules m of SuperSlab x: the upper half of 0 and the lower half of 1 */
inline claim_span()
{
	claim(0, 12);
	if
	:: ok ->
		ok = 0; save = got; got = 0;
		claim(1, 3);
		if
		:: ok ->
			ok = 0;
			d_step {
				mine[0] = mine[0] | 12; mine[1] = mine[1] | 3;
				noted[0] = noted[0] | 12; noted[1] = noted[1] | 3;
				dirty[0] = dirty[0] | 12; dirty[1] = dirty[1] | 3
			}
		:: else ->
			/* rolled back to what each granule was */
#ifdef MUT_ROLLBACK_EMPTY_LOST	/* the UNUSED ones come back, the EMPTY ones do not */
			give(0, save & (FULL << G), 12)
#else
#ifdef MUT_ROLLBACK_UNUSED	/* all come back as UNUSED */
			give(0, 12 << G, 12)
#else
#ifdef MUT_ROLLBACK_NONE
			skip
#else
			give(0, save, 12)
#endif
#endif
#endif
		fi
	:: else
	fi;
	save = 0; got = 0; ok = 0
}

inline claim_run(rs, rm)
{
	claim(rs, rm);
	d_step {
		if
		:: ok -> mine[rs] = mine[rs] | (rm); noted[rs] = noted[rs] | (rm); dirty[rs] = dirty[rs] | (rm)
		:: else
		fi;
		ok = 0; got = 0
	}
}

proctype claimer(byte id) provided (HERE)
{
	byte v, got, save, i, m;
	byte mine[NS];
	bit ok;

	do
	:: i < OPS ->
		acquire(hlock[id]);
		if
		:: claim_run(0, 4)
		:: claim_run(1, 1)
		:: claim_run(1, 3)
		:: claim_span()
		:: mine[0] -> d_step { m = mine[0]; mine[0] = 0; noted[0] = noted[0] & ~m }; give(0, m, m)
		:: mine[1] -> m = mine[1] & 1;
			if
			:: m == 0 -> m = mine[1]
			:: else
			fi;
			d_step { mine[1] = mine[1] & ~m; noted[1] = noted[1] & ~m };
			give(1, m, m)
		fi;
		m = 0;
		hlock[id] = 0;
		i++
	:: else -> break
	od;
	/* in the end everything goes back */
	acquire(hlock[id]);
	if
	:: mine[0] -> d_step { m = mine[0]; mine[0] = 0; noted[0] = noted[0] & ~m }; give(0, m, m)
	:: else
	fi;
	if
	:: mine[1] -> d_step { m = mine[1]; mine[1] = 0; noted[1] = noted[1] & ~m }; give(1, m, m)
	:: else
	fi;
	hlock[id] = 0;
	atomic { m = 0; i = 0; done++ }
}

proctype reclaimer() provided (HERE)
{
	byte v, s, i;
	bit ok, failed;

	do
	:: i < PURGES ->
		if
		:: s = 0
		:: s = 1
		fi;
		acquire(rlock);
		v = w[s];		/* [S4] load (relaxed) */
		if
		:: (E(v) | U(v)) == FULL && E(v) ->
#ifdef MUT_PURGE_PEEK		/* looks, but does not take it out */
			ok = 1;
#else
			d_step {	/* [S5] CAS -> 0 (acquire) */
				ok = (w[s] == v);
				if
				:: ok ->
					w[s] = 0;
#ifndef MUT_OUT_LATE		/* noted only after rlock is dropped */
					out = out | (1 << s)
#endif
				:: else
				fi
			}
#endif
		:: else
		fi;
		rlock = 0;
		if
		:: ok ->
			ok = 0;
			d_step {	/* the system call or the ring's entry begins */
				assert(held[s] == 0);
				kern[s] = FULL;
				out = out | (1 << s)
			};
#ifdef MUT_BACK_EARLY		/* put back before the completion is read */
			d_step { w[s] = w[s] | (FULL << G); out = out & ~(1 << s) };
			d_step { kern[s] = 0; assert(held[s] == 0); dirty[s] = 0 };
#else
			if		/* it may be refused, half done or not at all */
			:: d_step { assert(held[s] == 0); dirty[s] = 0; kern[s] = 0 }
			:: d_step { kern[s] = 0; failed = 1 }
			fi;
			acquire(rlock);
			d_step {	/* [S6] fetch_or (release) */
#ifndef MUT_PURGE_PEEK
				assert((w[s] & (FULL | (FULL << G))) == 0);
#endif
#ifdef MUT_FAILED_UNUSED	/* a refused range counts as zero */
				w[s] = FULL << G;
#else
				w[s] = w[s] | (failed -> FULL : FULL << G);
#endif
				out = out & ~(1 << s)
			};
			rlock = 0;
#endif
			failed = 0
		:: else
		fi;
		v = 0;
		i++
	:: else -> break
	od;
	atomic { s = 0; i = 0; done++ }
}

/* every granule is held, in the pool, or out with the reclaimer; never two */
inline check()
{
	d_step {
		s = 0;
		do
		:: s < NS ->
			assert((E(w[s]) & U(w[s])) == 0);
			assert((held[s] & (E(w[s]) | U(w[s]))) == 0);
			assert((held[s] | E(w[s]) | U(w[s])) == FULL);
			assert((U(w[s]) & dirty[s]) == 0);
			assert(held[s] == noted[s]);	/* nobody holds what no heap lists */
			s++
		:: else -> break
		od;
		s = 0;
		judged = 1
	}
}

proctype judge() provided (HERE)
{
	byte s;

	done == NC + (PURGES > 0);
	assert(out == 0 && held[0] == 0 && held[1] == 0);
	check()
}

#ifdef WITH_FORK
proctype forker()
{
	byte s;

	/* fork's order: reclaimer, then the heaps */
	acquire(rlock);
#ifndef MUT_FORK_NO_HEAP_LOCKS
	acquire(hlock[0]);
#if NC > 1
	acquire(hlock[1]);
#endif
#endif
	if
	:: child = 1
	:: goto parent
	fi;
	/* the child has no reclaimer: what is out is dirty and comes back as EMPTY */
	do
	:: s < NS ->
		if
		:: out & (1 << s) ->
#ifdef MUT_CHILD_ZERO	/* taken for zero */
			w[s] = w[s] | (FULL << G)
#else
			w[s] = w[s] | FULL
#endif
		:: else
		fi;
		s++
	:: else -> break
	od;
	check();
	goto end;
parent:
	rlock = 0;
	hlock[0] = 0;
#if NC > 1
	hlock[1] = 0;
#endif
end:	skip
}
#endif

active proctype watchdog()
{
	timeout;
	assert(judged)			/* else a deadlock; run with pan -E */
}

init
{
	byte i;

	atomic {
		w[0] = 12 | (3 << G);	/* two granules EMPTY, two UNUSED */
		dirty[0] = 12;
		w[1] = 1 | (14 << G);
		dirty[1] = 1;
		do
		:: i < NC -> run claimer(i); i++
		:: else -> break
		od;
		i = 0;
#if PURGES > 0
		run reclaimer();
#endif
#ifdef WITH_FORK
		run forker();
#endif
		run judge()
	}
}
