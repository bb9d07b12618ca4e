/* SPDX-License-Identifier: MIT */
/*
 * latency: how long does a single malloc or free take, and how long does the slowest one in 1,000
 * or 10,000 take?
 *
 * random_mixed in threads, each call timed by itself. --remote: so many percent of the frees are of
 * blocks that another thread allocated. --waves: before each stretch of operations a thread allocates
 * `wave` bytes more, writes them and frees them all, calls which are timed as well; then its
 * operations go on for `hold` milliseconds at least, so that the allocator gives the memory back
 * while they run.
 *
 * --grow: instead of all that each thread allocates so many bytes and keeps them, each call timed together with
 * the first touch of its block's pages, and does nothing else.
 *
 * The timer's own time is in every figure (timer_ns is its median; it is the same under every
 * allocator). Times fall into classes of 1/32 of their size. Elsewhere the first
 * touch of a block is the program's, not the call's, and is not timed.
 */
#include "bench.h" /* first: it asks libc for everything */

#include <stdatomic.h>

static uint64_t threads = 1, slots = 8192, min = 16, max = 1040, remote, waves, ops = 4000000;
static uint64_t grow, pause_ns;
static uint64_t wave = 256u << 20, wave_max = 65536, hold_ms = 1500;

static const struct bench_arg args[] = {
	{ "threads", &threads, 1, 1024, "threads" },
	{ "slots", &slots, 1, 1u << 24, "slots of a thread" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes" },
	{ "remote", &remote, 0, 100, "percent of the operations on the next thread's slots" },
	{ "waves", &waves, 0, 1000, "waves of memory that is allocated and freed" },
	{ "wave", &wave, 1u << 20, 1ull << 40, "bytes of a wave" },
	{ "wave-max", &wave_max, 1024, 1u << 30, "largest block of a wave; the smallest is 1,024" },
	{ "grow", &grow, 0, 1ull << 40, "bytes that are only allocated, instead of the operations" },
	{ "pause", &pause_ns, 0, 1000000000, "nanoseconds of work between two of these" },
	{ "hold", &hold_ms, 0, 600000, "milliseconds of operations after a wave, at least" },
	{ "ops", &ops, 1, UINT64_MAX, "operations in all; after each wave as many again" },
};

/* ---- time ----------------------------------------------------------------------------------- */

#if defined(__x86_64__)
static inline uint64_t ticks(void)
{
	unsigned cpu;

	return __builtin_ia32_rdtscp(&cpu);
}
#else
static inline uint64_t ticks(void)
{
	return bench_clock_ns();
}
#endif

/* ---- a histogram of times ------------------------------------------------------------------- */

#define PARTS 32u /* classes of an octave */
#define CLASSES (PARTS * 60)
#define TIMER_READS 10000

struct times {
	uint64_t count[CLASSES];
	uint64_t all, longest;
};

static void put(struct times *t, uint64_t time)
{
	uint32_t i = (uint32_t)time;

	if (time >= PARTS) {
		uint32_t octave = 63 - (uint32_t)__builtin_clzll(time); /* 5 and up */

		i = (octave - 4) * PARTS + ((time >> (octave - 5)) & (PARTS - 1));
	}
	t->count[i < CLASSES ? i : CLASSES - 1]++;
	t->all++;
	if (t->longest < time)
		t->longest = time;
}

/* The middle of a class. */
static double time_of(uint32_t i)
{
	uint32_t octave = i / PARTS + 4;

	if (i < PARTS)
		return i;
	return (double)((uint64_t)(PARTS + i % PARTS) << (octave - 5)) +
	       (double)(1ull << (octave - 5)) / 2;
}

static double quantile(const struct times *t, double share)
{
	uint64_t wanted = (uint64_t)((double)t->all * share), seen = 0;

	for (uint32_t i = 0; i < CLASSES; i++) {
		seen += t->count[i];
		if (seen > wanted)
			return time_of(i) < (double)t->longest ? time_of(i) : (double)t->longest;
	}
	return (double)t->longest;
}

static void merge(struct times *into, const struct times *from)
{
	for (uint32_t i = 0; i < CLASSES; i++)
		into->count[i] += from->count[i];
	into->all += from->all;
	if (into->longest < from->longest)
		into->longest = from->longest;
}

/* ---- the threads ---------------------------------------------------------------------------- */

struct worker {
	pthread_t thread;
	uint64_t number;
	struct times *mallocs, *frees;
} __attribute__((aligned(2 * BENCH_LINE)));

static void *_Atomic *table; /* thread t's slots: t * slots and on. A block's tag is its slot */
static void **wave_table;    /* the same of the waves' blocks */
static uint64_t wave_blocks; /* of a thread */
static pthread_barrier_t ready;

static void *timed_alloc(struct worker *w, uint32_t size, uint32_t tag)
{
	uint64_t from = ticks();
	void *block = bench_hide(malloc(size));

	put(w->mallocs, ticks() - from);
	if (!block)
		bench_die("malloc(%u): %s", size, strerror(errno));
	bench_write(block, size, tag);
	return block;
}

static void timed_free(struct worker *w, void *block, uint32_t tag)
{
	uint64_t from;

	bench_read(block, tag);
	from = ticks();
	free(block);
	put(w->frees, ticks() - from);
}

static void operate(struct worker *w, struct bench_rng *rng, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t of = bench_below(rng, 100) < remote ? (w->number + 1) % threads : w->number;
		uint32_t slot = (uint32_t)(of * slots) + bench_below(rng, slots);
		void *block;

		/* acquire and release SWAP: a block's words are written before it stands in the
		 * slot, and seen by whoever takes it out */
		block = atomic_exchange_explicit(&table[slot], NULL, memory_order_acq_rel);
		if (block) {
			timed_free(w, block, slot);
			continue;
		}
		block = timed_alloc(w, bench_size(rng, min, max), slot);
		block = atomic_exchange_explicit(&table[slot], block, memory_order_acq_rel);
		if (block)
			timed_free(w, block, slot);
	}
}

static void rise_and_fall(struct worker *w, struct bench_rng *rng)
{
	void **mine = &wave_table[w->number * wave_blocks];
	uint64_t bytes = 0;
	uint32_t n = 0;

	while (bytes < wave / threads && n < wave_blocks) {
		uint32_t size = bench_size(rng, 1024, wave_max);

		mine[n] = timed_alloc(w, size, n);
		for (uint64_t at = BENCH_PAGE; at < size - 1; at += BENCH_PAGE)
			((volatile unsigned char *)mine[n])[at] = 1;
		n++;
		bytes += size;
	}
	for (uint32_t i = 0; i < n; i++)
		timed_free(w, mine[i], i);
}

static void only_grow(struct worker *w, struct bench_rng *rng)
{
	for (uint64_t bytes = 0; bytes < grow / threads;) {
		uint32_t size = bench_size(rng, min, max);
		uint64_t from = ticks();
		unsigned char *block = bench_hide(malloc(size));

		if (!block)
			bench_die("malloc(%u): %s", size, strerror(errno));
		for (uint32_t at = 0; at < size; at += BENCH_PAGE)
			*(volatile unsigned char *)(block + at) = 1;
		put(w->mallocs, ticks() - from);
		bytes += size;
		for (uint64_t end = bench_clock_ns() + pause_ns; bench_clock_ns() < end;)
			bench_pause();
	}
}

static void *run(void *arg)
{
	struct worker *w = arg;
	struct bench_rng rng = bench_seed(bench_seed_arg, w->number);

	pthread_barrier_wait(&ready);
	if (grow) {
		only_grow(w, &rng);
		return NULL;
	}
	operate(w, &rng, ops / threads);
	for (uint64_t n = 0; n < waves; n++) {
		uint64_t end;

		rise_and_fall(w, &rng);
		end = bench_clock_ns() + hold_ms * 1000000;
		operate(w, &rng, ops / threads);
		while (bench_clock_ns() < end)
			operate(w, &rng, 1000);
	}
	return NULL;
}

static uint64_t timer(void)
{
	static struct times t;

	for (int i = 0; i < TIMER_READS; i++) {
		uint64_t from = ticks();

		put(&t, ticks() - from);
	}
	return (uint64_t)quantile(&t, 0.5);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *malloc_key, *free_key;
		double share;
	} shares[] = {
		{ "malloc_p50_ns", "free_p50_ns", 0.5 },
		{ "malloc_p99_ns", "free_p99_ns", 0.99 },
		{ "malloc_p999_ns", "free_p999_ns", 0.999 },
		{ "malloc_p9999_ns", "free_p9999_ns", 0.9999 },
		{ "malloc_max_ns", "free_max_ns", 1 },
	};
	struct bench_figure figures[2 * sizeof(shares) / sizeof(shares[0]) + 1];
	struct bench_section section;
	struct worker *workers;
	uint64_t from, timer_ticks;
	double ns_per_tick;
	int n = 0;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	table = bench_table(threads * slots, sizeof(*table));
	workers = bench_table(threads, sizeof(*workers));
	if (waves) {
		/* blocks are half of the largest in the mean: this is room to spare */
		wave_blocks = 4 * (wave / threads / wave_max) + 64;
		wave_table = bench_table(threads * wave_blocks, sizeof(*wave_table));
	}
	pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
	for (uint64_t t = 0; t < threads; t++) {
		workers[t].number = t;
		workers[t].mallocs = bench_table(1, sizeof(struct times));
		workers[t].frees = bench_table(1, sizeof(struct times));
		workers[t].thread = bench_thread(run, &workers[t]);
	}
	timer_ticks = timer();

	section = bench_begin();
	from = ticks();
	pthread_barrier_wait(&ready);
	for (uint64_t t = 0; t < threads; t++)
		bench_join(workers[t].thread);
	from = ticks() - from;
	section = bench_end(section);

	ns_per_tick = (double)section.ns / (double)from;
	for (uint64_t t = 1; t < threads; t++) {
		merge(workers[0].mallocs, workers[t].mallocs);
		merge(workers[0].frees, workers[t].frees);
	}
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		figures[n++] = (struct bench_figure){
			shares[i].malloc_key,
			quantile(workers[0].mallocs, shares[i].share) * ns_per_tick
		};
		figures[n++] = (struct bench_figure){
			shares[i].free_key,
			quantile(workers[0].frees, shares[i].share) * ns_per_tick
		};
	}
	figures[n++] = (struct bench_figure){ "timer_ns", (double)timer_ticks * ns_per_tick };
	for (uint64_t s = 0; s < threads * slots; s++)
		if (table[s])
			bench_free(table[s], (uint32_t)s);
	bench_report("latency", workers[0].mallocs->all + workers[0].frees->all, section, figures,
		     n);
	return 0;
}
