/* SPDX-License-Identifier: MIT */
/* Heaps: refill, drain, remote frees, parking. */
#include "heap.h"

#include <string.h>

#include "die.h"
#include "meta.h"
#include "options.h"
#include "probe.h"
#include "sys/sys.h"

#define CAP_FIRST 7u		     /* an array of 64 bytes */
#define CAP_MOST 127u		     /* more does not pay: a refill's or drain's fixed cost is 4 instructions a block */
#define CAP_LEAST 1u
#define CAP_FIRST_BYTES ((size_t)32 << 10) /* what a magazine may hold before it has grown */
#define CAP_BYTES ((size_t)1 << 20) /* and after */
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
/* A heap's first slab of a class lies on small pages until the heap has this much out: a
 * thread with a few blocks of many sizes, asleep, must not hold huge pages. */
#define OUT_BEFORE_HUGE ((size_t)2 << 20)
#define OWN_BEFORE_ASKING 16u /* refills from own slabs until the thread's policy is asked for */
#define RESCUE_LOOKS 8u /* heaps looked at before a slab is claimed */

static void *const no_entry[1] = { NULL };
#define NO_ENTRY ((void **)(uintptr_t)no_entry)

struct hak_heap hak_heap_none = {
	.mags = { [0 ... HAK_CLASSES - 1] = { .top = (void **)no_entry, .limit = (void **)no_entry } },
	.tag = (HAK_HEAP_MAX + 1) << HAK_TAG_HEAP_SHIFT,
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

/* ---- slabs ---------------------------------------------------------------------- */

/* Tells the node how much the heap has out, which decides about huge pages. */
static void note_out(struct hak_heap *h)
{
	/* relaxed: a threshold */
	atomic_fetch_add_explicit(&hak_nodes[h->node].out_bytes, h->out - h->out_known, memory_order_relaxed);
	h->out_known = h->out;
}

/* Gives an EMPTY slab back to its node. */
static void release_slab(struct hak_heap *h, struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	struct hak_heap_class *k = &h->classes[s->class];
	struct hak_arena *a = hak_arena_of(s->base);
	uint32_t granule = hak_granule_of(s->base);
	list_remove(k, s);
	k->slabs--;
	k->nfree -= c->capacity;
	h->slabs_released++;
	note_out(h);
	hak_slab_fini(a, s);
	hak_pool_release(a, granule, c->granules);
}

/* After blocks came back. One EMPTY slab a class stays: an allocation right after the
 * last free must not make a slab again. */
static void slab_got_free(struct hak_heap *h, struct hak_slab *s)
{
	struct hak_heap_class *k = &h->classes[s->class];
	if (!s->available)
		list_append(k, s);
	if (s->nfree == hak_slab_class(s)->capacity && k->head != k->tail)
		release_slab(h, s);
}

/* p's granule has h's tag of the class, and h's lock is held. */
static void put_block(struct hak_heap *h, unsigned class, void *p)
{
	const struct hak_class *c = &hak_classes[class];
	struct hak_slab *s = slab_of(p, c);
	uint32_t i = hak_block_index(p, c);
	/* the offset was checked when the block was freed, but the slab may have become
	 * another class's since if it was freed twice */
	if (i >= c->capacity || !hak_block_on_stride(p, c)) {
		hak_fault("not the start of a block", p, c->stride, hak_heap_id(h));
	} else if (!hak_slab_put(s, i)) {
		hak_fault("double free", p, c->stride, hak_heap_id(h));
	} else {
		h->classes[class].nfree++;
		h->out -= c->stride;
		slab_got_free(h, s);
	}
}

/*
 * Puts blocks of the class back that were pushed on a magazine of h, so each was on its
 * stride. Neighbours in a magazine are often of one slab: what is the same for all of them
 * is done once.
 */
static void put_cached(struct hak_heap *h, unsigned class, void *const *blocks, uint32_t n)
{
	const struct hak_class *c = &hak_classes[class];
	uint32_t tag = hak_tag(hak_heap_id(h), HAK_CODE(class));
	for (uint32_t i = 0; i < n;) {
		uintptr_t base = (uintptr_t)blocks[i] & ~(uintptr_t)c->mask;
		/* a block that is there twice may have outlived its slab.
		 * relaxed: ours to read, we hold the lock */
		if (atomic_load_explicit(hak_tag_of((void *)base), memory_order_relaxed) != tag) {
			hak_fault("double free", blocks[i++], c->stride, hak_heap_id(h));
			continue;
		}
		struct hak_slab *s = slab_of((void *)base, c);
		uint32_t before = s->nfree;
		i += hak_slab_put_run(s, blocks + i, n - i, hak_heap_id(h));
		uint32_t put = s->nfree - before;
		h->classes[class].nfree += put;
		h->out -= (size_t)put * c->stride;
		if (put)
			slab_got_free(h, s);
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
static struct hak_parcel *parcel_new(struct hak_heap *h)
{
	struct hak_parcel *p = h->spares;
	if (p) {
		h->spares = p->next;
		h->spare_count--;
	} else {
		p = hak_meta_alloc(sizeof *p);
	}
	if (p)
		p->count = 0;
	return p;
}

static void parcel_free(struct hak_heap *h, struct hak_parcel *p)
{
	if (h->spare_count == SPARES_MOST) {
		hak_meta_free(p, sizeof *p);
		return;
	}
	p->next = h->spares;
	h->spares = p;
	h->spare_count++;
}

/* Returns the inbox's weight. */
static uint64_t push(struct hak_heap *to, struct hak_parcel *p, size_t bytes)
{
	struct hak_parcel *top = atomic_load_explicit(&to->inbox, memory_order_relaxed);
	do {
		p->next = top;
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

/* Into the magazine, from where it goes out again without a refill. False: no room there. */
static bool push_cached(struct hak_heap *h, unsigned class, void *p)
{
	struct hak_mag *m = &h->mags[class];
	void **top = hak_mag_top(m);
	if (top >= hak_mag_limit(m) || *top == p || !hak_block_on_stride(p, &hak_classes[class]))
		return false;
	top[1] = p;
	atomic_signal_fence(memory_order_release); /* the entry before the top: see hak_mag */
	hak_mag_set_top(m, top + 1);
	return true;
}

/* own: the caller is h's thread and may use its magazines. */
static void unpack(struct hak_heap *h, struct hak_parcel *parcel, bool own)
{
	uint32_t kept = 0, next = 0;
	for (uint32_t i = 0; i < parcel->count; i++) {
		void *p = parcel->block[i];
		uint32_t tag = tag_of_block(p);
		if (hak_tag_heap(tag) == hak_heap_id(h)) {
			unsigned class = hak_tag_code(tag) >> HAK_CODE_SHIFT;
			if (!own || !push_cached(h, class, p))
				put_block(h, class, p);
			h->remote_in++;
		} else if (tag) {
			next = hak_tag_heap(tag);
			parcel->block[kept++] = p;
		}
	}
	parcel->count = kept;
	if (kept) /* adopted by another heap, which passes on what is not its own */
		push(hak_heap_by_id(next), parcel, 0);
	else
		parcel_free(h, parcel);
}

static bool has_mail(struct hak_heap *h)
{
	/* relaxed: what is pushed now is found next time */
	return h->rest || atomic_load_explicit(&h->inbox, memory_order_relaxed);
}

/* Works off at most `most` parcels; takes the whole inbox for it and keeps the rest. h's
 * lock is held. */
static void collect(struct hak_heap *h, uint32_t most, bool own)
{
	for (; most && has_mail(h); most--) {
		if (!h->rest) {
			/* acquire PARCEL: what its senders wrote */
			h->rest = atomic_exchange_explicit(&h->inbox, NULL, memory_order_acquire);
			atomic_store_explicit(&h->inbox_weight, 0, memory_order_relaxed);
		}
		struct hak_parcel *p = h->rest;
		h->rest = p->next;
		unpack(h, p, own);
	}
}

static void try_collect(struct hak_heap *o)
{
	if (o->abandoned || !hak_trylock(&o->lock))
		return;
	collect(o, UINT32_MAX, false);
	hak_unlock(&o->lock);
}

static void near_note(struct hak_heap *h, const struct hak_run *run)
{
	uint32_t super = run->granule / HAK_SUPER_GRANULES;
	if (run->arena->node != h->node)
		return; /* another node helped out once: it is not asked first next time */
	for (uint32_t i = 0; i < HAK_NEAR; i++)
		if (h->near[i].arena == run->arena && h->near[i].super == super)
			return;
	h->near[h->near_at].arena = run->arena;
	h->near[h->near_at].super = super;
	h->near_at = (h->near_at + 1) % HAK_NEAR;
}

static bool claim(struct hak_heap *h, uint32_t count, bool aligned, bool huge, struct hak_run *run)
{
	bool ok = false;
	for (uint32_t i = 0; i < HAK_NEAR && !ok; i++)
		ok = h->near[i].arena && hak_pool_claim_near(h->near[i].arena, h->near[i].super, count, aligned, run);
	ok = ok || hak_pool_claim(h->node, count, aligned, huge, run);
	if (ok)
		near_note(h, run);
	return ok;
}

bool hak_heap_claim_run(struct hak_heap *h, uint32_t count, struct hak_run *run)
{
	hak_lock(&h->lock);
	bool ok = claim(h, count, false, hak_node_wants_huge(h->node), run);
	hak_unlock(&h->lock);
	return ok;
}

static bool claim_slab(struct hak_heap *h, unsigned class, struct hak_run *run)
{
	bool huge = (h->classes[class].slabs || h->out >= OUT_BEFORE_HUGE) && hak_node_wants_huge(h->node);
	return claim(h, hak_classes[class].granules, true, huge, run);
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
		if (o != h && o->node == h->node && atomic_load_explicit(&o->inbox, memory_order_relaxed))
			try_collect(o);
	}
}

/*
 * Takes the PARTIAL slabs of the class from one parked heap (stage 0.7). Both heaps'
 * locks are held; the parked one by trylock, after it was popped off its list, so that
 * no one else can wait for ours with it.
 */
static void drain_locked(struct hak_heap *h, unsigned class, uint32_t n);

static void move_out(struct hak_heap *from, struct hak_heap *h, const struct hak_slab *s)
{
	const struct hak_class *c = hak_slab_class(s);
	size_t out = (size_t)(c->capacity - s->nfree) * c->stride;
	from->out -= out;
	h->out += out;
}

static bool adopt(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	struct hak_heap *from = hak_heap_unpark(h->node);
	bool any = false;
	if (!from)
		return false;
	if (hak_trylock(&from->lock)) {
		/* what its thread had cached is free memory too, but only its slabs know */
		struct hak_heap_class *fk = &from->classes[class];
		collect(from, PARCEL_BATCH, false);
		if (hak_heap_cached(from, class))
			drain_locked(from, class, UINT32_MAX);
		for (struct hak_slab *s = fk->head, *next; s; s = next) {
			next = s->next;
			uint32_t tag = hak_tag(hak_heap_id(h), HAK_CODE(class));
			list_remove(fk, s);
			fk->slabs--;
			fk->nfree -= s->nfree;
			move_out(from, h, s);
			hak_tags_set(hak_arena_of(s->base), hak_granule_of(s->base), hak_slab_class(s)->granules,
				     tag, tag);
			k->slabs++;
			k->nfree += s->nfree;
			h->adopted++;
			list_append(k, s);
			any = true;
		}
		hak_unlock(&from->lock);
	}
	hak_heap_park(from);
	return any && k->head;
}

/* A slab of the class with free blocks, through the stages; NULL: no memory. */
static struct hak_slab *find_slab(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
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
	while (h->rest) {
		collect(h, PARCEL_BATCH, false); /* a refill is under way */
		if (k->head) {
			h->stages[HAK_STAGE_OWN]++;
			return k->head;
		}
	}
	h->slab_requests++;
	/* relaxed: a hint */
	if (__atomic_load_n(&hak_nodes[h->node].parked, __ATOMIC_RELAXED) && adopt(h, class)) {
		h->stages[HAK_STAGE_ADOPTED]++;
		return k->head;
	}
	rescue(h);
	if (!claim_slab(h, class, &run))
		return NULL;
	if (!hak_slab_init(run.arena, run.granule, class, hak_heap_id(h), run.zero)) {
		hak_pool_release(run.arena, run.granule, hak_classes[class].granules);
		return NULL;
	}
	h->stages[run.stage]++;
	HAK_PROBE(slab_new, hak_classes[class].stride, run.stage);
	struct hak_slab *s = &run.arena->slabs[run.granule];
	k->slabs++;
	k->nfree += hak_classes[class].capacity;
	note_out(h);
	list_append(k, s);
	return s;
}

/* ---- magazines ------------------------------------------------------------------ */

uint32_t hak_heap_cached(const struct hak_heap *h, unsigned class)
{
	if (!h->classes[class].entries)
		return 0;
	return (uint32_t)(hak_mag_top(&h->mags[class]) - h->classes[class].entries);
}

/* A heap's share of what all magazines may hold, which shrinks with the number of heaps. */
static size_t share(void)
{
	size_t own = (size_t)hak_option_get(HAK_OPT_magazine_kib) << 10;
	return hak_min(own, hak_max(BUDGET_LEAST, BUDGET_ALL / (hak_heap_count() + 1)));
}

/* What the heap's magazines may hold: its share, or as much as the program has of it. */
static size_t budget(const struct hak_heap *h)
{
	return hak_max(share(), h->out - h->cached);
}

/* Does the full magazine hold too much? The program has freed much of the heap, or of the
 * class: then a few cached blocks in many slabs keep all of those from becoming EMPTY. */
static bool too_large(const struct hak_heap *h, unsigned class)
{
	const struct hak_heap_class *k = &h->classes[class];
	if (h->mag_bytes <= share())
		return false;
	uint64_t live = (uint64_t)k->slabs * hak_classes[class].capacity - k->nfree - hak_heap_cached(h, class);
	return live < k->cap || h->mag_bytes > h->out - h->cached;
}

/* After a slow path of the class. What the fast path does until the next one is not known,
 * which is right to within a magazine. */
static void note_cached(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	uint32_t n = hak_heap_cached(h, class);
	h->cached += (size_t)n * hak_classes[class].stride - (size_t)k->noted * hak_classes[class].stride;
	k->noted = (uint16_t)n;
}

static uint32_t first_cap(unsigned class)
{
	return (uint32_t)hak_min(CAP_FIRST, hak_max(CAP_LEAST, CAP_FIRST_BYTES / hak_classes[class].stride));
}

/* Gives the magazine an array of `cap` entries; it holds no more than those, and keeps them. */
static void resize_magazine(struct hak_heap *h, unsigned class, uint32_t cap)
{
	struct hak_heap_class *k = &h->classes[class];
	struct hak_mag *m = &h->mags[class];
	size_t stride = hak_classes[class].stride;
	void **e = hak_meta_alloc((cap + 1) * sizeof *e);
	if (!e)
		return;
	uint32_t n = hak_heap_cached(h, class);
	if (n)
		memcpy(e + 1, k->entries + 1, n * sizeof *e);
	void **old = k->entries;
	uint32_t old_cap = k->cap;
	k->entries = e;
	k->cap = (uint16_t)cap;
	h->mag_bytes = h->mag_bytes + cap * stride - old_cap * stride;
	hak_mag_set_top(m, e + n);
	hak_mag_set_limit(m, e + cap);
	if (old)
		hak_meta_free(old, (old_cap + 1) * sizeof *e);
}

/* The magazine is empty or full: it is made, or doubles, within the budget. */
static void grow_magazine(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	size_t stride = hak_classes[class].stride;
	if (!k->entries) {
		k->most = (uint16_t)hak_min(CAP_MOST, hak_max(CAP_LEAST, CAP_BYTES / stride));
		resize_magazine(h, class, first_cap(class));
	} else if (k->cap < k->most) {
		uint32_t cap = (uint32_t)hak_min(k->most, k->cap * 2u + 1);
		if (h->mag_bytes + (cap - k->cap) * stride <= budget(h))
			resize_magazine(h, class, cap);
	}
}

static void drain_locked(struct hak_heap *h, unsigned class, uint32_t n);

static void shrink_magazine(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	uint32_t cap = (uint32_t)hak_max(first_cap(class), k->cap / 2u), have = hak_heap_cached(h, class);
	if (cap >= k->cap)
		return;
	if (have > cap / 2)
		drain_locked(h, class, have - cap / 2);
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
		if (k->quiet >= h->trim_quiet && hak_heap_cached(h, c))
			drain_locked(h, c, UINT32_MAX);
	}
}

/* Takes up to `want` blocks out of the class's slab s and stores them at --*end. */
static uint32_t take(struct hak_heap *h, struct hak_slab *s, uint32_t want, void ***end)
{
	struct hak_heap_class *k = &h->classes[s->class];
	uint32_t n = hak_slab_take(s, want, end);
	k->nfree -= n;
	k->quiet = 0;
	h->out += (size_t)n * hak_classes[s->class].stride;
	if (!s->nfree)
		list_remove(k, s);
	return n;
}

static void *take_one(struct hak_heap *h, unsigned class, bool *fresh)
{
	struct hak_slab *s = find_slab(h, class);
	void *p, **end = &p + 1;
	if (!s)
		return NULL;
	uint32_t carved = s->carved;
	take(h, s, 1, &end);
	if (fresh)
		*fresh = s->zero && s->carved != carved;
	return p;
}

static void *refill_locked(struct hak_heap *h, unsigned class)
{
	struct hak_heap_class *k = &h->classes[class];
	h->refills++;
	grow_magazine(h, class);
	if (!k->entries) /* no memory for an array: one block at a time */
		return take_one(h, class, NULL);
	uint32_t want = k->cap / 2u + 1, left = want;
	void **first = k->entries + 1, **end = first + want;
	/* the first slab whatever it costs, more only if they are at hand */
	for (struct hak_slab *s = find_slab(h, class); s; s = left ? k->head : NULL)
		left -= take(h, s, left, &end);
	if (left == want)
		return NULL;
	if (left)
		memmove(first, first + left, (want - left) * sizeof *first);
	/* the first block goes out, so the top is one below it */
	void **top = k->entries + (want - left) - 1;
	hak_mag_set_top(&h->mags[class], top);
	note_cached(h, class);
	return top[1];
}

void *hak_heap_refill(struct hak_heap *h, unsigned class, bool *fresh)
{
	if (fresh)
		*fresh = false;
	hak_heap_flush(h);
	hak_lock(&h->lock);
	if (h->trim)
		trim_locked(h);
	if (has_mail(h))
		collect(h, PARCEL_BATCH, true);
	void **top = hak_mag_top(&h->mags[class]), *p = *top;
	if (p) /* it came by mail */
		hak_mag_set_top(&h->mags[class], top - 1);
	else
		p = fresh ? take_one(h, class, fresh) : refill_locked(h, class);
	hak_unlock(&h->lock);
	return p;
}

/* Returns the magazine's oldest n entries to their slabs. */
static void drain_locked(struct hak_heap *h, unsigned class, uint32_t n)
{
	struct hak_heap_class *k = &h->classes[class];
	struct hak_mag *m = &h->mags[class];
	uint32_t have = hak_heap_cached(h, class);
	n = (uint32_t)hak_min(n, have);
	h->drains++;
	put_cached(h, class, k->entries + 1, n);
	memmove(k->entries + 1, k->entries + 1 + n, (have - n) * sizeof(void *));
	hak_mag_set_top(m, k->entries + (have - n));
	note_cached(h, class);
}

void hak_heap_drain_push(struct hak_heap *h, unsigned class, void *p)
{
	struct hak_heap_class *k = &h->classes[class];
	hak_heap_flush(h);
	hak_lock(&h->lock);
	if (has_mail(h))
		collect(h, PARCEL_BATCH, true);
	if (h->trim)
		trim_locked(h);
	else if (too_large(h, class))
		shrink_magazine(h, class);
	else
		grow_magazine(h, class);
	if (!k->entries) {
		put_cached(h, class, &p, 1);
		hak_unlock(&h->lock);
		return;
	}
	struct hak_mag *m = &h->mags[class];
	if (hak_mag_top(m) >= hak_mag_limit(m))
		drain_locked(h, class, k->cap / 2u + 1);
	void **top = hak_mag_top(m);
	top[1] = p;
	atomic_signal_fence(memory_order_release); /* the entry before the top: see hak_mag */
	hak_mag_set_top(m, top + 1);
	hak_unlock(&h->lock);
}

void hak_heap_put(struct hak_heap *h, unsigned class, void *p)
{
	hak_lock(&h->lock);
	put_cached(h, class, &p, 1);
	hak_unlock(&h->lock);
}

/* ---- remote frees ---------------------------------------------------------------- */

/* Sends the blocks of the buffer home, those of one heap in one parcel. What there is no
 * memory for stays in the buffer. */
static void flush_locked(struct hak_heap *h)
{
	uint32_t n = h->remote_count;
	h->remote_flushes++;
	while (n) {
		struct hak_parcel *parcel = parcel_new(h);
		uint32_t to = 0, left = 0;
		size_t bytes = 0;
		if (!parcel)
			break;
		for (uint32_t i = 0; i < n; i++) {
			void *p = h->remote[i];
			uint32_t tag = tag_of_block(p);
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
		if (!parcel->count)
			parcel_free(h, parcel);
		else if (o == h) /* adopted by us since */
			unpack(h, parcel, false);
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
	hak_lock(&h->lock);
	flush_locked(h);
	hak_unlock(&h->lock);
}

/* Puts a block home under its owner's lock. No lock is held. */
static void deliver(void *p)
{
	for (;;) {
		uint32_t tag = tag_of_block(p);
		struct hak_heap *o = hak_heap_by_id(hak_tag_heap(tag));
		if (!o || o->abandoned) /* reported, or cut off by a raw fork: a leak there */
			return;
		hak_lock(&o->lock);
		/* relaxed: it stays under the lock if it names o */
		bool mine = hak_tag_heap(atomic_load_explicit(hak_tag_of(p), memory_order_relaxed)) == hak_tag_heap(tag);
		if (mine) {
			put_block(o, hak_tag_code(tag) >> HAK_CODE_SHIFT, p);
			o->remote_in++;
		}
		hak_unlock(&o->lock);
		if (mine)
			return;
	}
}

void hak_heap_remote_free(struct hak_heap *h, unsigned class, void *p)
{
	if (h == &hak_heap_none || h->remote_count == HAK_REMOTE_BLOCKS) {
		/* no heap to buffer it in, or no memory for parcels */
		deliver(p);
		return;
	}
	h->remote[h->remote_count] = p;
	atomic_signal_fence(memory_order_release); /* as for magazines */
	h->remote_count++;
	h->remote_bytes += hak_classes[class].stride;
	if (h->remote_count == HAK_REMOTE_BLOCKS || h->remote_bytes >= HAK_REMOTE_BYTES)
		hak_heap_flush(h);
}

/* ---- emptying -------------------------------------------------------------------- */

static void release_empty_locked(struct hak_heap *h, uint32_t quiet)
{
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		struct hak_heap_class *k = &h->classes[c];
		uint32_t was = k->quiet;
		if (was < 255)
			k->quiet++;
		if (k->slabs && was < quiet)
			continue;
		for (struct hak_slab *s = k->head, *next; s; s = next) {
			next = s->next;
			if (s->nfree == hak_classes[c].capacity)
				release_slab(h, s);
		}
	}
}

void hak_heap_empty(struct hak_heap *h)
{
	hak_lock(&h->lock);
	flush_locked(h);
	collect(h, UINT32_MAX, false);
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		if (hak_heap_cached(h, c))
			drain_locked(h, c, UINT32_MAX);
	collect(h, UINT32_MAX, false);
	release_empty_locked(h, 0);
	hak_unlock(&h->lock);
}

void hak_heap_return_cached(struct hak_heap *h)
{
	/* a signal handler that ends the process may have come in the middle of a slow path */
	if (!hak_trylock(&h->lock))
		return;
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		if (hak_heap_cached(h, c))
			drain_locked(h, c, UINT32_MAX);
	hak_unlock(&h->lock);
}

/*
 * Cached blocks keep their slabs from becoming EMPTY, and only the owner may take them out of
 * a magazine. So all its magazines are made to look full: its next free takes the slow path,
 * once, and finds the request. A thread that sleeps keeps what it has cached.
 */
static void ask_for_trim(struct hak_heap *h, uint32_t quiet)
{
	size_t bytes = 0;
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		if (h->classes[c].quiet > quiet)
			bytes += (size_t)hak_heap_cached(h, c) * hak_classes[c].stride;
	if (bytes < TRIM_LEAST)
		return;
	h->trim = true;
	h->trim_quiet = (uint16_t)(quiet + 1);
	for (unsigned c = 0; c < HAK_CLASSES; c++)
		if (h->classes[c].entries)
			hak_mag_set_limit(&h->mags[c], h->classes[c].entries);
}

void hak_heap_release_empty(struct hak_heap *h, uint32_t quiet)
{
	if (h->abandoned || !hak_trylock(&h->lock))
		return;
	collect(h, UINT32_MAX, false);
	release_empty_locked(h, quiet);
	ask_for_trim(h, quiet);
	hak_unlock(&h->lock);
}

/* ---- parking --------------------------------------------------------------------- */

static struct hak_heap *heap_new(unsigned node)
{
	struct hak_heap *h = hak_meta_alloc(sizeof *h);
	if (!h)
		return NULL;
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		hak_mag_set_top(&h->mags[c], NO_ENTRY);
		hak_mag_set_limit(&h->mags[c], NO_ENTRY);
		h->mags[c].inverse = hak_classes[c].inverse;
		h->mags[c].mask = hak_classes[c].mask;
	}
	h->lock = (struct hak_lock)HAK_LOCK_INIT(HAK_RANK_HEAP);
	h->node = node;
	h->remote_limit = HAK_REMOTE_BLOCKS - 1;
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
	if (!__atomic_load_n(&n->parked, __ATOMIC_RELAXED)) /* a hint */
		return NULL;
	hak_lock(&n->park_lock);
	struct hak_heap *h = n->parked;
	if (h) {
		__atomic_store_n(&n->parked, h->park_next, __ATOMIC_RELAXED);
		h->parked = false;
	}
	hak_unlock(&n->park_lock);
	return h;
}

struct hak_heap *hak_heap_acquire(unsigned node)
{
	struct hak_heap *h = hak_heap_unpark(node);
	return h ? h : heap_new(node);
}

void hak_heap_park(struct hak_heap *h)
{
	struct hak_node *n = &hak_nodes[h->node];
	hak_lock(&n->park_lock);
	h->park_next = n->parked;
	h->parked = true;
	__atomic_store_n(&n->parked, h, __ATOMIC_RELAXED); /* racy readers take it as a hint */
	hak_unlock(&n->park_lock);
}

/* ---- fork ------------------------------------------------------------------------ */

void hak_heap_fork_prepare(void)
{
	hak_lock(&ids_lock);
	for (uint32_t id = 1; id <= hak_heap_count(); id++)
		hak_lock(&hak_heap_by_id(id)->lock);
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
		hak_unlock(&hak_heap_by_id(id)->lock);
	hak_unlock(&ids_lock);
}

static void park_vanished(struct hak_heap *self)
{
	for (uint32_t id = 1; id <= hak_heap_count(); id++) {
		struct hak_heap *h = hak_heap_by_id(id);
		if (h != self && !h->parked && !h->abandoned)
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
		hak_lock_reset(&hak_heap_by_id(id)->lock);
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
			n->parked = NULL;
		}
		n->lock.state = 0; /* growth: at worst a step that was mapped is not opened */
	}
	ids_lock.state = 0;
	for (uint32_t id = 1; id <= hak_heap_count(); id++) {
		struct hak_heap *h = hak_heap_by_id(id);
		if (h && h != self && atomic_load_explicit(&h->lock.state, memory_order_relaxed))
			h->abandoned = true;
		else if (h)
			h->lock.state = 0;
	}
	park_vanished(self);
}
