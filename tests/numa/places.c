/* SPDX-License-Identifier: MIT */
/*
 * Do hakmem.h's places hold? Under LD_PRELOAD; move_pages(2) is the judge.
 *
 *	places CAPACITY_NODE [BANDWIDTH_NODE]
 *	                         the nodes that the kinds must name; 0, where this runs: there is none
 *	places denied            in a container, where memory cannot be bound: it lies where it is touched
 *
 * Runs on node 0 and asks for blocks elsewhere, touches them here, frees them here and there; provokes
 * each error of hakmem(3), but for those of a node without memory (hotplug.c). What the statistics say
 * must be what move_pages says.
 * Ends with 0, with 1 and a line when something does not hold.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>

#include "judge.h"

#define MIB (1ul << 20)
#define MOST 40000

static void *(*malloc_at)(int, size_t);
static void *(*memalign_at)(int, size_t, size_t);
static int (*thread_bind)(int);
static int (*node_of)(const void *);

static const size_t sizes[] = { 100, 2000, 20000, 100000, 700000, 3 * MIB, 65 * MIB };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define TOTAL (8 * MIB) /* of each size, at least one block */
#define SPREAD (16 * MIB) /* the same, interleaved */

static unsigned char *block[MOST];
static unsigned blocks;

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("places: line %d: ", __LINE__);                                     \
			printf(__VA_ARGS__);                                                       \
			putchar('\n');                                                             \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void allocate(void *(*get)(int, size_t), int place, size_t bytes, size_t total, uint64_t pages[JUDGE_NODES])
{
	unsigned want = bytes > total ? 1 : (unsigned)(total / bytes);
	struct judge_look look = { 0 };

	memset(pages, 0, JUDGE_NODES * sizeof(pages[0]));
	for (blocks = 0; blocks < want && blocks < MOST; blocks++) {
		block[blocks] = get(place, bytes);
		CHECK(block[blocks], "no block of %zu bytes at %d: %s", bytes, place, strerror(errno));
		judge_touch(block[blocks], bytes);
		judge_count(&look, block[blocks], bytes, pages);
	}
}

static void drop(void)
{
	while (blocks)
		free(block[--blocks]);
}

static void all_on(int node, const uint64_t pages[JUDGE_NODES], const char *what, size_t bytes)
{
	for (int n = 0; n < JUDGE_NODES; n++)
		CHECK(n == node || !pages[n], "%s: %llu pages of blocks of %zu bytes on node %d instead of %d", what,
		      (unsigned long long)pages[n], bytes, n, node);
}

/* Each node that has any has its share: those without CPUs have none. */
static void even(const uint64_t pages[JUDGE_NODES], size_t bytes)
{
	uint64_t nodes = 0, all = 0;

	for (unsigned n = 0; n < JUDGE_NODES; n++) {
		nodes += pages[n] != 0;
		all += pages[n];
	}
	CHECK(nodes > 1, "blocks of %zu bytes are not interleaved", bytes);
	for (unsigned n = 0; n < JUDGE_NODES; n++) {
		uint64_t mine = pages[n] * nodes, off = mine > all ? mine - all : all - mine;

		/* 2 points */
		CHECK(!pages[n] || off * 50 <= all * nodes, "of blocks of %zu bytes %.2f %% are on node %u of %u", bytes,
		      judge_share(n, pages), n, (unsigned)nodes);
	}
}

static void *drop_there(void *arg)
{
	(void)arg;
	drop();
	return NULL;
}

static void *plain(int place, size_t bytes)
{
	(void)place;
	return malloc(bytes);
}

static void find(const char *name, void *function)
{
	CHECK(judge_find(name, function), "no %s", name);
}

#define EXPECT_ERROR(call, wrong, error)                                                           \
	do {                                                                                       \
		errno = 0;                                                                         \
		CHECK((call) == (wrong) && errno == (error), #call ": errno %d", errno);           \
	} while (0)

static void errors(void)
{
	void *p;

	EXPECT_ERROR(malloc_at(63, 10), NULL, EINVAL);
	EXPECT_ERROR(malloc_at(-9, 10), NULL, EINVAL);
	EXPECT_ERROR(memalign_at(63, 64, 10), NULL, EINVAL);
	EXPECT_ERROR(memalign_at(1, 48, 10), NULL, EINVAL);
	EXPECT_ERROR(memalign_at(1, 0, 10), NULL, EINVAL);
	EXPECT_ERROR(malloc_at(1, PTRDIFF_MAX), NULL, ENOMEM);
	EXPECT_ERROR(memalign_at(1, 64, PTRDIFF_MAX), NULL, ENOMEM);
	EXPECT_ERROR(thread_bind(63), -1, EINVAL);
	EXPECT_ERROR(thread_bind(-9), -1, EINVAL);
	EXPECT_ERROR(node_of(&errno), -1, EINVAL);
	EXPECT_ERROR(node_of(NULL), -1, EINVAL);
	p = malloc(200 * MIB); /* not touched, not bound */
	EXPECT_ERROR(node_of(p), -1, ENODATA);
	free(p);
	p = malloc_at(HAKMEM_NODE_INTERLEAVED, 300 * MIB); /* not touched, of no one node */
	EXPECT_ERROR(node_of(p), -1, ENODATA);
	free(p);
}

/* Blocks of node 1's pool that other heaps' threads freed: its column of the matrix. */
static unsigned long freed(const char *json)
{
	const char *end = judge_pool(json, 1), *at = strstr(json, "\"remote_matrix\":[");
	unsigned long sum = 0;
	unsigned column = 0;

	CHECK(at, "no matrix in the statistics");
	for (const char *p = json; (p = strstr(p, "{\"node\":")) != NULL && p < end; p++)
		column++;
	for (at = strchr(at, '[') + 1; *at == '[' || *at == ','; at++) {
		at += *at == ',';
		for (unsigned i = 0; *at != ']'; i++) {
			unsigned long n = strtoul(at + 1, (char **)&at, 10);

			sum += i == column ? n : 0;
		}
	}
	return sum;
}

/* 16 MiB at node 1 that this thread, on node 0, makes and frees. */
static void figures(void)
{
	enum { TOTAL_BYTES = 16 << 20 };
	uint64_t pages[JUDGE_NODES];
	unsigned long live, claimed, resident, before, after;
	const char *json, *pool;

	allocate(malloc_at, 1, 1000, TOTAL_BYTES, pages);
	all_on(1, pages, "node 1", 1000);
	json = judge_statistics();
	pool = judge_pool(json, 1);
	before = freed(json);
	live = judge_figure(pool, "live"), claimed = judge_figure(pool, "claimed");
	CHECK(live >= TOTAL_BYTES && claimed >= live && judge_figure(pool, "mapped") >= claimed, "live %lu, claimed %lu", live, claimed);
	resident = judge_figure(pool, "resident");
	CHECK(resident >= TOTAL_BYTES && resident >= judge_figure(pool, "huge"), "%lu bytes resident", resident);
	CHECK(judge_figure(pool, "sampled") >= TOTAL_BYTES >> 21 && judge_figure(pool, "sampled") == judge_figure(pool, "placed"),
	      "%lu pages sampled, %lu on node 1", judge_figure(pool, "sampled"), judge_figure(pool, "placed"));
	drop();
	after = freed(judge_statistics());
	/* the last ones wait in the thread's buffer */
	CHECK(after - before >= TOTAL_BYTES / 1000 - 100, "%lu blocks freed to node 1", after - before);
}

/* Kinds are known once the topology has been read, which a heap of some MiB begins. */
static void await_topology(void)
{
	uint64_t pages[JUDGE_NODES];

	for (int i = 0; i < 300 && strstr(judge_statistics(), "\"topology\":\"builtin\""); i++) {
		allocate(plain, 0, 20000, SPREAD, pages);
		drop();
		usleep(100000);
	}
	CHECK(!strstr(judge_statistics(), "\"topology\":\"builtin\""), "no topology");
}

static void denied(void)
{
	uint64_t pages[JUDGE_NODES];
	unsigned char *p;

	for (unsigned i = 0; i < SIZES; i++) {
		allocate(malloc_at, 1, sizes[i], TOTAL, pages);
		all_on(0, pages, "touched here", sizes[i]);
		drop();
	}
	CHECK(thread_bind(1) == 0, "thread_bind");
	CHECK(thread_bind(HAKMEM_NODE_LOCAL) == 0, "thread_bind");
	errors();
	p = malloc(3 * MIB);
	judge_touch(p, 3 * MIB);
	EXPECT_ERROR(node_of(p), -1, ENODATA); /* the kernel does not tell */
	free(p);
}

int main(int argc, char **argv)
{
	uint64_t pages[JUDGE_NODES];
	int capacity = argc > 1 ? atoi(argv[1]) : 0, bandwidth = argc > 2 ? atoi(argv[2]) : 0;
	unsigned char *p;
	pthread_t t;

	find("hakmem_malloc_at", &malloc_at);
	find("hakmem_memalign_at", &memalign_at);
	find("hakmem_thread_bind", &thread_bind);
	find("hakmem_node_of", &node_of);
	if (argc > 1 && strcmp(argv[1], "denied") == 0) {
		denied();
		return 0;
	}

	if (bandwidth)
		await_topology();
	for (unsigned i = 0; i < SIZES; i++) {
		/* twice, if it is no mapping of its own: what the first left must not come to another place */
		for (int round = 0; round < (sizes[i] < 64 * MIB ? 2 : 1); round++) {
			allocate(malloc_at, 1, sizes[i], TOTAL, pages);
			all_on(1, pages, "node 1", sizes[i]);
			CHECK(node_of(block[0]) == 1, "node_of says %d, not 1", node_of(block[0]));
			pthread_create(&t, NULL, drop_there, NULL);
			pthread_join(t, NULL);
			allocate(malloc_at, HAKMEM_NODE_LOCAL, sizes[i], TOTAL, pages);
			all_on(0, pages, "local", sizes[i]);
			drop();
			allocate(malloc_at, HAKMEM_NODE_CAPACITY, sizes[i], TOTAL, pages);
			all_on(capacity, pages, "capacity", sizes[i]);
			drop();
			allocate(malloc_at, HAKMEM_NODE_BANDWIDTH, sizes[i], TOTAL, pages);
			all_on(bandwidth, pages, "bandwidth", sizes[i]);
			drop();
			allocate(plain, 0, sizes[i], TOTAL, pages);
			all_on(0, pages, "malloc afterwards", sizes[i]);
			drop();
			allocate(malloc_at, HAKMEM_NODE_INTERLEAVED, sizes[i], SPREAD, pages);
			even(pages, sizes[i]);
			drop();
		}
	}

	p = memalign_at(1, 1 << 20, 5000);
	CHECK(p && ((uintptr_t)p & (MIB - 1)) == 0, "memalign_at");
	judge_touch(p, 5000);
	CHECK(node_of(p) == 1, "memalign_at: on node %d", node_of(p));
	p = realloc(p, 3000);
	free(p);
	p = malloc_at(1, 900000);
	CHECK(node_of(p) == 1, "before it is touched node_of says %d", node_of(p));
	free(p);

	CHECK(thread_bind(1) == 0, "thread_bind");
	for (unsigned i = 0; i < SIZES; i++) {
		allocate(plain, 0, sizes[i], TOTAL, pages);
		all_on(1, pages, "bound thread", sizes[i]);
		drop();
	}
	CHECK(thread_bind(HAKMEM_NODE_LOCAL) == 0, "thread_bind");
	for (unsigned i = 0; i < SIZES; i++) {
		allocate(plain, 0, sizes[i], TOTAL, pages);
		all_on(0, pages, "thread that is bound no more", sizes[i]);
		drop();
	}

	errors();
	figures();
	return 0;
}
