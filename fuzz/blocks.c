/* SPDX-License-Identifier: MIT */
/*
 * Do any calls in any order, on several threads at once, break a promise of malloc? For
 * libFuzzer: an input is a program of four-byte steps, each for one of the threads, which
 * run their parts at the same time and trade blocks over shared slots.
 *
 * Beside the allocator there is a shadow of what is out: where, how large, how aligned and
 * with which contents. It asks of every block that it overlaps no other, has the usable
 * size and alignment that were asked for, is zero from calloc, and keeps its contents,
 * through realloc too; and of every input that nothing is left when all is freed.
 *
 *	step: who and what | slot, size between powers | size, power | size, rest
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "options.h"
#include "reclaim.h"
#include "stats.h"

#define THREADS 3u
#define SLOTS 64u
#define LIVE_MOST ((size_t)128 << 20) /* fresh pages cost more than all else */
#define WHOLE ((size_t)512)	      /* up to here all bytes are written; above both ends, and a few between */
#define SETTLE_EVERY 64u     /* inputs; settling empties the caches, which are to be tested full */

enum what { MALLOC, CALLOC, MEMALIGN, REALLOC, REALLOC_MORE, FREE, FREE_MANY, TRADE, ROUND, TRIM, IDLE, END, WHATS };

struct block {
	unsigned char *p;
	size_t bytes;
	uint64_t id;
};

struct step {
	uint8_t what, slot, exponent, rest;
};

static pthread_mutex_t shadow_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block out[(THREADS + 1) * SLOTS]; /* the shadow: all blocks, in any order; under its lock */
static unsigned out_count;
static size_t out_bytes;
static uint64_t ids;

static struct block own[THREADS][SLOTS];
static struct block shared[SLOTS]; /* under shadow_lock */

static _Atomic uint64_t operations; /* calls of the allocator; a round is one */
static uint64_t operations_asked;   /* HAK_FUZZ_OPERATIONS: so many, however long it takes; 0: as libFuzzer says */

static _Noreturn void fault(const char *what, const struct block *b)
{
	fprintf(stderr, "fuzz: %s: block %p of %zu bytes\n", what, (void *)b->p, b->bytes);
	abort();
}

/* libFuzzer is to learn of the allocator's branches, not of these. */
#define UNSEEN __attribute__((no_sanitize("coverage")))

/* ---- the shadow ------------------------------------------------------------------- */

UNSEEN static void shadow_add(struct block *b)
{
	pthread_mutex_lock(&shadow_lock);
	b->id = ++ids * 0x9e3779b97f4a7c15u;
	for (unsigned i = 0; i < out_count; i++)
		if (b->p < out[i].p + hak_max(out[i].bytes, 1) && out[i].p < b->p + hak_max(b->bytes, 1))
			fault("overlaps another", b);
	out[out_count++] = *b;
	out_bytes += b->bytes;
	pthread_mutex_unlock(&shadow_lock);
}

UNSEEN static void shadow_remove(const struct block *b)
{
	pthread_mutex_lock(&shadow_lock);
	unsigned i = 0;
	while (i < out_count && out[i].p != b->p)
		i++;
	if (i == out_count)
		fault("not in the shadow: the fuzzer is wrong", b);
	out[i] = out[--out_count];
	out_bytes -= b->bytes;
	pthread_mutex_unlock(&shadow_lock);
}

UNSEEN static unsigned char *next_byte(const struct block *b, unsigned char *at)
{
	size_t offset = (size_t)(at - b->p) + 1;
	if (offset >= WHOLE && offset + WHOLE < b->bytes)
		offset = hak_min(offset + hak_max(b->bytes / 4, 16384) - 1, b->bytes - WHOLE / 2);
	return b->p + offset;
}

UNSEEN static unsigned char pattern(const struct block *b, const unsigned char *at)
{
	size_t offset = (size_t)(at - b->p);
	return (unsigned char)(b->id >> (offset % 8 * 8)) ^ (unsigned char)(offset >> 8);
}

UNSEEN static void fill(const struct block *b)
{
	for (unsigned char *at = b->p; at < b->p + b->bytes; at = next_byte(b, at))
		*at = pattern(b, at);
}

/* Of the bytes that were filled, those below `upto`, wherever the block lies now. */
UNSEEN static void check(const struct block *b, const unsigned char *moved, size_t upto)
{
	for (unsigned char *at = b->p; at < b->p + hak_min(b->bytes, upto); at = next_byte(b, at))
		if (moved[at - b->p] != pattern(b, at))
			fault("overwritten", b);
}

UNSEEN static void check_zero(const struct block *b)
{
	for (unsigned char *at = b->p; at < b->p + b->bytes; at = next_byte(b, at))
		if (*at)
			fault("not zero", b);
}

/* ---- steps ------------------------------------------------------------------------ */

/* Around each power of two, so around most limits of classes and tiers; few large ones. */
static size_t size_of(struct step s)
{
	unsigned power = s.exponent < 208 ? s.exponent % 17 : s.exponent < 253 ? 10 + s.exponent % 13 : 26;
	size_t n = ((size_t)1 << power) + (((size_t)s.slot / SLOTS) << power) / 4 + s.rest;
	n = n > 128 ? n - 128 : 0;
	pthread_mutex_lock(&shadow_lock);
	if (out_bytes + n > LIVE_MOST)
		n %= 65536;
	pthread_mutex_unlock(&shadow_lock);
	return n;
}

static void made(struct block *b, size_t align)
{
	if (!b->p)
		fault("no memory", b);
	if ((uintptr_t)b->p % align)
		fault("misaligned", b);
	if (hak_usable_size(b->p) < b->bytes)
		fault("too short", b);
	shadow_add(b);
	fill(b);
}

static void drop(struct block *b)
{
	if (!b->p)
		return;
	check(b, b->p, b->bytes);
	shadow_remove(b);
	operations++;
	hak_free(b->p);
	b->p = NULL;
}

static void make(struct block *b, struct step s)
{
	size_t align = 16;
	drop(b);
	operations++;
	b->bytes = size_of(s);
	switch (s.what) {
	case CALLOC:
		b->p = hak_calloc(s.rest % 3 + 1, b->bytes / (s.rest % 3 + 1));
		b->bytes = b->bytes / (s.rest % 3 + 1) * (s.rest % 3 + 1);
		if (b->p)
			check_zero(b);
		break;
	case MEMALIGN:
		align = (size_t)1 << (s.slot / 4 + s.rest) % 23;
		b->p = hak_memalign(align, b->bytes);
		break;
	default:
		align = b->bytes < 16 ? 8 : 16;
		b->p = hak_malloc(b->bytes);
	}
	made(b, align);
}

static void resize(struct block *b, size_t bytes)
{
	struct block before = *b;
	if (!b->p)
		return;
	check(b, b->p, b->bytes);
	shadow_remove(b);
	operations++;
	b->p = hak_realloc(b->p, bytes);
	if (!b->p)
		fault("no memory to grow", &before);
	check(&before, b->p, bytes);
	b->bytes = bytes;
	made(b, 8);
}

static void trade(struct block *b, unsigned slot)
{
	pthread_mutex_lock(&shadow_lock);
	struct block other = shared[slot];
	shared[slot] = *b;
	*b = other;
	pthread_mutex_unlock(&shadow_lock);
}

/* A round through one class: magazines and buffers fill, drain and shrink. */
static void many(struct step s)
{
	static _Thread_local void *p[600];
	size_t bytes = size_of(s) % 60000;
	unsigned count = s.slot % 2 ? 600 : 40;
	operations++;
	for (unsigned i = 0; i < count; i++) {
		p[i] = hak_malloc(bytes);
		if (!p[i])
			fault("no memory", &(struct block){ NULL, bytes, 0 });
	}
	for (unsigned i = 0; i < count; i++)
		hak_free(p[i]);
}

static void idle(void)
{
	if (hak_heap_self != &hak_heap_none)
		hak_heap_empty(hak_heap_self);
}

static void take(struct block *mine, struct step s)
{
	struct block *b = &mine[s.slot % SLOTS];
	switch (s.what) {
	case MALLOC:
	case CALLOC:
	case MEMALIGN:
		make(b, s);
		break;
	case REALLOC:
		resize(b, size_of(s));
		break;
	case REALLOC_MORE:
		resize(b, hak_min(b->bytes + s.rest, LIVE_MOST));
		break;
	case FREE:
		drop(b);
		break;
	case FREE_MANY:
		for (unsigned i = s.slot % SLOTS; i < SLOTS; i += s.rest % 4 + 1)
			drop(&mine[i]);
		break;
	case TRADE:
		trade(b, s.exponent % SLOTS);
		break;
	case ROUND:
		many(s);
		break;
	case TRIM:
		if (s.rest % 8 == 0) { /* it takes as long as a thousand of the others */
			operations++;
			hak_reclaim_all();
		}
		break;
	case IDLE:
		operations++;
		idle();
		break;
	default:
		break;
	}
}

/* ---- threads ----------------------------------------------------------------------- */

/* They live from input to input, until an END step of theirs: then the next one is new. */
static pthread_t threads[THREADS];
static bool alive[THREADS], ended[THREADS];
static pthread_barrier_t begin, finish;
static const uint8_t *input;
static size_t input_steps;
static bool settling;

static void run_steps(unsigned me)
{
	for (size_t i = 0; i < input_steps; i++) {
		const uint8_t *d = input + 4 * i;
		if (d[0] / WHATS % THREADS != me)
			continue;
		struct step s = { d[0] % WHATS, d[1], d[2], d[3] };
		ended[me] |= s.what == END;
		take(own[me], s);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		drop(&own[me][i]);
}

static void *thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	do {
		pthread_barrier_wait(&begin);
		if (settling)
			idle();
		else
			run_steps(me);
		pthread_barrier_wait(&finish);
	} while (!ended[me]);
	return NULL;
}

static void all_threads(void)
{
	for (uintptr_t i = 0; i < THREADS; i++) {
		if (!alive[i] && pthread_create(&threads[i], NULL, thread, (void *)i))
			abort();
		alive[i] = true;
	}
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&finish);
	for (unsigned i = 0; i < THREADS; i++) {
		if (!ended[i])
			continue;
		pthread_join(threads[i], NULL);
		alive[i] = ended[i] = false;
	}
}

/* All is free: then no block is out, and no cache has one. */
static void settle(void)
{
	struct hakmem_stats s;
	settling = true;
	for (int i = 0; i < 2; i++) {
		all_threads();
		idle();
		hak_reclaim_all();
	}
	settling = false;
	hak_stats_snapshot(&s);
	if (s.live || s.cached || out_count) {
		fprintf(stderr, "fuzz: %zu bytes live, %zu cached, %u blocks out\n", (size_t)s.live, (size_t)s.cached,
			out_count);
		abort();
	}
}

static void report(void)
{
	fprintf(stderr, "fuzz: %llu operations\n", (unsigned long long)operations);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *asked = getenv("HAK_FUZZ_OPERATIONS");
	(void)argc, (void)argv;
	operations_asked = asked ? strtoull(asked, NULL, 10) : 0;
	hak_option_values[HAK_OPT_decay_ms] = 100; /* the reclaimer is busy, but not most of the time */
	pthread_barrier_init(&begin, NULL, THREADS + 1);
	pthread_barrier_init(&finish, NULL, THREADS + 1);
	return atexit(report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned inputs;
	input = data;
	input_steps = size / 4;
	all_threads();
	for (unsigned i = 0; i < SLOTS; i++)
		drop(&shared[i]);
	bool enough = operations_asked && operations >= operations_asked;
	if (++inputs % SETTLE_EVERY == 0 || enough)
		settle();
	if (enough) {
		report();
		_Exit(0); /* libFuzzer takes exit for a finding */
	}
	return 0;
}
