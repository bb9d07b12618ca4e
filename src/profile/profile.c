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
#include <link.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

#include "die.h"
#include "options.h"
#include "record.h"
#include "sys/sys.h"

#define DEPTH 64u
#define BUCKETS 4096u
#define CHUNK ((size_t)256 << 10)
#define BLOCKS_FIRST 4096u
#define SLOT_FULL UINT8_MAX /* a count that has been lost: it stays */
#define LINE_BYTES (24 + 4 * 21 + DEPTH * 19)

struct hak_profile_site {
	struct hak_profile_site *next;
	uint64_t hash;
	uint64_t live_blocks, live_bytes, all_blocks, all_bytes; /* sampled ones, not scaled */
	uint32_t depth;
	uintptr_t pc[];
};

struct block {
	uintptr_t address; /* 0: none */
	struct hak_profile_block is;
};

_Atomic uint8_t hak_profile_slots[HAK_PROFILE_SLOTS];
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

static void lock_tables(void)
{
	int me = (int)getpid(), holder = 0;
	/* acquire PROFILE */
	while (!atomic_compare_exchange_weak_explicit(&lock, &holder, me, memory_order_acquire, memory_order_relaxed)) {
		if (holder == me) {
			sched_yield();
			holder = 0;
		}
	}
}

static void unlock_tables(void)
{
	atomic_store_explicit(&lock, 0, memory_order_release); /* release PROFILE */
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
	return &hak_profile_slots[(address >> 4) % HAK_PROFILE_SLOTS];
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
		hak_sys.munmap(old, old_cap * sizeof *old);
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

static bool add_locked(uintptr_t address, struct hak_profile_block is)
{
	if (!reserve_locked())
		return false;
	insert_locked((struct block){ address, is });
	blocks_used++;
	is.site->live_blocks++;
	is.site->live_bytes += is.bytes;
	/* relaxed: under the lock; who reads without it has the block */
	uint8_t n = atomic_load_explicit(slot_of(address), memory_order_relaxed);
	if (n != SLOT_FULL)
		atomic_store_explicit(slot_of(address), (uint8_t)(n + 1), memory_order_relaxed);
	return true;
}

struct hak_profile_block hak_profile_take(void *p)
{
	struct hak_profile_block is = { NULL, 0 };
	uintptr_t address = (uintptr_t)p;
	int err = errno;
	lock_tables();
	size_t i = blocks_cap ? home_of(address) : 0;
	while (blocks_cap && blocks[i].address && blocks[i].address != address)
		i = (i + 1) & (blocks_cap - 1);
	if (blocks_cap && blocks[i].address) {
		is = blocks[i].is;
		is.site->live_blocks--;
		is.site->live_bytes -= is.bytes;
		remove_locked(i);
		uint8_t n = atomic_load_explicit(slot_of(address), memory_order_relaxed);
		if (n != SLOT_FULL)
			atomic_store_explicit(slot_of(address), (uint8_t)(n - 1), memory_order_relaxed);
	}
	unlock_tables();
	errno = err;
	return is;
}

void hak_profile_put_back(void *p, struct hak_profile_block block)
{
	int err = errno;
	lock_tables();
	add_locked((uintptr_t)p, block);
	unlock_tables();
	errno = err;
}

/* ---- stacks ---------------------------------------------------------------------- */

struct stack {
	uint32_t depth;
	uintptr_t pc[DEPTH];
};

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

/* Whether pc lies in this library's own code. */
static bool is_ours(uintptr_t pc)
{
	uintptr_t base = (uintptr_t)&__ehdr_start;
	const ElfW(Phdr) *ph = (const ElfW(Phdr) *)(base + __ehdr_start.e_phoff);
	for (int i = 0; i < __ehdr_start.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && (ph[i].p_flags & PF_X))
			return pc - (base + ph[i].p_vaddr) < ph[i].p_memsz;
	return false;
}

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *arg)
{
	struct stack *s = arg;
	uintptr_t pc = _Unwind_GetIP(context);
	if (!pc || s->depth == DEPTH)
		return _URC_END_OF_STACK;
	/* our own frames come first and say nothing */
	if (s->depth || !is_ours(pc))
		s->pc[s->depth++] = pc;
	return _URC_NO_REASON;
}

static struct hak_profile_site *site_locked(const struct stack *s)
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

static void count(uintptr_t address, size_t bytes, const struct stack *s)
{
	lock_tables();
	struct hak_profile_site *site = site_locked(s);
	if (site && add_locked(address, (struct hak_profile_block){ site, bytes })) {
		site->all_blocks++;
		site->all_bytes += bytes;
	} else {
		lost++;
	}
	unlock_tables();
}

HAK_COLD void hak_profile_sample(void *p, size_t bytes)
{
	struct stack s = { .depth = 0 };
	int err = errno;
	if (inside)
		return;
	inside = true;
	if (!started) {
		/* the thread's first allocation: its first distance starts before it */
		started = true;
		hak_profile_left += draw();
	}
	if (hak_profile_left < 0) {
		_Unwind_Backtrace(frame, &s);
		count((uintptr_t)p, bytes, &s);
		hak_profile_left = draw();
	}
	inside = false;
	errno = err;
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
	lock_tables();
	struct sums s = sums_of(t);
	unlock_tables();
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
	lock_tables();
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct hak_profile_site *t = buckets[i]; t; t = t->next) {
			s.live_blocks += t->live_blocks;
			s.live_bytes += t->live_bytes;
			s.all_blocks += t->all_blocks;
			s.all_bytes += t->all_bytes;
		}
	unlock_tables();
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
		lock_tables();
		const struct hak_profile_site *t = buckets[i];
		unlock_tables();
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
	pthread_atfork(lock_tables, unlock_tables, unlock_tables);
}
