/* SPDX-License-Identifier: MIT */
/* Heaps: refill, drain, remote frees, parking. */
#include "heap.h"

#include <sched.h>
#include <string.h>

#include "ace/ace.h"
#include "clock.h"
#include "die.h"
#include "failure.h"
#include "fresh.h"
#include "hardened.h"
#include "holes.h"
#include "meta.h"
#include "numa/engine.h"
#include "options.h"
#include "probe.h"
#include "step.h"
#include "sys/sys.h"
#include "touched.h"

#define CAP_FIRST 1u /* many threads with a block or two of each size hold few beside them */
#define CAP_MOST 127u		     /* more does not pay: a refill's or drain's fixed cost is 4 instructions a block */
/* ... but where it is cheap: tiny blocks that are built and dropped in bulk need not be put into
 * their slabs and taken out again */
#define CAP_MOST_TINY 511u
#define CAP_TINY_BYTES (32u << 10)
/* More than those where a program really builds and drops in bulk: where a magazine runs full or empty in
 * a microsecond a block. One that is drawn from at random takes a thousand times as long. */
#define CAP_BULK 4095u
#define CAP_BULK_BYTES (128u << 10)
#define BULK_BLOCK_NS 1000u
#define BULK_SHIFT 14u /* a class's stamp is the time in units of 16 us */
#define EVENT_MASK 0x7fffu
#define CAP_FIRST_BYTES ((size_t)32 << 10) /* what a magazine may hold before it has grown */
#define CAP_BYTES (1u << 20) /* and after */
/* Large blocks need more where few sizes are in use: as long as all magazines, full, hold so many shares at most */
#define CAP_BYTES_FEW (4u << 20)
#define FEW_SHARES 3u
#define TRIM_LEAST ((size_t)256 << 10) /* worth asking a thread for */
#define PARCEL_BATCH 16u		     /* parcels unpacked in one slow path */
#define SPARES_MOST 8u		     /* empty parcels a heap keeps */
/* An inbox heavier than this is collected by who made it so: its owner may be asleep. A
 * parcel weighs what its blocks do, and PARCEL_WEIGHT, so that few-block parcels count. */
#define INBOX_MOST ((uint64_t)512 << 10)
#define PARCEL_WEIGHT ((uint64_t)4 << 10)
#define BUDGET_ALL ((size_t)32 << 20) /* all heaps' magazines together, as long as ... */
#define BUDGET_LEAST ((size_t)128 << 10) /* ... each may have this */
#define CHUNKS ((HAK_HEAP_MAX + HAK_CHUNK_HEAPS) / HAK_CHUNK_HEAPS)
/* A heap with less live lies on small pages: the processor's second TLB covers it then (1,536
 * pages are 6 MiB), and many threads with a few blocks of many sizes each must not hold a
 * huge page for every few. */
#define LIVE_BEFORE_HUGE ((size_t)4 << 20)
#define GUESTS_COUNTED 16u /* of more the notes must do: counting is linear */
#define OWN_BEFORE_ASKING 16u /* refills from own slabs until the thread's policy is asked for */
/* A hardened heap keeps EMPTY slabs of a class as long as it has no more than this free: blocks
 * return at random, and each slab that is made costs system calls for its guard page. */
#define HARD_KEEPS ((size_t)2 << 20)
#define KEEP_GRANULES 8u /* what one EMPTY slab of a class that stays may be, and ... */
#define KEEP_SHARE 8u	 /* ... of what the program has of the heap, if that is more */
#define SIGHT 2u /* times its size: the classes that might have lent a block */
#define LEFT_BLOCKS 2u /* live ones a slab, at most, in a class that the program has left, and ... */
#define RESTED_MOST 3u /* ... looks at it without a refill until then: each after as many slow paths as there are classes */
#define LEFT_SHARE 16u /* of a class that is replaced: the part of its blocks that may be free and not lent */
#define NOTED_MASK 0xfffu
_Static_assert(CAP_BULK <= NOTED_MASK, "a magazine's entries are noted in 12 bits");
#define QUIET_MOST 255u /* passes; those of a closed class */
#define FETCH_STRIDE 256u /* bytes of a block: of smaller ones a slab has many, and is seldom far away */
#define RESCUE_LOOKS 8u /* heaps looked at before a slab is claimed */

static void *const no_entry[1] = { NULL };
#define NO_ENTRY ((void **)(uintptr_t)no_entry)

struct hak_heap hak_heap_none = {
	.mags = { [0 ... HAK_CLASSES - 1] = { .top = (void **)no_entry, .limit = (void **)no_entry } },
	.tag = (HAK_HEAP_MAX + 1) << HAK_TAG_HEAP_SHIFT,
	.home = &hak_heap_none,
};
HAK_TLS struct hak_heap *hak_heap_self = &hak_heap_none;

/* ids; written under ids_lock */
static struct hak_lock ids_lock = HAK_LOCK_INIT(HAK_RANK_IDS);
struct hak_heap *_Atomic *_Atomic hak_heap_chunks[CHUNKS];
_Atomic uint32_t hak_heap_total;

struct hak_heap *hak_heap_by_id(uint32_t id)
{
	if (id == 0 || id > HAK_HEAP_MAX)
		return NULL;
	HAK_STEP(P13);
	/* acquire HEAP: its fields */
	struct hak_heap *_Atomic *c = atomic_load_explicit(&hak_heap_chunks[id / HAK_CHUNK_HEAPS], memory_order_acquire);
	return c ? atomic_load_explicit(&c[id % HAK_CHUNK_HEAPS], memory_order_acquire) : NULL; /* acquire HEAP */
}

uint32_t hak_heap_count(void)
{
	return atomic_load_explicit(&hak_heap_total, memory_order_acquire); /* acquire HEAP */
}

static struct hak_slab *slab_of(const void *p, const struct hak_class *c)
{
	struct hak_arena *a = hak_arena_of(p);
	return &a->slabs[hak_granule_of((void *)((uintptr_t)p & ~(uintptr_t)c->mask))];
}

/* ---- the class's list of slabs with free blocks; oldest first -------------------- */

static void list_append(struct hak_heap_class *k, struct hak_slab *s)
{
	s->available = true;
	s->next = NULL;
	s->prev = k->tail;
	if (k->tail)
		k->tail->next = s;
	else
		k->head = s;
	k->tail = s;
}

static void list_remove(struct hak_heap_class *k, struct hak_slab *s)
{
	s->available = false;
	if (s->prev)
		s->prev->next = s->next;
	else
		k->head = s->next;
	if (s->next)
		s->next->prev = s->prev;
	else
		k->tail = s->prev;
	s->next = s->prev = NULL;
}

/* ---- what a heap holds ---------------------------------------------------------- */

/* The magazine's lowest entry, top + 1 if there is none: from below the reclaimer may have taken some. */
static void **lowest(const struct hak_heap *h, unsigned class, void **top)
{
	void **e = h->classes[class].entries;
	if (!e)
		return top + 1;
	do /* relaxed: the reclaimer and the owner agree on what is whose without it */
		e++;
	while (e <= top && !__atomic_load_n(e, __ATOMIC_RELAXED));
	return e;
}

uint32_t hak_heap_cached(const struct hak_heap *h, unsigned class)
{
	if (h->hard) {
		const struct hak_bag *b = hak_bag_got(h->hard, class);
		return b ? hak_bag_count(b) : 0;
	}
	void **top = hak_mag_top(&h->mags[class]), **e = lowest(h, class, top);
	return (uint32_t)(top + 1 - e);
}

/* Closes the gap where the reclaimer took blocks from; the caller may change the magazine, as its owner or
 * because it has none. */
static void close_gap(struct hak_heap *h, unsigned class)
{
	void **bottom = h->classes[class].entries, **top = hak_mag_top(&h->mags[class]), **e = lowest(h, class, top);
	if (!bottom || e == bottom + 1)
		return;
	memmove(bottom + 1, e, (size_t)(top + 1 - e) * sizeof *e);
	hak_mag_set_top(&h->mags[class], bottom + (top + 1 - e));
}

/* After a slow path of the class. What the fast path does until the next one is not known,
 * which is right to within a magazine. */
static void note_cached(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	/* the magazine's: a dynamic class may have become another one since */
	size_t n = hak_heap_cached(h, class), stride = h->mags[class].stride, more = n * stride - k->noted * stride;
	h->cached += more;
	h->home->all_cached += more;
	k->noted = n & NOTED_MASK;
}

/* What the program has, and what is on its way home. Blocks that were noted as cached may have
 * been handed out, freed elsewhere and put back since. */
static size_t live_bytes(const struct hak_heap *o)
{
	return o->out > o->all_cached ? o->out - o->all_cached : 0;
}

/* Tells the node how much that is, which decides about huge pages. */
static void note_live(struct hak_heap *o)
{
	size_t live = live_bytes(o);
	/* relaxed: a threshold */
	atomic_fetch_add_explicit(&hak_nodes[o->node].out_bytes, live - o->live_known, memory_order_relaxed);
	o->live_known = live;
}

/* A heap's share of what all magazines may hold, which shrinks with the number of heaps. */
static size_t share(void)
{
	size_t own = (size_t)hak_option_get(HAK_OPT_magazine_kib) << 10;
	return hak_min(own, hak_max(BUDGET_LEAST, BUDGET_ALL / (hak_heap_count() + 1)));
}

/* What the heap's magazines may hold: its share, and half as much as the program has of it. */
static size_t budget(const struct hak_heap *h)
{
	return share() + live_bytes(h->home) / (2 * (h->home->guest_count + 1));
}

/* ---- slabs ---------------------------------------------------------------------- */

/* Gives an EMPTY slab back to its node. */
static void release_slab(struct hak_heap *o, struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_heap_class *k = &o->classes[s->class];
	struct hak_arena *a = hak_arena_of(s->base);
	uint32_t granule = hak_granule_of(s->base);
	list_remove(k, s);
	k->slabs--;
	k->nfree -= c->capacity;
	o->slabs_released++;
	note_live(o);
	hak_slab_fini(a, s);
	hak_pool_release(a, granule, c->granules);
}

static void release_empty_of(struct hak_heap *h, unsigned class)
{
	for (struct hak_slab *s = h->classes[class].head, *next; s; s = next) {
		next = s->next;
		if (s->nfree == hak_classes[class].capacity)
			release_slab(h, s);
	}
}

/* Is one EMPTY slab of the class to stay? An allocation right after the last free must not make
 * a slab again. But large slabs of many classes are a lot for a heap with little in it. */
static bool keeps_one(const struct hak_heap *o, const struct hak_class *c)
{
	return c->granules <= KEEP_GRANULES || c->granules * HAK_GRANULE <= live_bytes(o) / KEEP_SHARE;
}

/* The policy may have more EMPTY slabs stay. */
static unsigned slabs_kept(const struct hak_heap *o, unsigned class)
{
	return keeps_one(o, &hak_classes[class]) + hak_policy()->keep[o->node][class];
}

static HAK_NOINLINE void slab_became_empty(struct hak_heap *o, struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_heap_class *k = &o->classes[s->class];
	unsigned keep = slabs_kept(o, s->class);
	if ((!keep || k->nfree > c->capacity * keep) && (!o->hard || (size_t)k->nfree * c->stride > HARD_KEEPS)) {
		release_slab(o, s);
		k->capped += k->capped < UINT8_MAX;
	}
}

/* After blocks came back. */
static void slab_got_free(struct hak_heap *o, struct hak_slab *s)
{
	if (!s->available)
		list_append(&o->classes[s->class], s);
	if (hak_unlikely(s->nfree >= s->loose_at && !o->hard))
		hak_holes_mark(s);
	if (hak_unlikely(s->nfree == hak_slab_class(s)->capacity))
		slab_became_empty(o, s);
}

/* The first block's granule has o's tag of the class, and o's lock is held. Puts back those leading
 * ones of n that are of its slab, and returns how many they are. */
static uint32_t put_run(struct hak_heap *o, unsigned class, void *const *blocks, uint32_t n)
{
	const struct hak_class *c = &hak_classes[class];
	struct hak_slab *s = slab_of(blocks[0], c);
	uint32_t before = s->nfree, run = hak_slab_put_run(s, blocks, n, hak_heap_id(o)), put = s->nfree - before;
	o->classes[class].nfree += put;
	o->out -= (size_t)put * c->stride;
	if (put)
		slab_got_free(o, s);
	return run;
}

static void put_block(struct hak_heap *o, unsigned class, void *p)
{
	put_run(o, class, &p, 1);
}

/* Large blocks of a magazine are of as many slabs: what is known of those comes while others are put back. */
static void fetch_slabs(unsigned class, void *const *blocks, uint32_t n)
{
	if (hak_classes[class].stride < FETCH_STRIDE)
		return;
	for (uint32_t i = 0; i < n; i++) {
		const char *s = (const char *)slab_of(blocks[i], &hak_classes[class]);
		__builtin_prefetch(s, 1);
		__builtin_prefetch(s + HAK_CACHELINE, 1);
	}
}

/*
 * Puts blocks back that were in a magazine of h: pushed on the class's, so each was on its stride,
 * or lent by another class and not yet handed out. Neighbours in a magazine are often of one slab:
 * what is the same for all of them is done once.
 */
static void put_cached(struct hak_heap *h, unsigned class, void *const *blocks, uint32_t n)
{
	fetch_slabs(class, blocks, n);
	for (uint32_t i = 0; i < n;) {
		/* a block that is there twice may have outlived its slab.
		 * relaxed: ours to read, we hold the lock */
		uint32_t tag = atomic_load_explicit(hak_tag_of(blocks[i]), memory_order_relaxed);
		unsigned owner = hak_tag_code(tag) >> HAK_CODE_SHIFT;
		if (hak_tag_heap(tag) != hak_heap_id(h) || owner >= HAK_CLASSES ||
		    (owner != class && hak_classes[owner].stride < hak_classes[class].stride)) {
			hak_fault("double free", blocks[i++], hak_classes[class].stride, hak_heap_id(h));
			continue;
		}
		i += put_run(h->home, owner, blocks + i, n - i);
	}
}

/* ---- parcels ---------------------------------------------------------------------
 *
 * A block freed by a thread that does not own its slab goes, with others for the same
 * heap, in a parcel into that heap's inbox: one CAS for up to 62 blocks, and no line of
 * the slab's metadata moves between the two processors. models/remote.pml:
 *
 *   push      any thread, under its own heap's lock (fork must not cut it in two)
 *   collect   whoever holds the inbox's heap's lock; takes the whole stack, so no ABA
 *   adopt     changes the owner of slabs under both heaps' locks
 *
 * A block in a parcel is out for its slab, so the slab can be neither EMPTY nor released.
 * It can be adopted meanwhile: then the tag names another heap, and the parcel goes on to
 * that one. Under h's lock a tag that names h stays, since to adopt from h takes its lock.
 */
static struct hak_parcel *parcel_new(struct hak_heap *o)
{
	struct hak_parcel *p = o->spares;
	if (p) {
		o->spares = p->next;
		o->spare_count--;
	} else {
		p = hak_meta_alloc(sizeof *p);
	}
	if (p)
		p->count = 0;
	return p;
}

static void parcel_free(struct hak_heap *o, struct hak_parcel *p)
{
	if (o->spare_count == SPARES_MOST) {
		hak_meta_free(p, sizeof *p);
		return;
	}
	p->next = o->spares;
	o->spares = p;
	o->spare_count++;
}

/* Returns the inbox's weight. */
static uint64_t push(struct hak_heap *to, struct hak_parcel *p, size_t bytes)
{
	HAK_STEP(P2);
	struct hak_parcel *top = atomic_load_explicit(&to->inbox, memory_order_relaxed);
	do {
		p->next = top;
		HAK_STEP(P3);
		/* release PARCEL: its contents, and the senders' last use of the blocks */
	} while (!atomic_compare_exchange_weak_explicit(&to->inbox, &top, p, memory_order_release,
							memory_order_relaxed));
	/* relaxed: a threshold; with a collect at the same time it is off until the next */
	return atomic_fetch_add_explicit(&to->inbox_weight, bytes + PARCEL_WEIGHT, memory_order_relaxed);
}

/* The tag of a block that is out; 0 after a fault: it is no such block. */
static uint32_t tag_of_block(const void *p)
{
	/* acquire TAG: the heap can be found. The class cannot change while the block is out;
	 * the owner may, even to a heap made since the block was handed out */
	uint32_t tag = atomic_load_explicit(hak_tag_of(p), memory_order_acquire);
	if (tag && hak_tag_code(tag) < HAK_CODE(HAK_CLASSES))
		return tag;
	hak_fault("double free", p, 0, 0);
	return 0;
}

/* Do two blocks have one tag? */
static bool are_neighbours(const void *p, const void *q)
{
	return ((uintptr_t)p ^ (uintptr_t)q) < HAK_GRANULE;
}

/* Into the magazine, from where they go out again without a refill: those leading ones of n that are in the
 * first one's granule, and for which there is room. The next one's goes to its slab. */
static uint32_t push_cached(struct hak_heap *h, unsigned class, void **blocks, uint32_t n)
{
	if (h->hard)
		return hak_bag_put(h, class, blocks);
	struct hak_mag *m = &h->mags[class];
	uint32_t i = 0;
	for (; i < n && are_neighbours(blocks[i], blocks[0]); i++) {
		void **top = hak_mag_top(m);
		if (top >= hak_mag_limit(m) || *top == blocks[i] || !hak_block_on_stride(blocks[i], &hak_classes[class]))
			break;
		hak_mag_push(m, top, blocks[i]);
	}
	return i;
}

/* own: o or a guest of it, whose thread calls: its magazines may be used; or NULL. */
static void unpack(struct hak_heap *o, struct hak_parcel *parcel, struct hak_heap *own)
{
	for (uint32_t i = 0; i < parcel->count; i++) {
		/* relaxed: what is fetched for nothing costs no more than time */
		uint32_t code = hak_tag_code(atomic_load_explicit(hak_tag_of(parcel->block[i]), memory_order_relaxed));
		unsigned class = code >> HAK_CODE_SHIFT;
		if (class < HAK_CLASSES)
			fetch_slabs(class, &parcel->block[i], 1);
	}
	uint32_t kept = 0, next = 0;
	for (uint32_t i = 0, n = 1; i < parcel->count; i += n, n = 1) {
		void **at = &parcel->block[i];
		HAK_STEP(P6);
		uint32_t tag = tag_of_block(*at);
		if (hak_tag_heap(tag) == hak_heap_id(o)) {
			unsigned class = hak_tag_code(tag) >> HAK_CODE_SHIFT;
			n = own ? push_cached(own, class, at, parcel->count - i) : 0;
			if (!n) /* from a full bag one that has waited, and no other */
				n = put_run(o, class, at, own && own->hard ? 1 : parcel->count - i);
			o->remote_in += n;
		} else if (tag) {
			next = hak_tag_heap(tag);
			parcel->block[kept++] = *at;
		}
	}
	parcel->count = kept;
	if (kept) /* adopted by another heap, which passes on what is not its own */
		push(hak_heap_by_id(next), parcel, 0);
	else
		parcel_free(o, parcel);
}

static bool has_mail(struct hak_heap *o)
{
	/* relaxed: what is pushed now is found next time */
	return o->rest || atomic_load_explicit(&o->inbox, memory_order_relaxed);
}

/* Works off at most `most` parcels; takes the whole inbox for it and keeps the rest. o's
 * lock is held. */
static void collect(struct hak_heap *o, uint32_t most, struct hak_heap *own)
{
	for (; most && has_mail(o); most--) {
		if (!o->rest) {
			HAK_STEP(P4);
			/* acquire PARCEL: what its senders wrote */
			o->rest = atomic_exchange_explicit(&o->inbox, NULL, memory_order_acquire);
			atomic_store_explicit(&o->inbox_weight, 0, memory_order_relaxed);
		}
		struct hak_parcel *p = o->rest;
		HAK_STEP(P5);
		o->rest = p->next;
		unpack(o, p, own);
	}
}

static void try_collect(struct hak_heap *o)
{
	if (o->abandoned || !hak_trylock(&o->lock))
		return;
	collect(o, UINT32_MAX, NULL);
	hak_unlock(&o->lock);
}

static bool claim(struct hak_heap *o, unsigned class, bool huge, struct hak_run *run)
{
	uint32_t count = hak_classes[class].granules;
	/* those are EMPTY: there is nothing to ask about them */
	if (o->near_arena && hak_pool_claim_near(o->near_arena, o->near_super, count, true, run))
		return true;
	if (!hak_touched_claim(o->node, class, count, huge, run))
		return false;
	if (run->arena->node == o->node) { /* if another node helped out, it is not asked first next time */
		o->near_arena = run->arena;
		o->near_super = run->granule / HAK_SUPER_GRANULES;
	}
	return true;
}

/* Is the next slab to lie on huge pages? What was noted of a class may be old. Where that can matter all
 * are counted, which is most of what a slab costs in instructions. */
static bool wants_huge(struct hak_heap *o)
{
	if (live_bytes(o) < LIVE_BEFORE_HUGE || !hak_node_wants_huge(o->node))
		return false;
	if (!o->hard && o->out >= o->room + LIVE_BEFORE_HUGE)
		return true;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		note_cached(o, c);
		for (struct hak_heap *g = o->guest_count <= GUESTS_COUNTED ? o->guests : NULL; g; g = g->next_guest)
			note_cached(g, c);
	}
	return live_bytes(o) >= LIVE_BEFORE_HUGE;
}

static bool claim_slab(struct hak_heap *o, unsigned class, struct hak_run *run)
{
	if (!claim(o, class, wants_huge(o), run))
		return false;
	hak_fresh_run(class, run, hak_classes[class].granules);
	return true;
}

static void drain_locked(struct hak_heap *h, unsigned class, uint32_t n);
static void look_at_next(struct hak_heap *h);

/* Before new memory is asked for: if the magazines hold more than they may, half of what
 * some hold goes home, class by class in turn. Those the program uses are refilled; those it
 * does not give back slabs that a few cached blocks kept. */
static void uncache(struct hak_heap *h)
{
	size_t most = budget(h);
	for (unsigned i = 0; i < HAK_CLASSES && h->cached > most; i++) {
		unsigned class = h->uncache_at = (h->uncache_at + 1) % HAK_CLASSES;
		uint32_t n = hak_heap_cached(h, class);
		if (n)
			drain_locked(h, class, (n + 1) / 2);
	}
}

/*
 * Blocks freed to a heap whose thread sleeps wait in its inbox for a refill that
 * does not come. So who needs a slab first collects for a few other heaps of its node,
 * by trylock; slabs that become EMPTY by it go to the node, where this claim finds them.
 */
static void rescue(struct hak_heap *h)
{
	static _Atomic uint32_t cursor;
	uint32_t count = hak_heap_count(), looks = (uint32_t)hak_min(count, RESCUE_LOOKS);
	/* relaxed: any order of looks will do */
	uint32_t at = atomic_fetch_add_explicit(&cursor, looks, memory_order_relaxed);
	for (uint32_t i = 0; i < looks; i++) {
		struct hak_heap *o = hak_heap_by_id((at + i) % count + 1);
		if (o != h->home && o->node == h->node && atomic_load_explicit(&o->inbox, memory_order_relaxed))
			try_collect(o);
	}
}

/* A slab with room changes its owner. Both heaps' locks are held. */
static void move_slab(struct hak_heap *from, struct hak_heap *h, struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_heap_class *fk = &from->classes[s->class], *k = &h->classes[s->class];
	size_t out = (size_t)(c->capacity - s->nfree) * c->stride;
	uint32_t tag = hak_tag(hak_heap_id(h), HAK_CODE(s->class));
	list_remove(fk, s);
	fk->slabs--;
	fk->nfree -= s->nfree;
	from->out -= out;
	HAK_STEP(P10);
	hak_tags_set(hak_arena_of(s->base), hak_granule_of(s->base), c->granules, tag, tag);
	k->slabs++;
	k->nfree += s->nfree;
	h->out += out;
	h->adopted++;
	list_append(k, s);
}

/* Pops the first of one of the node's two lists. */
static struct hak_heap *unpark(struct hak_node *n, struct hak_heap **list)
{
	if (!__atomic_load_n(list, __ATOMIC_RELAXED)) /* a hint */
		return NULL;
	HAK_STEP(K2);
	hak_lock(&n->park_lock);
	struct hak_heap *h = *list;
	if (h) {
		__atomic_store_n(list, h->park_next, __ATOMIC_RELAXED);
		h->parked = false;
	}
	hak_unlock(&n->park_lock);
	return h;
}

/*
 * Takes the PARTIAL slabs of the class from one parked heap (stage 0.7). Both heaps'
 * locks are held; the parked one by trylock, after it was popped off its list, so that
 * no one else can wait for ours with it.
 */
static bool adopt(struct hak_heap *o, unsigned class)
{
	struct hak_heap_class *k = &o->classes[class];
	struct hak_heap *from = unpark(&hak_nodes[o->node], &hak_nodes[o->node].parked);
	bool any = false;
	if (!from)
		return false;
	HAK_STEP(K3);
	if (hak_trylock(&from->lock)) {
		/* what its thread had cached is free memory too, but only its slabs know */
		struct hak_heap_class *fk = &from->classes[class];
		collect(from, PARCEL_BATCH, NULL);
		if (hak_heap_cached(from, class))
			drain_locked(from, class, UINT32_MAX);
		/* what it lent to dynamic classes */
		for (unsigned c = HAK_STATIC_CLASSES; c < HAK_CLASSES; c++)
			if (hak_heap_cached(from, c))
				drain_locked(from, c, UINT32_MAX);
		/* those of a home with guests are in use */
		for (struct hak_slab *s = from->guests ? NULL : fk->head, *next; s; s = next) {
			next = s->next;
			move_slab(from, o, s);
			any = true;
		}
		hak_unlock(&from->lock);
	}
	hak_heap_park(from);
	return any && k->head;
}

_Atomic uint32_t hak_stock_taken[HAK_CLASSES];

/* Takes a slab of the class out of the node's stock; by trylock, since h's lock is held. */
static bool take_stock(struct hak_heap *o, unsigned class)
{
	/* acquire STOCK: its fields */
	struct hak_heap *from = atomic_load_explicit(&hak_nodes[o->node].stock, memory_order_acquire);
	if (!from || from->abandoned || !hak_trylock(&from->lock))
		return false;
	struct hak_slab *s = from->classes[class].head;
	if (s) {
		move_slab(from, o, s);
		atomic_fetch_add_explicit(&hak_stock_taken[class], 1, memory_order_relaxed); /* a figure */
	}
	hak_unlock(&from->lock);
	return s != NULL;
}

/*
 * To a dynamic class the static one of its sizes, which it is to replace, lends all it has before a
 * slab is made: else the working set would lie twice in memory until it is replaced. Only if the
 * new slabs fit where old ones were, some of those are left to become EMPTY.
 */
static struct hak_slab *replaced(struct hak_heap *o, unsigned class)
{
	unsigned home = hak_route_home(class);
	struct hak_heap_class *k = &o->classes[home];
	uint32_t slabs = hak_classes[class].granules <= hak_classes[home].granules ? k->slabs : 0;
	return k->nfree > slabs * hak_classes[home].capacity / LEFT_SHARE ? k->tail : NULL;
}

/*
 * A slab whose blocks are larger than the class's, to lend one before a slab is made: W_MAX bounds
 * how much larger. The one that got room last lends first, so that others become EMPTY.
 */
static struct hak_slab *lender(struct hak_heap *o, unsigned class)
{
	if (class >= HAK_STATIC_CLASSES)
		return replaced(o, class);
	size_t most = (size_t)hak_classes[class].stride * hak_policy()->wmax[hak_route_tier(class)] / 100;
	for (unsigned c = class + 1; c < HAK_STATIC_CLASSES && hak_classes[c].stride <= most; c++)
		if (o->classes[c].tail)
			return o->classes[c].tail;
	return NULL;
}

/* Makes a slab of granules that were claimed for it. NULL: no memory for its bitmaps, or
 * a guard page that cannot be removed. */
static struct hak_slab *add_slab(struct hak_heap *o, unsigned class, const struct hak_run *run)
{
	struct hak_heap_class *k = &o->classes[class];
	struct hak_slab *s = &run->arena->slabs[run->granule];
	if ((o->hard && !hak_hardened_claimed(run->arena, run->granule, hak_classes[class].granules,
					      hak_hardened_slab_guarded(run->arena, run->granule))) ||
	    !hak_slab_init(run->arena, run->granule, class, hak_heap_id(o), run->zero)) {
		hak_pool_release(run->arena, run->granule, hak_classes[class].granules);
		return NULL;
	}
	k->slabs++;
	k->nfree += hak_classes[class].capacity;
	if (o->hard)
		hak_hardened_slab_made(s);
	list_append(k, s);
	return s;
}

bool hak_heap_stock_up(struct hak_heap *stock, unsigned class, const struct hak_run *run)
{
	hak_lock(&stock->lock);
	bool ok = add_slab(stock, class, run) != NULL;
	hak_unlock(&stock->lock);
	return ok;
}

/* A slab is to be made, though there was memory that might have served: says so. */
static void note_failures(struct hak_heap *o, unsigned class, bool lend)
{
	struct hak_heap_class *k = &o->classes[class];
	uint32_t stride = hak_classes[class].stride;
	if (k->capped) {
		k->capped--;
		hak_failure(HAK_FAILURE_CAP, stride, slabs_kept(o, class));
	}
	if (!lend || o->hard || class >= HAK_STATIC_CLASSES || !hak_policy()->wmax[hak_route_tier(class)])
		return;
	for (unsigned c = class + 1; c < HAK_STATIC_CLASSES && hak_classes[c].stride <= SIGHT * stride; c++)
		if (o->classes[c].tail) {
			hak_failure(HAK_FAILURE_THRESHOLD, stride, (uint64_t)hak_classes[c].stride * 100 / stride);
			return;
		}
}

/* A slab of the class with free blocks, through the stages; or, with `lend`, one of a larger class.
 * NULL: no memory. */
static struct hak_slab *find_slab(struct hak_heap *h, unsigned class, bool lend)
{
	struct hak_heap *o = h->home;
	struct hak_heap_class *k = &o->classes[class];
	struct hak_run run;
	/* for new memory, and now and then without: the thread may be on another node by now, or
	 * have been given a policy. If it cannot change heaps it is served here all the same */
	if ((!k->head || h->stages[HAK_STAGE_OWN] % OWN_BEFORE_ASKING == 0) && h == hak_heap_self && !h->stale &&
	    hak_node_mine() != h->node) {
		h->stale = true;
		return NULL;
	}
	if (k->head) {
		h->stages[HAK_STAGE_OWN]++;
		return k->head;
	}
	while (o->rest) {
		collect(o, PARCEL_BATCH, NULL); /* a refill is under way */
		if (k->head) {
			h->stages[HAK_STAGE_OWN]++;
			return k->head;
		}
	}
	if (take_stock(o, class)) {
		h->slab_requests++;
		h->stages[HAK_STAGE_ADOPTED]++;
		return k->head;
	}
	struct hak_slab *s = lend && !h->hard ? lender(o, class) : NULL;
	if (s) {
		h->lent++;
		hak_ace_lent(class);
		return s;
	}
	h->slab_requests++;
	/* relaxed: a hint */
	if (__atomic_load_n(&hak_nodes[h->node].parked, __ATOMIC_RELAXED) && adopt(o, class)) {
		h->stages[HAK_STAGE_ADOPTED]++;
		return k->head;
	}
	note_failures(o, class, lend);
	uncache(h);
	rescue(h);
	if (!claim_slab(o, class, &run))
		return NULL;
	s = add_slab(o, class, &run);
	if (s) {
		h->stages[run.stage]++;
		hak_ace_made(h, class, run.stage);
		HAK_PROBE(slab_new, hak_classes[class].stride, run.stage);
		note_live(o);
	}
	return s;
}

/* ---- magazines ------------------------------------------------------------------ */

/* What a class's magazine may grow to, in blocks. */
static uint32_t magazine_most(unsigned class)
{
	uint32_t stride = hak_classes[class].stride;
	size_t most = hak_max(CAP_MOST, hak_min(CAP_MOST_TINY, CAP_TINY_BYTES / stride));
	return (uint32_t)hak_min(most, CAP_BYTES / stride);
}

/* The same in bulk. */
static uint32_t bulk_most(unsigned class)
{
	return (uint32_t)hak_max(magazine_most(class), hak_min(CAP_BULK, CAP_BULK_BYTES / hak_classes[class].stride));
}

/* A large magazine is empty or full: did it become so at once? *idle: nor did it the last time. */
static bool in_bulk(struct hak_heap_class *k, bool *idle)
{
	uint32_t now = (uint32_t)(hak_now_ns() >> BULK_SHIFT), since = (now - k->event) & EVENT_MASK;
	bool slow = since > (k->cap / 2u * BULK_BLOCK_NS) >> BULK_SHIFT;
	*idle = slow && k->slow;
	k->event = now & EVENT_MASK;
	k->slow = slow;
	return !slow;
}

static void shape_magazine(struct hak_heap *h, unsigned class)
{
	h->mags[class].inverse = hak_classes[class].inverse;
	h->mags[class].mask = hak_classes[class].mask;
	h->mags[class].stride = hak_classes[class].stride;
}


/* Does the full magazine hold too much? The program has freed much of the heap, or of the
 * class: then a few cached blocks in many slabs keep all of those from becoming EMPTY. */
static bool too_large(const struct hak_heap *h, unsigned class)
{
	const struct hak_heap_class *k = &h->home->classes[class];
	if (h->cached <= share())
		return false;
	uint64_t live = (uint64_t)k->slabs * hak_classes[class].capacity - k->nfree - hak_heap_cached(h, class);
	return live < h->classes[class].cap / 4u || h->cached > budget(h);
}

static uint32_t first_cap(unsigned class)
{
	return (uint32_t)hak_min(CAP_FIRST, CAP_FIRST_BYTES / hak_classes[class].stride);
}

/* The magazine is empty, and is to have no array. */
static void drop_magazine(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	hak_mag_set_limit(&h->mags[class], NO_ENTRY);
	hak_mag_set_top(&h->mags[class], NO_ENTRY);
	hak_meta_free(k->entries, (k->cap + 1) * sizeof *k->entries);
	h->home->room -= (size_t)k->cap * h->mags[class].stride;
	k->entries = NULL;
	k->cap = 0;
}

/* Gives the magazine an array of `cap` entries; it holds no more than those, and keeps them. */
static void resize_magazine(struct hak_heap *h, unsigned class, uint32_t cap)
{
	struct hak_heap_class *k = &h->classes[class];
	struct hak_mag *m = &h->mags[class];
	void **e = hak_meta_alloc((cap + 1) * sizeof *e);
	if (!e)
		return;
	close_gap(h, class);
	void **old = k->entries;
	uint32_t old_cap = k->cap, n = hak_heap_cached(h, class);
	if (old)
		memcpy(e + 1, old + 1, n * sizeof *e);
	h->home->room += ((size_t)cap - old_cap) * m->stride;
	k->entries = e;
	k->cap = (uint16_t)cap;
	hak_mag_set_top(m, e + n);
	hak_mag_set_limit(m, e + cap);
	if (old)
		hak_meta_free(old, (old_cap + 1) * sizeof *e);
}

static void shrink_magazine(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	uint32_t cap = (uint32_t)hak_max(first_cap(class), k->cap / 2u), have = hak_heap_cached(h, class);
	if (cap >= k->cap)
		return;
	if (have > cap / 2)
		drain_locked(h, class, have - cap / 2);
	if (cap)
		resize_magazine(h, class, cap);
	else
		drop_magazine(h, class);
}

/* Are the sizes in use so few that a magazine may hold more of large blocks? */
static bool may_hold_few(const struct hak_heap *h, unsigned class)
{
	size_t all = h->home->room + (size_t)(h->classes[class].cap + 1) * hak_classes[class].stride;
	return all <= FEW_SHARES * share();
}

/* The magazine is empty or full: it is made, or doubles, within the budget. */
static void grow_magazine(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	size_t stride = hak_classes[class].stride;
	uint32_t first = k->entries ? 0 : first_cap(class), most = magazine_most(class);
	size_t room = budget(h);
	bool idle;
	if (k->cap >= most && most < CAP_MOST && may_hold_few(h, class))
		most = (uint32_t)hak_min(CAP_MOST, CAP_BYTES_FEW / stride);
	if (k->cap >= most && stride < CAP_BULK_BYTES / CAP_MOST) {
		if (in_bulk(k, &idle)) {
			most = bulk_most(class);
			room /= 2;
		} else if (idle && k->cap > most) {
			shrink_magazine(h, class);
			return;
		}
	}
	uint32_t cap = first ? first : (uint32_t)hak_min(most, k->cap * 2u + 1);
	if (cap > k->cap && (first || h->cached + (cap - k->cap) * stride <= room))
		resize_magazine(h, class, cap);
}

/* Empties the magazines of classes that have been quiet, as the reclaimer asked. */
static void trim_locked(struct hak_heap *h)
{
	h->trim = false;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		struct hak_heap_class *k = &h->classes[c];
		if (!k->entries)
			continue;
		hak_mag_set_limit(&h->mags[c], k->entries + k->cap);
		if (h->home->classes[c].quiet >= h->trim_quiet && hak_heap_cached(h, c))
			drain_locked(h, c, UINT32_MAX);
	}
}

/* Takes up to `want` blocks out of the class's slab s and stores them at --*end. */
static uint32_t take(struct hak_heap *h, struct hak_slab *s, uint32_t want, void ***end)
{
	struct hak_heap_class *k = &h->home->classes[s->class];
	if (hak_unlikely(s->hollow))
		hak_holes_taken(s);
	uint32_t n = h->hard ? hak_hardened_slab_take(h, s, want, end) : hak_slab_take(s, want, end);
	k->nfree -= n;
	k->quiet = 0;
	s->calm = false;
	s->loose_at = hak_loose_at(hak_slab_class(s)->capacity, s->nfree);
	h->home->out += (size_t)n * hak_classes[s->class].stride;
	if (s->nfree == s->set_aside)
		list_remove(k, s);
	return n;
}

/* Gives a magazine that is empty the class's shape; its array stays. */
static void reshape_magazine(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	size_t old = h->mags[class].stride, stride = hak_classes[class].stride;
	if (old == stride)
		return;
	h->cached -= k->noted * old;
	h->home->all_cached -= k->noted * old;
	k->noted = 0;
	h->home->room += k->cap * stride - k->cap * old;
	shape_magazine(h, class);
}

/*
 * A request of a dynamic class. As long as the heap has slabs of it the class is what it was; else
 * it may have become another one, and the magazines of the heap and its guests, which are empty then,
 * with it. Under the heap's lock a class that is open stays what it is. False: it is closed.
 */
static bool enter_dyn(struct hak_heap *h, unsigned class)
{
	struct hak_heap *o = h->home;
	if (o->classes[class].slabs)
		return true;
	if (!hak_route_is_open(class))
		return false;
	reshape_magazine(o, class);
	for (struct hak_heap *g = o->guests; g; g = g->next_guest)
		reshape_magazine(g, class);
	/* the request's own may have an array for another size */
	struct hak_heap_class *k = &h->classes[class];
	if (k->entries && k->cap > bulk_most(class))
		drop_magazine(h, class);
	return true;
}

static void *take_one(struct hak_heap *h, struct hak_slab *s, bool *fresh)
{
	void *p, **end = &p + 1;
	if (!s)
		return NULL;
	uint32_t carved = s->carved;
	take(h, s, 1, &end);
	if (fresh)
		*fresh = s->zero && s->carved != carved;
	return p;
}

/* Takes up to `want` blocks and stores them from `first` on: those of one slab whatever it costs,
 * more only if they are at hand. Returns how many. */
static uint32_t take_many(struct hak_heap *h, struct hak_slab *s, unsigned class, uint32_t want, void **first)
{
	struct hak_heap *o = h->home;
	uint32_t left = want;
	void **end = first + want;
	bool lent = s && s->class != class;
	for (; s; s = !left ? NULL : lent ? replaced(o, class) : o->classes[class].head) {
		__builtin_prefetch(s->next, 1);
		left -= take(h, h->hard ? hak_hardened_slab_any(h, s) : s, left, &end);
	}
	if (left)
		memmove(first, first + left, (want - left) * sizeof *first);
	return want - left;
}

static void *refill_hard_locked(struct hak_heap *h, unsigned class)
{
	struct hak_bag *b = hak_bag_for_refill(h, class);
	h->refills++;
	if (!b)
		return take_one(h, find_slab(h, class, false), NULL);
	if (!hak_bag_ready(b)) /* none came by mail */
		hak_bag_set_ready(b, take_many(h, find_slab(h, class, false), class, (b->most + 3) / 4, hak_bag_ready_slots(b)));
	return hak_bag_ready(b) ? hak_bag_pick(h, b) : NULL;
}

/* Moves blocks out of another class's magazine, the last used on top. */
static uint32_t lend_cached(struct hak_heap *h, unsigned from, uint32_t want, void **first)
{
	uint32_t n = (uint32_t)hak_min(want, hak_heap_cached(h, from));
	for (uint32_t i = n; i-- > 0;)
		first[i] = hak_mag_pop(&h->mags[from]);
	if (n)
		note_cached(h, from);
	h->lent += n != 0;
	return n;
}

static void *refill_locked(struct hak_heap *h, unsigned class, bool lend)
{
	struct hak_heap_class *k = &h->classes[class], *of_home = &h->home->classes[class];
	h->refills++;
	look_at_next(h);
	grow_magazine(h, class);
	if (!k->entries) /* no memory for an array: one block at a time */
		return take_one(h, find_slab(h, class, lend), NULL);
	uint32_t want = k->cap / 2u + 1, n = 0;
	if (class >= HAK_STATIC_CLASSES && !of_home->head)
		n = lend_cached(h, hak_route_home(class), want, k->entries + 1);
	struct hak_slab *s = n ? NULL : find_slab(h, class, lend);
	if (s && s->class != class && class < HAK_STATIC_CLASSES)
		return take_one(h, s, NULL);
	if (s)
		n = take_many(h, s, class, want, k->entries + 1);
	if (!n)
		return NULL;
	/* the first block goes out, so the top is one below it */
	void **top = k->entries + n - 1;
	hak_mag_set_top(&h->mags[class], top);
	note_cached(h, class);
	return top[1];
}

void *hak_heap_refill(struct hak_heap *h, unsigned class, bool lend, bool *fresh)
{
	if (fresh)
		*fresh = false;
	hak_heap_flush(h);
	struct hak_heap *o = h->home;
	hak_lock(&o->lock);
	h->classes[class].rested = 0;
	if (h->trim)
		trim_locked(h);
	if (has_mail(o)) /* hardened, none is left for who collects without a bag for them */
		collect(o, h->hard ? UINT32_MAX : PARCEL_BATCH, h);
	void *p = hak_mag_pop(&h->mags[class]);
	/* unless one came by mail */
	if (!p && (class < HAK_STATIC_CLASSES || enter_dyn(h, class)))
		p = h->hard ? refill_hard_locked(h, class) :
		    fresh   ? take_one(h, find_slab(h, class, lend), fresh) : refill_locked(h, class, lend);
	hak_unlock(&o->lock);
	return p;
}

/* Returns n of the bag's blocks to their slabs; those that wait only if it is all of them. The last of those that
 * are ready has been chosen to go out next, and does. */
static void drain_hard_locked(struct hak_heap *h, unsigned class, uint32_t n)
{
	struct hak_bag *b = hak_bag_got(h->hard, class);
	uint32_t ready = hak_bag_ready(b), gone = (uint32_t)hak_min(n, ready);
	void **slots = hak_bag_ready_slots(b);
	h->drains++;
	put_cached(h, class, slots, gone);
	memmove(slots, slots + gone, (ready - gone) * sizeof *slots);
	hak_bag_set_ready(b, ready - gone);
	if (n == UINT32_MAX) {
		for (void **at = b->slots, **end = hak_bag_ready_slots(b); at < end; at++)
			if (*at) {
				put_cached(h, class, at, 1);
				*at = NULL;
			}
		hak_bag_set_waiting(b, 0);
	}
	note_cached(h, class);
}

void hak_heap_put_back(struct hak_heap *h, unsigned class, void *p, bool waited)
{
	struct hak_heap *o = h->home;
	hak_heap_flush(h);
	hak_lock(&o->lock);
	if (!(waited ? hak_bag_grow(h, class, p) : hak_bag_put(h, class, &p))) {
		struct hak_bag *b = hak_bag_got(h->hard, class);
		put_cached(h, class, &p, 1);
		if (b && hak_bag_ready(b) == b->most)
			drain_hard_locked(h, class, hak_bag_ready(b) / 2);
	}
	if (has_mail(o))
		collect(o, PARCEL_BATCH, h);
	hak_unlock(&o->lock);
}

/* Returns the magazine's oldest n entries to their slabs. */
static void drain_locked(struct hak_heap *h, unsigned class, uint32_t n)
{
	if (h->hard) {
		drain_hard_locked(h, class, n);
		return;
	}
	struct hak_heap_class *k = &h->classes[class];
	struct hak_mag *m = &h->mags[class];
	close_gap(h, class);
	uint32_t have = hak_heap_cached(h, class);
	n = (uint32_t)hak_min(n, have);
	h->drains++;
	put_cached(h, class, k->entries + 1, n);
	memmove(k->entries + 1, k->entries + 1 + n, (have - n) * sizeof(void *));
	hak_mag_set_top(m, k->entries + (have - n));
	note_cached(h, class);
}

/* What the heap keeps of a class that the program has left. With two live blocks a slab, at random, an e^-2 of
 * the slabs has none: then cached blocks keep those from becoming EMPTY. */
static void leave_class(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class], *of_home = &h->home->classes[class];
	uint64_t used = (uint64_t)of_home->slabs * hak_classes[class].capacity - of_home->nfree;
	if (k->noted && of_home->slabs > 1 && used < k->noted + LEFT_BLOCKS * of_home->slabs)
		drain_locked(h, class, k->noted);
	else if (!used && of_home->slabs)
		release_empty_of(h->home, class);
}

/* The fast path fills magazines to their limits without a note. So each slow path looks at one
 * more class, in turn; if the heap is over its budget then, half of what that one holds goes home. */
static void look_at_next(struct hak_heap *h)
{
	unsigned class = h->uncache_at = (h->uncache_at + 1) % HAK_CLASSES;
	struct hak_heap_class *k = &h->classes[class];
	note_cached(h, class);
	if (k->rested == RESTED_MOST)
		leave_class(h, class);
	else
		k->rested++;
	if (k->noted && h->cached > budget(h))
		drain_locked(h, class, (k->noted + 1u) / 2);
}

void hak_heap_drain_push(struct hak_heap *h, unsigned class, void *p)
{
	struct hak_heap *o = h->home;
	struct hak_heap_class *k = &h->classes[class];
	hak_heap_flush(h);
	hak_lock(&o->lock);
	close_gap(h, class);
	if (has_mail(o))
		collect(o, PARCEL_BATCH, h);
	if (h->trim)
		trim_locked(h);
	else if (too_large(h, class))
		shrink_magazine(h, class);
	else
		grow_magazine(h, class);
	look_at_next(h);
	if (!k->entries) {
		put_cached(h, class, &p, 1);
		hak_unlock(&o->lock);
		return;
	}
	struct hak_mag *m = &h->mags[class];
	if (hak_mag_top(m) >= hak_mag_limit(m))
		drain_locked(h, class, k->cap / 2u + 1);
	hak_mag_push(m, hak_mag_top(m), p);
	hak_unlock(&o->lock);
}

void hak_heap_put(struct hak_heap *h, unsigned class, void *p)
{
	struct hak_heap *o = h->home;
	hak_lock(&o->lock);
	put_cached(h, class, &p, 1);
	hak_unlock(&o->lock);
}

/* ---- remote frees ---------------------------------------------------------------- */

/* Sends the blocks of the buffer home, those of one heap in one parcel. What there is no
 * memory for stays in the buffer. */
static void flush_locked(struct hak_heap *h)
{
	uint32_t n = h->remote_count;
	h->remote_flushes++;
	while (n) {
		struct hak_parcel *parcel = parcel_new(h->home);
		uint32_t to = 0, left = 0, tag = 0;
		size_t bytes = 0;
		const void *before = NULL;
		if (!parcel)
			break;
		for (uint32_t i = 0; i < n; i++) {
			void *p = h->remote[i];
			if (!tag || !are_neighbours(p, before)) {
				HAK_STEP(P1);
				tag = tag_of_block(p);
			}
			before = p;
			if (!tag)
				continue;
			if (!to)
				to = hak_tag_heap(tag);
			if (hak_tag_heap(tag) == to) {
				parcel->block[parcel->count++] = p;
				bytes += hak_classes[hak_tag_code(tag) >> HAK_CODE_SHIFT].stride;
			} else {
				h->remote[left++] = p;
			}
		}
		n = left;
		h->remote_out += parcel->count;
		struct hak_heap *o = hak_heap_by_id(to);
		HAK_STEP(K4);
		if (!parcel->count) {
			parcel_free(h->home, parcel);
			continue;
		}
		hak_node_count_frees(h->node, o->node, parcel->count);
		if (o == h->home) /* adopted by us since */
			unpack(o, parcel, NULL);
		else if (push(o, parcel, bytes) > INBOX_MOST)
			try_collect(o);
	}
	h->remote_count = n;
	h->remote_bytes = 0;
}

void hak_heap_flush(struct hak_heap *h)
{
	if (!h->remote_count)
		return;
	hak_lock(&h->home->lock);
	flush_locked(h);
	hak_unlock(&h->home->lock);
}

/* Locks the heap that owns a block that is out. No lock is held. NULL: it cannot go home. */
static struct hak_heap *lock_owner(const void *p)
{
	for (;;) {
		HAK_STEP(P7);
		uint32_t tag = tag_of_block(p);
		struct hak_heap *o = hak_heap_by_id(hak_tag_heap(tag));
		if (!o || o->abandoned) /* reported, or cut off by a raw fork: a leak there */
			return NULL;
		hak_lock(&o->lock);
		HAK_STEP(P8);
		/* relaxed: it stays under the lock if it names o */
		if (atomic_load_explicit(hak_tag_of(p), memory_order_relaxed) == tag)
			return o;
		hak_unlock(&o->lock);
	}
}

/* Puts a block home under its owner's lock. No lock is held. */
static void deliver(void *p)
{
	struct hak_heap *o = lock_owner(p);
	if (!o)
		return;
	/* relaxed: ours to read */
	put_block(o, hak_tag_code(atomic_load_explicit(hak_tag_of(p), memory_order_relaxed)) >> HAK_CODE_SHIFT, p);
	o->remote_in++;
	unsigned node = o->node;
	hak_unlock(&o->lock);
	hak_node_count_frees(hak_node_local(), node, 1);
}

void hak_heap_take_hole(struct hak_heap *h, struct hak_slab *s, struct hak_hole hole)
{
	struct hak_heap_class *k = &h->classes[s->class];
	hak_slab_take_hole(s, hole);
	k->nfree -= hole.count;
	h->out += (size_t)hole.count * hak_classes[s->class].stride;
	if (s->nfree == s->set_aside)
		list_remove(k, s);
}

void hak_heap_put_hole(struct hak_slab *s, struct hak_hole hole)
{
	struct hak_heap *o = lock_owner(s->base);
	if (!o)
		return;
	const struct hak_class *c = hak_slab_class(s);
	uint32_t put = 0;
	for (uint32_t i = hole.first; i < hole.first + hole.count; i++) {
		if (hak_slab_put(s, i))
			put++;
		else /* by the program, while it was ours */
			hak_fault("double free", s->base + (size_t)i * c->stride, c->stride, hak_heap_id(o));
	}
	o->classes[s->class].nfree += put;
	o->out -= (size_t)put * c->stride;
	if (put)
		slab_got_free(o, s);
	hak_unlock(&o->lock);
}

void hak_heap_remote_free(struct hak_heap *h, unsigned class, void *p)
{
	if (h == &hak_heap_none || h->remote_count == HAK_REMOTE_BLOCKS) {
		/* no heap to buffer it in, or no memory for parcels */
		deliver(p);
		return;
	}
	hak_heap_remote_push(h, p, hak_classes[class].stride);
	if (h->remote_count == HAK_REMOTE_BLOCKS || h->remote_bytes >= HAK_REMOTE_BYTES)
		hak_heap_flush(h);
}

/* ---- emptying -------------------------------------------------------------------- */

static void release_empty_locked(struct hak_heap *h, uint32_t quiet)
{
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		struct hak_heap_class *k = &h->classes[c];
		if (!k->slabs || k->quiet >= quiet)
			release_empty_of(h, c);
	}
}

static void count_quiet(struct hak_heap *h)
{
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		h->classes[c].quiet += h->classes[c].quiet < QUIET_MOST;
}

static void drain_all(struct hak_heap *h)
{
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		if (hak_heap_cached(h, c))
			drain_locked(h, c, UINT32_MAX);
}

void hak_heap_empty(struct hak_heap *h)
{
	struct hak_heap *o = h->home;
	hak_lock(&o->lock);
	flush_locked(h);
	collect(o, UINT32_MAX, NULL);
	drain_all(h);
	collect(o, UINT32_MAX, NULL);
	release_empty_locked(o, 0);
	hak_unlock(&o->lock);
}

void hak_heap_return_cached(struct hak_heap *h)
{
	/* a signal handler that ends the process may have come in the middle of a slow path */
	if (!hak_trylock(&h->home->lock))
		return;
	drain_all(h);
	hak_unlock(&h->home->lock);
}

/*
 * Cached blocks keep their slabs from becoming EMPTY, and only the owner may take them out of
 * a magazine without a barrier. So all its magazines are made to look full: its next free takes the slow
 * path, once, and finds the request.
 */
static void ask_for_trim(struct hak_heap *h, uint32_t quiet)
{
	h->trim_quiet = (uint16_t)(h->trim ? hak_min(h->trim_quiet, quiet) : quiet);
	h->trim = true;
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		if (h->classes[c].entries)
			hak_mag_set_limit(&h->mags[c], h->classes[c].entries);
}

/* idle: all classes are quiet, of a guest too, whose home may use them. True: it has so much cached that a
 * later pass may take. */
static bool trim_if_worth(struct hak_heap *h, uint32_t quiet, bool idle)
{
	size_t all = 0, bytes = 0;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		size_t cached = (size_t)hak_heap_cached(h, c) * h->mags[c].stride;
		all += cached;
		if (idle || h->home->classes[c].quiet > quiet)
			bytes += cached;
	}
	if (bytes >= TRIM_LEAST)
		ask_for_trim(h, idle ? 0 : quiet + 1);
	return all >= TRIM_LEAST;
}

/*
 * Takes home what the magazines of h hold below their tops. h is another thread's, which may be anywhere in
 * its fast path, and its home's lock is held. The fast path knows nothing of this:
 *
 *   here      (1) swaps the entries below the top for NULL; a barrier on all threads; (2) reads the top;
 *             a barrier; (3) an entry is ours if it is below that top and NULL is still there. Else it and
 *             those above it are put back (4), unless the owner has put another one there
 *   a pop     loads the entry at the top; if it is not NULL lowers the top
 *   a push    stores the entry above the top, then raises the top
 *
 * The owner has the block of entry i only if it popped i, by a load before (1): a later one finds NULL, and the
 * slow path waits for the lock. So the load came before the first barrier. Then its store of the lower top did
 * too, or comes next: (2) reads i at most, unless the owner has pushed since. To be above i again it pushes to i
 * first: what (2) saw is complete at the second barrier, so (3) finds another block there. So what is ours was not
 * popped. To put back is always right: if i was popped it is above the top, and is pushed to before it is popped
 * again. So nothing is lost where the kernel has no barrier. Of a magazine that was emptied and filled between
 * two swaps the upper half may be NULL alone: so those go back, and the gap is at the bottom. The uppermost
 * block stays: the owner may just have loaded it. models/magazine.pml.
 */
static void take_cached(struct hak_heap *h)
{
	void **tops[HAK_CLASSES], **from[HAK_CLASSES];
	uint32_t count[HAK_CLASSES], most = HAK_META_MAX / sizeof(void *), n = 0;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		void **top = hak_mag_top(&h->mags[c]);
		from[c] = lowest(h, c, top);
		count[c] = from[c] < top ? (uint32_t)hak_min((size_t)(top - from[c]), most - n) : 0;
		n += count[c];
	}
	void **taken = n ? hak_meta_alloc(n * sizeof *taken) : NULL, **at = taken;
	if (!taken)
		return;
	/* relaxed, but for one: the barriers order them */
	for (unsigned c = 0; c < HAK_CLASSES; at += count[c++])
		for (uint32_t i = 0; i < count[c]; i++) {
			HAK_STEP(M1);
			/* acquire CACHED: the owner's last use of the block */
			at[i] = __atomic_exchange_n(&from[c][i], NULL, __ATOMIC_ACQUIRE);
		}
	bool ordered = hak_engine_barrier();
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		HAK_STEP(M2);
		tops[c] = hak_mag_top(&h->mags[c]);
	}
	ordered = ordered && hak_engine_barrier();
	at = taken;
	for (unsigned c = 0; c < HAK_CLASSES; at += count[c++]) {
		uint32_t ours = 0;
		bool whole = ordered;
		for (uint32_t i = 0; i < count[c]; i++) {
			void *p = at[i], *none = NULL;
			HAK_STEP(M3);
			whole = whole && p && &from[c][i] < tops[c] && !__atomic_load_n(&from[c][i], __ATOMIC_RELAXED);
			if (whole) {
				at[ours++] = p;
				continue;
			}
			HAK_STEP(M4);
			__atomic_compare_exchange_n(&from[c][i], &none, p, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		}
		if (ours) {
			put_cached(h, c, at, ours);
			note_cached(h, c);
		}
	}
	hak_meta_free(taken, n * sizeof *taken);
}

/* Has its thread taken nothing from slabs and put nothing back since the last pass? */
static bool is_idle(struct hak_heap *h)
{
	uint64_t before = h->slow_paths;
	h->slow_paths = h->refills + h->drains;
	return h->slow_paths == before;
}

/* False: busy, or not to be visited. A stock waits for its use; only who wants everything takes it. */
static bool lock_for_visit(struct hak_heap *h, uint32_t quiet)
{
	return !h->abandoned && !(h->stock && quiet) && hak_trylock(&h->home->lock);
}

bool hak_heap_visit(struct hak_heap *h, uint32_t quiet)
{
	struct hak_heap *o = h->home;
	bool pending = false;
	if (!lock_for_visit(h, quiet))
		return false;
	if (h == o)
		collect(o, UINT32_MAX, NULL);
	bool idle = is_idle(h), takes = h != hak_heap_self && hak_engine_has_barrier();
	if (h->hard)
		; /* its bags stay */
	else if (takes && ((idle && h->trim) || !quiet))
		take_cached(h);
	else
		pending = trim_if_worth(h, quiet, idle) && takes;
	if (h == o) {
		release_empty_locked(o, quiet);
		count_quiet(o);
	}
	hak_unlock(&o->lock);
	return pending;
}

void hak_heap_release_empty(struct hak_heap *h, uint32_t quiet)
{
	if (h->home != h || !lock_for_visit(h, quiet))
		return;
	release_empty_locked(h, quiet);
	hak_unlock(&h->lock);
}

bool hak_heap_figures(struct hak_heap *h, struct hak_heap_figures *sum, uint64_t ns)
{
	bool locked = !h->abandoned && hak_lock_timed(&h->home->lock, ns);
	if (!locked && !h->abandoned)
		return false;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		struct hak_heap_class *k = &h->classes[c];
		/* they may be lent, without a slab of this class; who vanished uses none of its */
		uint32_t cached = locked ? hak_heap_cached(h, c) : 0;
		sum->cached[c] += cached;
		sum->heaps[c] += k->slabs != 0;
		sum->slabs[c] += k->slabs;
		sum->nfree[c] += k->nfree;
		sum->out[c] += (uint64_t)k->slabs * hak_classes[c].capacity - k->nfree;
		if (!locked || hak_route_is_open(c))
			continue;
		release_empty_of(h, c);
		if (cached) {
			h->home->classes[c].quiet = QUIET_MOST;
			ask_for_trim(h, QUIET_MOST);
		}
	}
	if (locked)
		hak_unlock(&h->home->lock);
	return true;
}

/* ---- parking --------------------------------------------------------------------- */

/*
 * More threads than a few a CPU do not run at once. If each had slabs of its own, each would hold a few
 * blocks in many of them, and most of what a thread frees would be another heap's. So from a number on new
 * heaps are guests of those there are, in turn.
 */
static struct {
	struct hak_heap *last; /* of a ring */
	uint32_t count;
} homes[HAK_NODES]; /* under ids_lock */

/* By the CPUs of the first thread, before anybody pins any: the process's. With several nodes each may have
 * as many. */
static uint32_t homes_most(void)
{
	static uint32_t most;
	cpu_set_t mask;
	uint32_t each = (uint32_t)hak_option_get(HAK_OPT_heaps_per_cpu);
	if (!most && each && !hak_sys.getaffinity(sizeof mask, &mask))
		most = each * (uint32_t)CPU_COUNT(&mask);
	if (!most)
		most = UINT32_MAX; /* as asked for, or more CPUs than fit */
	return most;
}

/* The heap's home; ids_lock is held, and nobody can find h yet. */
static void find_home(struct hak_heap *h)
{
	struct hak_heap *o = homes[h->node].last;
	if (h->stock)
		return;
	if (homes[h->node].count < homes_most()) {
		h->next_home = o ? o->next_home : h;
		if (o)
			o->next_home = h;
		homes[h->node].last = h;
		homes[h->node].count++;
		return;
	}
	o = homes[h->node].last = o->next_home;
	if (o->abandoned)
		return;
	hak_lock(&o->lock);
	h->home = o;
	h->tag = o->tag;
	h->next_guest = o->guests;
	o->guests = h;
	o->guest_count++;
	for (unsigned c = HAK_STATIC_CLASSES; c < HAK_CLASSES; c++)
		if (o->classes[c].slabs)
			shape_magazine(h, c);
	hak_unlock(&o->lock);
}

static struct hak_heap *heap_new(unsigned node, bool stock)
{
	struct hak_heap *h = hak_meta_alloc(sizeof *h);
	if (!h)
		return NULL;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		hak_mag_set_top(&h->mags[c], NO_ENTRY);
		hak_mag_set_limit(&h->mags[c], NO_ENTRY);
	}
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++)
		shape_magazine(h, c);
	h->lock = (struct hak_lock)HAK_LOCK_INIT(HAK_RANK_HEAP);
	h->node = node;
	h->stock = stock;
	h->home = h;
	if (!hak_hardened) {
		h->remote_limit = HAK_REMOTE_BLOCKS - 1;
	} else if (!(h->hard = hak_hard_new())) {
		hak_meta_free(h, sizeof *h);
		return NULL;
	}
	hak_lock(&ids_lock);
	/* relaxed: written under the lock */
	uint32_t id = atomic_load_explicit(&hak_heap_total, memory_order_relaxed) + 1;
	struct hak_heap *_Atomic *chunk = id > HAK_HEAP_MAX ? NULL :
		atomic_load_explicit(&hak_heap_chunks[id / HAK_CHUNK_HEAPS], memory_order_relaxed);
	if (!chunk && id <= HAK_HEAP_MAX) {
		chunk = hak_meta_alloc(HAK_CHUNK_HEAPS * sizeof *chunk);
		if (chunk)
			/* release HEAP */
			atomic_store_explicit(&hak_heap_chunks[id / HAK_CHUNK_HEAPS], chunk, memory_order_release);
	}
	if (chunk) {
		h->tag = hak_tag(id, 0);
		find_home(h);
		HAK_STEP(P12);
		atomic_store_explicit(&chunk[id % HAK_CHUNK_HEAPS], h, memory_order_release); /* release HEAP */
		atomic_store_explicit(&hak_heap_total, id, memory_order_release); /* release HEAP */
	}
	hak_unlock(&ids_lock);
	if (chunk)
		return h;
	hak_meta_free(h, sizeof *h);
	return NULL;
}

struct hak_heap *hak_heap_unpark(unsigned node)
{
	struct hak_node *n = &hak_nodes[node];
	struct hak_heap *h = unpark(n, &n->parked);
	return h ? h : unpark(n, &n->parked_guests);
}

struct hak_heap *hak_heap_acquire(unsigned node)
{
	struct hak_heap *h = hak_heap_unpark(node);
	return h ? h : heap_new(node, false);
}

struct hak_heap *hak_heap_stock(unsigned node)
{
	/* relaxed: stored by this thread, or by nobody */
	struct hak_heap *h = atomic_load_explicit(&hak_nodes[node].stock, memory_order_relaxed);
	if (h)
		return h;
	h = heap_new(node, true);
	if (h)
		/* release STOCK: its fields */
		atomic_store_explicit(&hak_nodes[node].stock, h, memory_order_release);
	return h;
}

void hak_heap_park(struct hak_heap *h)
{
	struct hak_node *n = &hak_nodes[h->node];
	struct hak_heap **list = h->home == h ? &n->parked : &n->parked_guests;
	HAK_STEP(K1);
	hak_lock(&n->park_lock);
	h->park_next = *list;
	h->parked = true;
	__atomic_store_n(list, h, __ATOMIC_RELAXED); /* racy readers take it as a hint */
	hak_unlock(&n->park_lock);
}

/* ---- fork ------------------------------------------------------------------------ */

/* Each id up to the count has a heap, which gcc 14 cannot know: inlined, it warns of the lock of none. */
static HAK_NOINLINE struct hak_lock *lock_of(uint32_t id)
{
	return &hak_heap_by_id(id)->lock;
}

void hak_heap_fork_prepare(void)
{
	hak_lock(&ids_lock);
	for (uint32_t id = 1; id <= hak_heap_count(); id++)
		hak_lock(lock_of(id));
	for (unsigned i = 0; i < HAK_NODES; i++)
		hak_lock(&hak_nodes[i].park_lock);
	for (unsigned i = 0; i < HAK_NODES; i++)
		hak_lock(&hak_nodes[i].lock);
}

void hak_heap_fork_parent(void)
{
	for (unsigned i = 0; i < HAK_NODES; i++)
		hak_unlock(&hak_nodes[i].lock);
	for (unsigned i = 0; i < HAK_NODES; i++)
		hak_unlock(&hak_nodes[i].park_lock);
	for (uint32_t id = hak_heap_count(); id >= 1; id--)
		hak_unlock(lock_of(id));
	hak_unlock(&ids_lock);
}

static void park_vanished(struct hak_heap *self)
{
	for (uint32_t id = 1; id <= hak_heap_count(); id++) {
		struct hak_heap *h = hak_heap_by_id(id);
		if (h != self && !h->parked && !h->abandoned && !h->stock)
			hak_heap_park(h);
	}
}

void hak_heap_fork_child(struct hak_heap *self)
{
	for (unsigned i = 0; i < HAK_NODES; i++) {
		hak_lock_reset(&hak_nodes[i].lock);
		hak_lock_reset(&hak_nodes[i].park_lock);
	}
	for (uint32_t id = hak_heap_count(); id >= 1; id--)
		hak_lock_reset(lock_of(id));
	hak_lock_reset(&ids_lock);
	park_vanished(self);
}

void hak_heap_fork_raw(struct hak_heap *self)
{
	for (unsigned i = 0; i < HAK_NODES; i++) {
		struct hak_node *n = &hak_nodes[i];
		if (atomic_load_explicit(&n->park_lock.state, memory_order_relaxed)) {
			/* the list may be half changed: leave its heaps, start anew */
			n->park_lock.state = 0;
			n->parked = n->parked_guests = NULL;
		}
		n->lock.state = 0; /* growth: at worst a step that was mapped is not opened */
	}
	ids_lock.state = 0;
	for (uint32_t id = 1; id <= hak_heap_count(); id++) {
		struct hak_heap *h = hak_heap_by_id(id);
		/* our own too: it may be another thread that was changing it */
		if (h && atomic_load_explicit(&h->lock.state, memory_order_relaxed))
			h->abandoned = true;
		else if (h)
			h->lock.state = 0;
	}
	for (uint32_t id = 1; id <= hak_heap_count(); id++) {
		struct hak_heap *h = hak_heap_by_id(id);
		if (h)
			h->abandoned = h->home->abandoned;
	}
	park_vanished(self);
}
