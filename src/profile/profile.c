/* SPDX-License-Identifier: MIT */
/*
 * Samples, the stacks they were taken at, and the profile's text. Memory is mapped, never
 * taken from the heap, and never given back.
 *
 * One lock guards both tables. It is taken with no lock of the core's held, and its holder
 * takes none; stacks are unwound without it, since the unwinder may allocate.
 */
#include "profile/profile.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "die.h"
#include "fast.h"
#include "front.h"
#include "numa/node.h"
#include "options.h"
#include "profile/guarded.h"
#include "profile/stack.h"
#include "record.h"
#include "sys/sys.h"

#define BUCKETS 4096u
#define CHUNK ((size_t)256 << 10)
#define BLOCKS_FIRST 4096u
#define SLOT_FULL UINT8_MAX /* a count that has been lost: it stays */
#define LINE_BYTES (24 + 4 * 21 + HAK_STACK_DEPTH * 19)

/* A sampled block. */
struct block {
	uintptr_t address; /* the program's; 0: none */
	void *base;	   /* the core's */
	size_t bytes;	   /* as asked for */
	struct hak_profile_site *site;
};

/*
 * How many sampled blocks there are at addresses of this slot: where there is none, nothing is
 * looked up. Untouched pages of it cost nothing.
 */
#define SLOTS ((size_t)1 << 20)
static _Atomic uint8_t slots[SLOTS];

HAK_TLS int64_t hak_profile_left;
static HAK_TLS bool started, inside; /* inside: the unwinder's own allocations are no samples */
static HAK_TLS uint64_t seed;

/* under the lock, as all below */
static struct hak_profile_site *buckets[BUCKETS];
static struct block *blocks; /* open addressing */
static size_t blocks_cap, blocks_used;
static char *bump, *bump_end;
static uint64_t lost; /* samples for which there was no memory */

/* ---- the lock -------------------------------------------------------------------- */

/* The holder's process. A child of a raw fork takes a lock over whose holder is not there;
 * at most one sample was being counted then. */
static _Atomic int lock;

void hak_profile_lock_word(_Atomic int *word)
{
	int me = (int)getpid(), holder = 0;
	/* acquire PROFILE */
	while (!atomic_compare_exchange_weak_explicit(word, &holder, me, memory_order_acquire, memory_order_relaxed)) {
		if (holder == me) {
			sched_yield();
			holder = 0;
		}
	}
}

void hak_profile_unlock_word(_Atomic int *word)
{
	atomic_store_explicit(word, 0, memory_order_release); /* release PROFILE */
}

void hak_profile_lock(void)
{
	hak_profile_lock_word(&lock);
}

void hak_profile_unlock(void)
{
	hak_profile_unlock_word(&lock);
}

/* ---- chance ---------------------------------------------------------------------- */

static uint64_t random_bits(void)
{
	if (!seed) {
		struct timespec t;
		clock_gettime(CLOCK_MONOTONIC, &t);
		seed = ((uintptr_t)&seed ^ (uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec) | 1;
	}
	/* xorshift64* */
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 0x2545f4914f6cdd1du;
}

/* Exponentially distributed: the distance between two samples that know nothing of each other. */
static int64_t draw(void)
{
	double u = ((double)(random_bits() >> 11) + 1) / 9007199254740993.0; /* in (0, 1) */
	return (int64_t)(-log(u) * (double)hak_option_get(HAK_OPT_profile_bytes));
}

/* ---- blocks ---------------------------------------------------------------------- */

static _Atomic uint8_t *slot_of(uintptr_t address)
{
	return &slots[(address >> 4) % SLOTS];
}

static size_t home_of(uintptr_t address)
{
	return (size_t)((address >> 4) * 0x9e3779b97f4a7c15u >> 20) & (blocks_cap - 1);
}

static void insert_locked(struct block b)
{
	size_t i = home_of(b.address);
	while (blocks[i].address)
		i = (i + 1) & (blocks_cap - 1);
	blocks[i] = b;
}

static bool reserve_locked(void)
{
	struct block *old = blocks;
	size_t old_cap = blocks_cap;
	if (blocks_used * 2 < blocks_cap)
		return true;
	size_t cap = old_cap ? old_cap * 2 : BLOCKS_FIRST;
	struct block *more = hak_sys_map(cap * sizeof *more);
	if (!more)
		return false;
	blocks = more;
	blocks_cap = cap;
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].address)
			insert_locked(old[i]);
	if (old)
		hak_sys.munmap_own(old, old_cap * sizeof *old);
	return true;
}

/* Takes entry i out; those behind it move up, so that there are no gaps to pass. */
static void remove_locked(size_t i)
{
	size_t mask = blocks_cap - 1;
	for (size_t k = (i + 1) & mask; blocks[k].address; k = (k + 1) & mask)
		if (((k - home_of(blocks[k].address)) & mask) >= ((k - i) & mask)) {
			blocks[i] = blocks[k];
			i = k;
		}
	blocks[i].address = 0;
	blocks_used--;
}

static bool add_locked(struct block b)
{
	if (!reserve_locked())
		return false;
	insert_locked(b);
	blocks_used++;
	b.site->live_blocks++;
	b.site->live_bytes += b.bytes;
	/* relaxed: under the lock; who reads without it has the block */
	uint8_t n = atomic_load_explicit(slot_of(b.address), memory_order_relaxed);
	if (n != SLOT_FULL)
		atomic_store_explicit(slot_of(b.address), (uint8_t)(n + 1), memory_order_relaxed);
	return true;
}

/* Whether a sampled block may lie there. relaxed: whoever has the block got it after its sample was counted. */
static inline bool may_be_sampled(const void *p)
{
	return hak_unlikely(atomic_load_explicit(slot_of((uintptr_t)p), memory_order_relaxed));
}

/* The sampled block at p, base NULL if there is none. take: it is one no more, which must be
 * before it is freed: afterwards its address may be another's. */
static struct block look_up(const void *p, bool take)
{
	struct block found = { .base = NULL };
	uintptr_t address = (uintptr_t)p;
	if (!may_be_sampled(p))
		return found;
	int err = errno;
	hak_profile_lock();
	size_t i = blocks_cap ? home_of(address) : 0;
	while (blocks_cap && blocks[i].address && blocks[i].address != address)
		i = (i + 1) & (blocks_cap - 1);
	if (blocks_cap && blocks[i].address)
		found = blocks[i];
	if (take && found.base) {
		found.site->live_blocks--;
		found.site->live_bytes -= found.bytes;
		remove_locked(i);
		uint8_t n = atomic_load_explicit(slot_of(address), memory_order_relaxed);
		if (n != SLOT_FULL)
			atomic_store_explicit(slot_of(address), (uint8_t)(n - 1), memory_order_relaxed);
	}
	hak_profile_unlock();
	errno = err;
	return found;
}

static void put_back(struct block b)
{
	hak_profile_lock();
	add_locked(b);
	hak_profile_unlock();
}

/* ---- stacks ---------------------------------------------------------------------- */

static struct hak_profile_site *site_locked(const struct hak_stack *s)
{
	size_t bytes = s->depth * sizeof *s->pc;
	uint64_t hash = 0xcbf29ce484222325u;
	for (uint32_t i = 0; i < s->depth; i++)
		hash = (hash ^ s->pc[i]) * 0x100000001b3u;
	struct hak_profile_site **bucket = &buckets[(hash ^ hash >> 32) % BUCKETS];
	for (struct hak_profile_site *t = *bucket; t; t = t->next)
		if (t->hash == hash && t->depth == s->depth && !memcmp(t->pc, s->pc, bytes))
			return t;
	size_t need = hak_align_up(sizeof **bucket + bytes, 16);
	if ((size_t)(bump_end - bump) < need) {
		char *chunk = hak_sys_map(CHUNK);
		if (!chunk)
			return NULL;
		hak_sys_name(chunk, CHUNK, "hakmem: profile");
		bump = chunk;
		bump_end = chunk + CHUNK;
	}
	struct hak_profile_site *t = (struct hak_profile_site *)(void *)bump;
	bump += need;
	t->hash = hash;
	t->depth = s->depth;
	memcpy(t->pc, s->pc, bytes);
	t->next = *bucket;
	*bucket = t;
	return t;
}

/* NULL: there was no memory to remember it. */
static const struct hak_profile_site *count(struct block b, const struct hak_stack *s)
{
	hak_profile_lock();
	b.site = site_locked(s);
	bool ok = b.site && add_locked(b);
	if (ok) {
		b.site->all_blocks++;
		b.site->all_bytes += b.bytes;
	} else {
		lost++;
	}
	hak_profile_unlock();
	return ok ? b.site : NULL;
}

/* Counts the block as a sample of the stack that leads here. */
static HAK_COLD const struct hak_profile_site *sample(void *p, void *base, size_t bytes)
{
	struct hak_stack s;
	int err = errno;
	inside = true;
	hak_stack_take(&s);
	const struct hak_profile_site *site = count((struct block){ (uintptr_t)p, base, bytes, NULL }, &s);
	hak_profile_left = draw();
	inside = false;
	errno = err;
	return site;
}

/* The stack that leads here, of which nothing is counted. */
static HAK_COLD const struct hak_profile_site *site_here(void)
{
	struct hak_stack s;
	bool was = inside;
	inside = true;
	hak_stack_take(&s);
	inside = was;
	hak_profile_lock();
	const struct hak_profile_site *site = site_locked(&s);
	hak_profile_unlock();
	return site;
}

/* ---- allocate -------------------------------------------------------------------- */

/* After hak_profile_due: whether there really is a sample to take. */
static bool is_due(void)
{
	if (hak_likely(hak_profile_left >= 0) || inside)
		return false;
	if (!started) {
		/* the thread's first allocation: its first distance starts before it */
		started = true;
		hak_profile_left += draw();
	}
	return hak_profile_left < 0;
}

/* How far from its base a sampled block lies: off its stride, if it comes of a slab, since the
 * stride of a class that holds this much more is more than this. */
static size_t offset_of(size_t align, size_t bytes)
{
	return bytes > HAK_SLAB_MAX || align > HAK_GRANULE ? 0 : hak_max(align, HAK_MIN_ALIGN);
}

/* What is not served was not asked for: undoes hak_profile_due. */
static void *served(void *p, size_t bytes)
{
	if (hak_unlikely(!p))
		hak_profile_left = (int64_t)((uint64_t)hak_profile_left + bytes);
	return p;
}

/* In a slot of its own; NULL: there is none. */
static void *alloc_guarded(size_t align, size_t bytes, bool zero)
{
	int err = errno;
	void *p = hak_guarded_alloc(align, bytes, random_bits() >> 32);
	if (p) {
		if (zero)
			memset(p, 0, bytes);
		hak_guarded_arm(p, bytes, sample(p, p, bytes));
	}
	errno = err;
	return p;
}

static HAK_COLD void *alloc_sampled(size_t align, size_t bytes, bool zero)
{
	void *p = alloc_guarded(align, bytes, zero);
	if (p)
		return p;
	size_t offset = offset_of(align, bytes), all = hak_max(bytes, 1) + offset;
	char *base = zero ? hak_calloc(1, all) : hak_memalign(align, all);
	if (!served(base, bytes))
		return NULL;
	return sample(base + offset, base, bytes) ? base + offset : base;
}

HAK_COLD void *hak_profile_malloc_slow(size_t bytes)
{
	if (is_due())
		return alloc_sampled(HAK_MIN_ALIGN, bytes, false);
	return served(hak_malloc(bytes), bytes);
}

void *hak_profile_memalign(size_t align, size_t bytes)
{
	if (hak_profile_due(bytes) && is_due())
		return alloc_sampled(align, bytes, false);
	return served(hak_memalign(align, bytes), bytes);
}

void *hak_profile_calloc(size_t count, size_t bytes)
{
	size_t total;
	if (__builtin_mul_overflow(count, bytes, &total))
		return NULL;
	if (hak_profile_due(total) && is_due())
		return alloc_sampled(HAK_MIN_ALIGN, total, true);
	return served(hak_calloc(1, total), total);
}

static HAK_COLD void free_guarded(const char *function, void *p)
{
	int err = errno;
	hak_guarded_free(function, p, site_here());
	errno = err;
}

/* function: whose fault it is if it is a bad one. */
static bool free_sampled(const char *function, void *p)
{
	struct block b = look_up(p, true);
	if (hak_guarded_has(p)) {
		free_guarded(function, p);
		return true;
	}
	if (hak_likely(!b.base))
		return false;
	hak_free(b.base);
	return true;
}

/* Of the block at p, of which the profile knows b. */
static size_t usable_size(const void *p, const struct block *b)
{
	if (hak_guarded_has(p))
		return hak_guarded_size(p);
	return b->base ? hak_usable_size(b->base) - (b->address - (uintptr_t)b->base) : hak_usable_size(p);
}

/* The old block's end and a new one's beginning, also where it stays in place. */
static void *resize(void *p, size_t bytes)
{
	struct block old = look_up(p, false);
	void *q;
	if (hak_guarded_has(p) || (old.base && old.base != p)) {
		/* off its base, or in a slot: it becomes another block */
		size_t had = usable_size(p, &old);
		q = had ? hak_malloc(bytes) : NULL;
		if (q)
			memcpy(q, p, hak_min(had, bytes));
		if (q || !had) /* there is none: reported */
			free_sampled("realloc", p);
		return q;
	}
	if (old.base)
		look_up(p, true);
	q = hak_realloc(p, bytes);
	if (!q && old.base)
		put_back(old);
	return q;
}

/* The same block as a sampled one, elsewhere if need be. */
static HAK_COLD void *resample(void *p, size_t bytes)
{
	if (!offset_of(HAK_MIN_ALIGN, bytes)) {
		sample(p, p, bytes);
		return p;
	}
	void *q = alloc_sampled(HAK_MIN_ALIGN, bytes, false);
	if (!q)
		return p;
	memcpy(q, p, bytes);
	hak_free(p);
	return q;
}

void *hak_profile_realloc(void *p, size_t bytes)
{
	bool due = hak_profile_due(bytes) && is_due();
	void *q = served(may_be_sampled(p) || hak_guarded_has(p) ? resize(p, bytes) : hak_realloc(p, bytes), bytes);
	return due && q ? resample(q, bytes) : q;
}

/* ---- free and ask ---------------------------------------------------------------- */

void hak_profile_free_other(void *p, uint32_t code)
{
	if (!free_sampled("free", p))
		hak_free_other(p, code);
}

void hak_profile_free_far(void *p)
{
	if (!free_sampled("free", p))
		hak_free_far(p);
}

void hak_profile_free_misaligned(void *p, struct hak_mag *m)
{
	if (!free_sampled("free", p))
		hak_free_misaligned(p, m);
}

size_t hak_profile_usable_size(const void *p)
{
	struct block b = look_up(p, false);
	return usable_size(p, &b);
}

int hak_profile_block_node(const void *p)
{
	struct block b = look_up(p, false);
	if (hak_guarded_has(p))
		return hak_guarded_size(p) ? hak_node_where(p) : -2;
	return hak_block_node(b.base ? b.base : p);
}

/* ---- text ------------------------------------------------------------------------ */

struct sums {
	uint64_t live_blocks, live_bytes, all_blocks, all_bytes;
};

static void counts_text(struct hak_text *t, const struct sums *s)
{
	hak_text_u64(t, s->live_blocks);
	hak_text_str(t, ": ");
	hak_text_u64(t, s->live_bytes);
	hak_text_str(t, " [");
	hak_text_u64(t, s->all_blocks);
	hak_text_str(t, ": ");
	hak_text_u64(t, s->all_bytes);
	hak_text_str(t, "] @");
}

static struct sums sums_of(const struct hak_profile_site *t)
{
	return (struct sums){ t->live_blocks, t->live_bytes, t->all_blocks, t->all_bytes };
}

/* The figures under the lock, the text without it: `write` is not ours. Sites are only added,
 * at the head of their list, and what is written here of one does not change. */
static void site_text(const struct hak_profile_site *t, hakmem_write_fn *write, void *arg)
{
	char buf[LINE_BYTES];
	struct hak_text line = { buf, 0, sizeof buf };
	hak_profile_lock();
	struct sums s = sums_of(t);
	hak_profile_unlock();
	if (!s.all_blocks) /* a stack that freed guarded blocks */
		return;
	counts_text(&line, &s);
	for (uint32_t i = 0; i < t->depth; i++) {
		hak_text_str(&line, " ");
		hak_text_hex(&line, t->pc[i]);
	}
	hak_text_str(&line, "\n");
	write(arg, buf, line.len);
}

static struct sums sum(void)
{
	struct sums s = { 0, 0, 0, 0 };
	hak_profile_lock();
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct hak_profile_site *t = buckets[i]; t; t = t->next) {
			s.live_blocks += t->live_blocks;
			s.live_bytes += t->live_bytes;
			s.all_blocks += t->all_blocks;
			s.all_bytes += t->all_bytes;
		}
	hak_profile_unlock();
	return s;
}

struct sink {
	hakmem_write_fn *write;
	void *arg;
};

static bool maps_line(const char *line, void *arg)
{
	const struct sink *to = arg;
	to->write(to->arg, line, strlen(line));
	to->write(to->arg, "\n", 1);
	return false;
}

void hak_profile_text(hakmem_write_fn *write, void *arg)
{
	static const char libraries[] = "\nMAPPED_LIBRARIES:\n";
	char buf[160];
	struct hak_text head = { buf, 0, sizeof buf };
	struct sums all = sum();
	struct sink to = { write, arg };
	hak_text_str(&head, "heap profile: ");
	counts_text(&head, &all);
	hak_text_str(&head, " heap_v2/");
	hak_text_u64(&head, (uint64_t)hak_option_get(HAK_OPT_profile_bytes));
	hak_text_str(&head, "\n");
	write(arg, buf, head.len);
	for (size_t i = 0; i < BUCKETS; i++) {
		hak_profile_lock();
		const struct hak_profile_site *t = buckets[i];
		hak_profile_unlock();
		for (; t; t = t->next)
			site_text(t, write, arg);
	}
	write(arg, libraries, sizeof libraries - 1);
	hak_sys_each_line("/proc/self/maps", maps_line, &to);
	if (lost)
		hak_warn("samples were lost for want of memory", NULL);
}

/* ---- fork ------------------------------------------------------------------------ */

__attribute__((constructor)) static void profile_start(void)
{
	pthread_atfork(hak_profile_lock, hak_profile_unlock, hak_profile_unlock);
}
