/* SPDX-License-Identifier: MIT */
/*
 * bench.h: what do all micro benchmarks share, so that each file holds its question alone?
 *
 *   arguments   one table per program: --slots 8192, --ops 20M, --max 64Ki; --help prints it
 *   randomness  xorshift64*, seeded: every allocator gets the same requests in the same order
 *   blocks      bench_alloc() writes a block, bench_free() reads it back and dies on a difference
 *   tables      by mmap, populated ahead, so that the allocator under test sees none of them
 *   figures     time, CPU and faults of the measured section; RSS as the page tables have it
 *   report      ONE line of JSON by write(2): stdio would allocate its buffer
 *
 * One translation unit a program, so everything is static. Compile with -fno-builtin: compilers
 * remove malloc/free pairs whose block does not escape. bench_hide() says it once more in the code.
 */
#ifndef HAK_BENCH_H
#define HAK_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BENCH_UNUSED __attribute__((unused))
#define BENCH_PAGE 4096u
#define BENCH_LINE 64u
#define BENCH_ARGS_MAX 16
#define BENCH_MIN_BLOCK 8u /* the stamp's first word: no benchmark asks for less */

/* ---- text out, without stdio's buffers ------------------------------------------------------ */

struct bench_text {
	size_t used;
	char at[16384];
};

static void bench_put(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(4); /* a report nobody can read must not look like a good run */
		text += n;
		length -= (size_t)n;
	}
}

__attribute__((format(printf, 2, 3))) static void bench_add(struct bench_text *t,
							     const char *format, ...)
{
	va_list list;
	int n;

	va_start(list, format);
	n = vsnprintf(t->at + t->used, sizeof(t->at) - t->used, format, list);
	va_end(list);
	if (n < 0 || (size_t)n >= sizeof(t->at) - t->used)
		_exit(4);
	t->used += (size_t)n;
}

__attribute__((noreturn, format(printf, 1, 2))) static void bench_die(const char *format, ...)
{
	static const char end[] = "\n";
	char text[512];
	va_list list;
	int n;

	va_start(list, format);
	n = vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	if (n > 0)
		bench_put(2, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
	bench_put(2, end, 1);
	_exit(3);
}

/* ---- randomness ----------------------------------------------------------------------------- */

struct bench_rng {
	uint64_t state;
};

/* splitmix64 spreads the seed, so that streams 0, 1, 2 ... have nothing in common. */
static inline struct bench_rng bench_seed(uint64_t seed, uint64_t stream)
{
	uint64_t z = seed * 0x9e3779b97f4a7c15u + (stream + 1) * 0xd1342543de82ef95u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return (struct bench_rng){ z ? z : 1 };
}

static inline uint64_t bench_next(struct bench_rng *rng)
{
	uint64_t x = rng->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	rng->state = x;
	return x * 0x2545f4914f6cdd1du;
}

/* 32 random bits to 0 .. below-1, without a division. */
static inline uint32_t bench_scale(uint32_t bits, uint64_t below)
{
	return (uint32_t)(((uint64_t)bits * below) >> 32);
}

static inline uint32_t bench_below(struct bench_rng *rng, uint64_t below)
{
	return bench_scale((uint32_t)(bench_next(rng) >> 32), below);
}

static inline uint32_t bench_size(struct bench_rng *rng, uint64_t min, uint64_t max)
{
	return (uint32_t)min + bench_below(rng, max - min + 1);
}

/* Every octave from min to max is equally likely, and every size within it. No libm. */
BENCH_UNUSED static uint32_t bench_size_log(struct bench_rng *rng, uint64_t min, uint64_t max)
{
	uint32_t octaves = 0;
	uint64_t low, high;

	while (min << (octaves + 1) <= max)
		octaves++;
	low = min << bench_below(rng, octaves + (min << octaves < max));
	high = 2 * low - 1 < max ? 2 * low - 1 : max;
	return bench_size(rng, low, high);
}

/* ---- arguments ------------------------------------------------------------------------------ */

struct bench_arg {
	const char *name;
	uint64_t *value; /* holds the default before bench_parse() */
	uint64_t min, max;
	const char *help;
};

enum bench_touch { BENCH_ENDS, BENCH_PAGES, BENCH_ALL };
static const char *const bench_touches[] = { "ends", "pages", "all" };

static enum bench_touch bench_touch = BENCH_ENDS; /* a program may set its own default */
static uint64_t bench_seed_arg = 1;
static struct bench_arg bench_args[BENCH_ARGS_MAX];
static int bench_nargs;

/* 20000, 20k, 20M, 64Ki, 1Gi */
static bool bench_number(const char *text, uint64_t *value)
{
	static const struct {
		const char *unit;
		uint64_t factor;
	} units[] = {
		{ "", 1 },
		{ "k", 1000 },
		{ "M", 1000 * 1000 },
		{ "G", 1000 * 1000 * 1000 },
		{ "Ki", 1u << 10 },
		{ "Mi", 1u << 20 },
		{ "Gi", 1u << 30 },
	};
	char *end;
	uint64_t n;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(end, units[i].unit))
			return !__builtin_mul_overflow(n, units[i].factor, value);
	return false;
}

__attribute__((noreturn)) static void bench_help(const char *program)
{
	static struct bench_text t;

	bench_add(&t, "usage: %s [options]\n", program);
	for (int i = 0; i < bench_nargs; i++)
		bench_add(&t, "  --%-12s %s [%llu]\n", bench_args[i].name, bench_args[i].help,
			  (unsigned long long)*bench_args[i].value);
	bench_add(&t,
		  "  --%-12s how much of a block is written and read: ends, pages or all [%s]\n",
		  "touch", bench_touches[bench_touch]);
	bench_put(1, t.at, t.used);
	_exit(0);
}

BENCH_UNUSED static void bench_parse(int argc, char **argv, const struct bench_arg *args, int nargs)
{
	static struct option options[BENCH_ARGS_MAX + 3];
	const int touch = BENCH_ARGS_MAX, help = BENCH_ARGS_MAX + 1;
	int n, c;

	if (nargs + 1 > BENCH_ARGS_MAX)
		bench_die("%s: more than %d arguments", argv[0], BENCH_ARGS_MAX - 1);
	memcpy(bench_args, args, (size_t)nargs * sizeof(args[0]));
	bench_args[nargs] = (struct bench_arg){ "seed", &bench_seed_arg, 0, UINT32_MAX,
						"seed of the requests" };
	bench_nargs = nargs + 1;
	for (n = 0; n < bench_nargs; n++)
		options[n] = (struct option){ bench_args[n].name, required_argument, NULL, n };
	options[n++] = (struct option){ "touch", required_argument, NULL, touch };
	options[n++] = (struct option){ "help", no_argument, NULL, help };

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == help)
			bench_help(argv[0]);
		if (c == touch) {
			int i = 0;

			while (i <= BENCH_ALL && strcmp(optarg, bench_touches[i]))
				i++;
			if (i > BENCH_ALL)
				bench_die("%s: --touch %s: ends, pages or all", argv[0], optarg);
			bench_touch = (enum bench_touch)i;
			continue;
		}
		if (c < 0 || c >= bench_nargs)
			_exit(2); /* getopt has said why */
		if (!bench_number(optarg, bench_args[c].value) ||
		    *bench_args[c].value < bench_args[c].min ||
		    *bench_args[c].value > bench_args[c].max)
			bench_die("%s: --%s %s: a number from %llu to %llu", argv[0],
				  bench_args[c].name, optarg, (unsigned long long)bench_args[c].min,
				  (unsigned long long)bench_args[c].max);
	}
	if (optind != argc)
		bench_die("%s: %s: no such argument", argv[0], argv[optind]);
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* The compiler must believe that somebody else sees the block. */
static inline void *bench_hide(void *p)
{
	__asm__ volatile("" : "+r"(p) : : "memory");
	return p;
}

/*
 * A block says its own size and tag in its first word, so no table beside it is needed, and its
 * tag again in its last byte, so two blocks that overlap are found out.
 */
static inline void bench_write(void *block, uint32_t size, uint32_t tag)
{
	uint64_t word = (uint64_t)size << 32 | tag;
	volatile unsigned char *p = block;

	memcpy(block, &word, sizeof(word));
	if (size > BENCH_MIN_BLOCK)
		p[size - 1] = (unsigned char)tag;
	if (bench_touch == BENCH_PAGES)
		for (size_t i = BENCH_PAGE; i < size - 1; i += BENCH_PAGE)
			p[i] = (unsigned char)tag;
	else if (bench_touch == BENCH_ALL && size > BENCH_MIN_BLOCK)
		memset((char *)block + BENCH_MIN_BLOCK, (int)tag, size - BENCH_MIN_BLOCK);
	bench_hide(block);
}

/* Returns the size found in the block. */
static inline uint32_t bench_read(const void *block, uint32_t tag)
{
	const volatile unsigned char *p = block;
	unsigned char wrong = 0;
	uint64_t word;
	uint32_t size;

	memcpy(&word, block, sizeof(word));
	size = (uint32_t)(word >> 32);
	if ((uint32_t)word != tag)
		bench_die("block %p: first word %#llx is not of tag %#x: overwritten", block,
			  (unsigned long long)word, tag);
	if (size > BENCH_MIN_BLOCK)
		wrong |= (unsigned char)(p[size - 1] ^ tag);
	if (bench_touch == BENCH_PAGES)
		for (size_t i = BENCH_PAGE; i < size - 1; i += BENCH_PAGE)
			wrong |= (unsigned char)(p[i] ^ tag);
	else if (bench_touch == BENCH_ALL)
		for (size_t i = BENCH_MIN_BLOCK; i < size; i++)
			wrong |= (unsigned char)(((const unsigned char *)block)[i] ^ tag);
	if (wrong)
		bench_die("block %p of %u bytes, tag %#x: overwritten", block, size, tag);
	return size;
}

static inline void *bench_alloc(uint32_t size, uint32_t tag)
{
	void *block = bench_hide(malloc(size));

	if (!block)
		bench_die("malloc(%u): %s", size, strerror(errno));
	bench_write(block, size, tag);
	return block;
}

static inline void bench_free(void *block, uint32_t tag)
{
	bench_read(block, tag);
	free(block);
}

/* ---- the harness's own memory --------------------------------------------------------------- */

BENCH_UNUSED static void *bench_table(size_t count, size_t size)
{
	void *p = mmap(NULL, count * size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		bench_die("mmap of %zu times %zu bytes: %s", count, size, strerror(errno));
	return p;
}

/* ---- sets of blocks of any size --------------------------------------------------------------- */

struct bench_set {
	void **table; /* the first `count` are blocks; a block's tag is its size */
	uint64_t count, bytes;
};

BENCH_UNUSED static void bench_set_add(struct bench_set *s, uint32_t size)
{
	s->table[s->count++] = bench_alloc(size, size);
	s->bytes += size;
}

BENCH_UNUSED static void bench_set_free(struct bench_set *s, uint64_t i)
{
	void *block = s->table[i];
	uint32_t size = *(const uint32_t *)block; /* the stamp's low half: the tag, so the size */

	bench_free(block, size);
	s->bytes -= size;
	s->table[i] = s->table[--s->count];
}

/* ---- threads -------------------------------------------------------------------------------- */

BENCH_UNUSED static pthread_t bench_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, run, arg);

	if (error)
		bench_die("pthread_create: %s", strerror(error));
	return thread;
}

BENCH_UNUSED static void bench_join(pthread_t thread)
{
	int error = pthread_join(thread, NULL);

	if (error)
		bench_die("pthread_join: %s", strerror(error));
}

static inline void bench_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* ---- figures -------------------------------------------------------------------------------- */

static inline uint64_t bench_clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct bench_section {
	uint64_t ns;
	struct rusage usage;
};

static double bench_cpu(const struct rusage *r)
{
	return (double)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) +
	       (double)(r->ru_utime.tv_usec + r->ru_stime.tv_usec) / 1e6;
}

BENCH_UNUSED static struct bench_section bench_begin(void)
{
	struct bench_section s;

	getrusage(RUSAGE_SELF, &s.usage);
	s.ns = bench_clock_ns();
	return s;
}

/* What the section took, in the same structure. */
BENCH_UNUSED static struct bench_section bench_end(struct bench_section s)
{
	uint64_t ns = bench_clock_ns();
	struct rusage now;

	getrusage(RUSAGE_SELF, &now);
	s.ns = ns - s.ns;
	timersub(&now.ru_utime, &s.usage.ru_utime, &s.usage.ru_utime);
	timersub(&now.ru_stime, &s.usage.ru_stime, &s.usage.ru_stime);
	s.usage.ru_minflt = now.ru_minflt - s.usage.ru_minflt;
	s.usage.ru_majflt = now.ru_majflt - s.usage.ru_majflt;
	return s;
}

struct bench_memory {
	uint64_t rss_kib, anon_kib, huge_kib;
};

/* smaps_rollup walks the page tables. The kernel's counters may be off by 32 pages a CPU. */
BENCH_UNUSED static struct bench_memory bench_memory(void)
{
	struct bench_memory m = { 0, 0, 0 };
	const struct {
		const char *key;
		uint64_t *value;
	} fields[] = {
		{ "\nRss:", &m.rss_kib },
		{ "\nAnonymous:", &m.anon_kib },
		{ "\nAnonHugePages:", &m.huge_kib },
	};
	static char text[4096];
	size_t used = 0;
	ssize_t n;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		bench_die("/proc/self/smaps_rollup: %s", strerror(errno));
	while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	close(fd);
	text[used] = 0;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		char *at = strstr(text, fields[i].key);

		if (!at)
			bench_die("/proc/self/smaps_rollup has no line %s", fields[i].key + 1);
		*fields[i].value = strtoull(at + strlen(fields[i].key), NULL, 10);
	}
	return m;
}

/* ---- report --------------------------------------------------------------------------------- */

struct bench_figure {
	const char *key;
	double value;
};

/* More of the report than numbers: `,"key":...` as it stands, or NULL. */
static const char *bench_extra;

/* Whose malloc this was: a preload that ld.so ignored must not pass for the real thing. */
static const char *bench_malloc_from(void)
{
	void *address = dlsym(RTLD_DEFAULT, "malloc");
	Dl_info info;

	if (!address || !dladdr(address, &info) || !info.dli_fname)
		return "?";
	return info.dli_fname;
}

BENCH_UNUSED static void bench_report(const char *name, uint64_t ops, struct bench_section s,
				      const struct bench_figure *more, int nmore)
{
	static struct bench_text t;
	double seconds = (double)s.ns / 1e9;
	struct rusage self;

	getrusage(RUSAGE_SELF, &self);
	bench_add(&t, "{\"bench\":\"%s\",\"args\":{", name);
	for (int i = 0; i < bench_nargs; i++)
		bench_add(&t, "\"%s\":%llu,", bench_args[i].name,
			  (unsigned long long)*bench_args[i].value);
	bench_add(&t, "\"touch\":\"%s\"},\"ops\":%llu,\"seconds\":%.9f", bench_touches[bench_touch],
		  (unsigned long long)ops, seconds);
	if (ops > 0 && s.ns > 0)
		bench_add(&t, ",\"ns_per_op\":%.4f,\"ops_per_s\":%.0f",
			  (double)s.ns / (double)ops, (double)ops / seconds);
	bench_add(&t, ",\"section_cpu_s\":%.6f,\"section_minflt\":%ld,\"section_majflt\":%ld",
		  bench_cpu(&s.usage), s.usage.ru_minflt, s.usage.ru_majflt);
	bench_add(&t, ",\"cpu_s\":%.6f,\"maxrss_kib\":%ld,\"minflt\":%ld,\"majflt\":%ld",
		  bench_cpu(&self), self.ru_maxrss, self.ru_minflt, self.ru_majflt);
	for (int i = 0; i < nmore; i++)
		bench_add(&t, ",\"%s\":%.6g", more[i].key, more[i].value);
	if (bench_extra)
		bench_add(&t, "%s", bench_extra);
	bench_add(&t, ",\"malloc_from\":\"%s\",\"compiler\":\"%s\"}\n", bench_malloc_from(),
		  __VERSION__);
	bench_put(1, t.at, t.used);
}

#endif
