/* SPDX-License-Identifier: MIT */
/*
 * nodes: does a block lie on the node of the thread that asked for it, and what does an operation cost
 * when threads of several nodes pass blocks to each other?
 *
 * Some threads a node, pinned to the node's CPUs or left to the kernel. Each has slots; an operation
 * takes a slot, its own or for some percent one of the next node's threads, swaps a new written block
 * into it and reads and frees the old one. A block's tag is the node that its thread was on when it
 * asked. In the end the kernel is asked (move_pages) where the blocks' pages are: local_percent is
 * the share that is on the node of the tag.
 *
 * Under numactl the user's policy decides: then node_percent says what became of it. bench/numa
 * runs all of that. Exit status 77: nothing to see on a machine with one node that has CPUs.
 */
#include "bench.h" /* first: it asks libc for everything */

#include <stdatomic.h>
#include <sys/syscall.h>

static uint64_t per_node = 1, pin = 1, cross = 10, min = 16, max = 32768, slots = 4096;
static uint64_t ops = 1000000;

static const struct bench_arg args[] = {
	{ "per-node", &per_node, 1, 1024, "threads a node" },
	{ "pin", &pin, 0, 1, "1: pinned to their node's CPUs" },
	{ "cross", &cross, 0, 100, "percent of the operations on the next node's slots" },
	{ "min", &min, BENCH_MIN_BLOCK, UINT32_MAX, "smallest block, bytes" },
	{ "max", &max, BENCH_MIN_BLOCK, UINT32_MAX, "largest block, bytes; by octave" },
	{ "slots", &slots, 1, 1u << 20, "slots of a thread" },
	{ "ops", &ops, 1, UINT64_MAX, "operations in all; one is a malloc and a free" },
};

#define NODES_MAX 64
#define NO_NODES 77
#define ASKED_AT_ONCE 512

struct worker {
	pthread_t thread;
	uint32_t number;
	uint32_t place; /* into nodes[] */
	uint64_t ops;
} __attribute__((aligned(2 * BENCH_LINE)));

static struct {
	uint32_t node;
	cpu_set_t cpus;
} nodes[NODES_MAX]; /* those with CPUs that this process may run on */
static uint32_t nnodes;

static void *_Atomic *table; /* thread t's slots: t * slots and on */
static pthread_barrier_t ready;

/* A list such as 0-3,8: adds the CPUs that are allowed, and says whether there were any. */
static bool add_cpus(const char *at, const cpu_set_t *allowed, cpu_set_t *cpus)
{
	bool any = false;

	while (*at >= '0' && *at <= '9') {
		char *end;
		unsigned long from = strtoul(at, &end, 10), to = from;

		if (*end == '-')
			to = strtoul(end + 1, &end, 10);
		for (; from <= to && from < CPU_SETSIZE; from++)
			if (CPU_ISSET(from, allowed)) {
				CPU_SET(from, cpus);
				any = true;
			}
		at = *end == ',' ? end + 1 : end;
	}
	return any;
}

static void find_nodes(void)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		bench_die("sched_getaffinity: %s", strerror(errno));
	for (uint32_t node = 0; node < NODES_MAX; node++) {
		char path[64], text[4096];
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
		text[n > 0 ? n : 0] = 0;
		nodes[nnodes].node = node;
		nnodes += add_cpus(text, &allowed, &nodes[nnodes].cpus);
	}
}

static uint32_t node_now(void)
{
	unsigned cpu, node = 0;

	if (syscall(SYS_getcpu, &cpu, &node, NULL))
		bench_die("getcpu: %s", strerror(errno));
	return node;
}

/* The stamp's low half is the tag. */
static void free_any(void *block)
{
	bench_free(block, *(const uint32_t *)block);
}

static void *run(void *arg)
{
	struct worker *w = arg;
	struct bench_rng rng = bench_seed(bench_seed_arg, w->number);
	uint32_t threads = nnodes * (uint32_t)per_node;

	if (pin && pthread_setaffinity_np(pthread_self(), sizeof(cpu_set_t), &nodes[w->place].cpus))
		bench_die("a thread cannot be pinned to node %u", nodes[w->place].node);
	pthread_barrier_wait(&ready);
	for (uint64_t i = 0; i < w->ops; i++) {
		/* threads are dealt out to the nodes in turn: the next thread is on the next node */
		uint32_t of = bench_below(&rng, 100) < cross ? (w->number + 1) % threads : w->number;
		uint64_t slot = of * slots + bench_below(&rng, slots);
		void *block = bench_alloc(bench_size_log(&rng, min, max), node_now());

		/* acquire and release SWAP: a block's words are written before it stands in the
		 * slot, and seen by whoever takes it out */
		block = atomic_exchange_explicit(&table[slot], block, memory_order_acq_rel);
		if (block)
			free_any(block);
	}
	return NULL;
}

struct places {
	uint64_t blocks, local, on[NODES_MAX];
};

static void ask(void **page, const uint32_t *tag, int n, struct places *p)
{
	int status[ASKED_AT_ONCE];

	if (syscall(SYS_move_pages, 0, (unsigned long)n, page, NULL, status, 0))
		bench_die("move_pages: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		if (status[i] < 0 || status[i] >= NODES_MAX)
			bench_die("move_pages says %d of the page at %p", status[i], page[i]);
		p->blocks++;
		p->local += (uint32_t)status[i] == tag[i];
		p->on[status[i]]++;
	}
}

static void judge(uint64_t all_slots, struct places *p)
{
	void *page[ASKED_AT_ONCE];
	uint32_t tag[ASKED_AT_ONCE];
	int n = 0;

	for (uint64_t s = 0; s < all_slots; s++) {
		if (!table[s])
			continue;
		page[n] = (void *)((uintptr_t)table[s] & ~(uintptr_t)(BENCH_PAGE - 1));
		tag[n++] = *(const uint32_t *)table[s];
		if (n == ASKED_AT_ONCE) {
			ask(page, tag, n, p);
			n = 0;
		}
	}
	if (n)
		ask(page, tag, n, p);
}

int main(int argc, char **argv)
{
	static struct bench_text extra;
	static struct places places;
	struct bench_section section;
	struct worker *workers;
	uint32_t threads;

	bench_parse(argc, argv, args, sizeof(args) / sizeof(args[0]));
	if (max < min)
		bench_die("--max is below --min");
	find_nodes();
	if (access("/sys/devices/system/node/node1", F_OK)) {
		static const char text[] = "nodes: this machine has one node\n";

		bench_put(2, text, sizeof(text) - 1);
		return NO_NODES;
	}
	threads = nnodes * (uint32_t)per_node;
	table = bench_table(threads * slots, sizeof(*table));
	workers = bench_table(threads, sizeof(*workers));
	pthread_barrier_init(&ready, NULL, threads + 1);
	for (uint32_t t = 0; t < threads; t++) {
		workers[t].number = t;
		workers[t].place = t % nnodes;
		workers[t].ops = ops / threads + (t < ops % threads);
		workers[t].thread = bench_thread(run, &workers[t]);
	}

	section = bench_begin();
	pthread_barrier_wait(&ready);
	for (uint32_t t = 0; t < threads; t++)
		bench_join(workers[t].thread);
	section = bench_end(section);

	judge(threads * slots, &places);
	for (uint64_t s = 0; s < threads * slots; s++)
		if (table[s])
			free_any(table[s]);
	bench_add(&extra, ",\"node_percent\":{");
	for (uint32_t node = 0, some = 0; node < NODES_MAX; node++)
		if (places.on[node]) {
			bench_add(&extra, "%s\"%u\":%.2f", some ? "," : "", node,
				  100.0 * (double)places.on[node] / (double)places.blocks);
			some = 1;
		}
	bench_add(&extra, "}");
	bench_extra = extra.at;
	bench_report("nodes", ops, section,
		     (const struct bench_figure[]){
			     { "threads", threads },
			     { "blocks", (double)places.blocks },
			     { "local_percent",
			       100.0 * (double)places.local / (double)places.blocks },
		     },
		     3);
	return 0;
}
