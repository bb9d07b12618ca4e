/* SPDX-License-Identifier: MIT */
/*
 * What happens when the kernel gives no more? Allocates over all sizes until it is refused,
 * under one limit at a time (limits.sh sets those that come from outside):
 *
 *   limits until BYTES            until NULL or BYTES; then all back, and again
 *   limits as-runtime BYTES       lowers RLIMIT_AS in the middle of a run
 *   limits maps BYTES             fills the process's map count
 *   limits mlock FLAGS BYTES      mlockall: c current, f future
 *
 * A refusal must be NULL with ENOMEM; contents must stay, and what was freed must be there
 * again. Status 77: the limit cannot be set here, with the reason on stderr.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define MOST 400000u
#define EDGE 64u

#define CHECK(cond)                                                                                 \
	do {                                                                                        \
		if (!(cond)) {                                                                      \
			fprintf(stderr, "limits: line %d: %s (errno %d)\n", __LINE__, #cond, errno); \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

struct block {
	unsigned char *p;
	size_t n;
};

/* In the program's own memory: the test must not need what it takes away. */
static struct block blocks[MOST];
static size_t count;

static size_t size_of(size_t i)
{
	static const size_t cycle[] = { 16,    100,   700,	 1500,	  3000,	  9000,	   40000,  60000,
					200000, 500000, MIB - 100, 2 * MIB, 5 * MIB, 64 * MIB, 70 * MIB };
	size_t k = i % 64;
	return k < 40 ? cycle[k % 6] + i % 16 : k < 62 ? cycle[6 + k % 6] : cycle[12 + i / 64 % 3];
}

static void fill(const struct block *b, size_t salt)
{
	size_t edge = b->n < EDGE ? b->n : EDGE;
	memset(b->p, (int)((b->n + salt) % 251), edge);
	memset(b->p + b->n - edge, (int)((b->n + salt) % 251), edge);
}

static void verify(const struct block *b, size_t salt)
{
	size_t edge = b->n < EDGE ? b->n : EDGE;
	for (size_t i = 0; i < edge; i++)
		CHECK(b->p[i] == (b->n + salt) % 251 && b->p[b->n - 1 - i] == (b->n + salt) % 251);
}

/* Bytes that could be had; stops after 40 refusals in a row or at `most`. */
static size_t take(size_t most)
{
	size_t got = 0;
	unsigned refused = 0;
	for (size_t i = 0; refused < 40 && got < most && count < MOST; i++) {
		struct block *b = &blocks[count];
		b->n = size_of(i);
		errno = 0;
		b->p = i % 3 ? malloc(b->n) : i % 2 ? calloc(1, b->n) : aligned_alloc(64, b->n);
		if (!b->p) {
			CHECK(errno == ENOMEM);
			refused++;
			continue;
		}
		refused = 0;
		got += b->n;
		fill(b, count);
		count++;
	}
	return got;
}

static void try_realloc(void)
{
	for (size_t i = 0; i < count; i += 7) {
		size_t n = blocks[i].n * 2 + 70000;
		verify(&blocks[i], i);
		errno = 0;
		unsigned char *p = realloc(blocks[i].p, n);
		if (!p) {
			CHECK(errno == ENOMEM);
			verify(&blocks[i], i);
			continue;
		}
		blocks[i].p = p;
		size_t edge = blocks[i].n < EDGE ? blocks[i].n : EDGE;
		for (size_t k = 0; k < edge; k++)
			CHECK(p[k] == (blocks[i].n + i) % 251);
		blocks[i].n = n;
		fill(&blocks[i], i);
	}
}

static void give_back(void)
{
	for (size_t i = 0; i < count; i++)
		verify(&blocks[i], i);
	for (size_t i = 0; i < count; i++) {
		errno = 4711;
		free(blocks[i].p);
		CHECK(errno == 4711);
	}
	count = 0;
}

static void *in_thread(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < 300; i++)
		free(malloc(size_of(i) % (300 << 10)));
	return NULL;
}

/* Takes all there is, several times over: the last time there must be as much as at first. */
static int rounds(size_t most)
{
	size_t first = 0, got = 0, live = mallinfo2().uordblks;
	for (int i = 0; i < 4; i++) {
		pthread_t t;
		got = take(most);
		first = i ? first : got;
		try_realloc();
		give_back();
		if (pthread_create(&t, NULL, in_thread, NULL) == 0)
			pthread_join(t, NULL);
	}
	if (got < first / 2)
		fprintf(stderr, "limits: %zu bytes at first, %zu at last\n", first, got);
	CHECK(first > 0 && got >= first / 2);
	malloc_trim(0);
	CHECK(mallinfo2().uordblks <= live + 65536);
	return 0;
}

static size_t address_space(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	CHECK(f && fscanf(f, "%ld", &pages) == 1);
	fclose(f);
	return (size_t)pages * PAGE;
}

static int as_runtime(size_t most)
{
	struct rlimit old, low;
	CHECK(getrlimit(RLIMIT_AS, &old) == 0);
	take(40 * MIB);
	for (size_t room = 0; room <= 64 * MIB; room += 32 * MIB) {
		low = old;
		low.rlim_cur = address_space() + room;
		CHECK(setrlimit(RLIMIT_AS, &low) == 0);
		take(most);
		try_realloc();
		give_back();
		CHECK(take(MIB) > 0); /* what was freed can be had, limit or not */
		give_back();
		CHECK(setrlimit(RLIMIT_AS, &old) == 0);
	}
	return rounds(100 * MIB);
}

static int maps(size_t most)
{
	static unsigned char *own[40];
	size_t limit = 65530, made = 0;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	CHECK(f && fscanf(f, "%zu", &limit) == 1);
	fclose(f);
	if (limit > 3000000) {
		fprintf(stderr, "max_map_count is %zu, too many to fill\n", limit);
		return 77;
	}
	take(50 * MIB);
	for (int i = 0; i < 40; i++) {
		CHECK((own[i] = malloc(64 * MIB)));
		own[i][0] = own[i][64 * MIB - 1] = (unsigned char)i;
	}
	size_t bytes = (limit + 16) * 2 * PAGE;
	char *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(p != MAP_FAILED);
	while ((made + 1) * 2 * PAGE <= bytes && mprotect(p + made * 2 * PAGE, PAGE, PROT_READ) == 0)
		made++;
	CHECK(made * 2 * PAGE + 2 * PAGE <= bytes && errno == ENOMEM);
	take(most);
	try_realloc();
	/* again and again: a refusal must cost the block nothing */
	for (int k = 0; k < 200; k++) {
		unsigned char *q = realloc(own[k % 40], (66 + (size_t)k) * MIB);
		if (q)
			own[k % 40] = q;
		q = own[k % 40];
		CHECK(q[0] == k % 40 && malloc_usable_size(q) >= 64 * MIB);
	}
	for (int i = 0; i < 40; i += 2)
		free(own[i]);
	give_back();
	CHECK(take(MIB) > 0);
	give_back();
	CHECK(munmap(p, bytes) == 0);
	for (int i = 1; i < 40; i += 2)
		free(own[i]);
	return rounds(100 * MIB);
}

static int locked(const char *how, size_t most)
{
	int flags = (strchr(how, 'c') ? MCL_CURRENT : 0) | (strchr(how, 'f') ? MCL_FUTURE : 0);
	take(10 * MIB);
	if (mlockall(flags)) {
		fprintf(stderr, "mlockall: %s\n", strerror(errno));
		return errno == EPERM || errno == ENOMEM ? 77 : 1;
	}
	give_back();
	return rounds(most);
}

int main(int argc, char **argv)
{
	size_t most = argc > 2 ? strtoull(argv[argc - 1], NULL, 10) : 0;
	alarm(60);
	if (argc == 3 && !strcmp(argv[1], "until"))
		return rounds(most);
	if (argc == 3 && !strcmp(argv[1], "as-runtime"))
		return as_runtime(most);
	if (argc == 3 && !strcmp(argv[1], "maps"))
		return maps(most);
	if (argc == 4 && !strcmp(argv[1], "mlock"))
		return locked(argv[2], most);
	return 2;
}
