/* SPDX-License-Identifier: MIT */
/*
 * On which NUMA node does a thread's memory lie?
 *
 * A plain program of malloc and free, run under any allocator by LD_PRELOAD. Threads pinned to
 * the nodes' CPUs allocate, touch and free in the ways that programs do; move_pages(2) is asked
 * where each page lies. A block counts as placed when all of its pages are on the node of the
 * thread that allocated it. Every cell (situation and range of sizes) runs in a process of its
 * own, so that none inherits another's heap; --together runs all of them in one process.
 *
 * Ends with 0, with 1 when a share is below --min, with 77 on a machine with fewer than two
 * nodes that have CPUs, with 2 when it could not measure.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "judge.h"

#define MAX_BLOCKS 20000
#define HUGE_PAGE (2ul << 20) /* only decides which pages a first touch can be judged by */
#define BIG_MAX (1024ul << 20)
#define BIG_SHORT (192ul << 20)
/* Blocks whose memory an allocator keeps for the next one: of a mapping that others share, of their own. */
#define REUSED_SHARED (56ul << 20)
#define REUSED_OWN (128ul << 20)
#define ROUNDS (option_short ? 2 : 4)
#define COMERS 4 /* threads per node that come and go */
#define KEPT(range) ((range)->blocks / 8) /* outlive the rest: no heap is ever wholly free */

extern char **environ;

/* Blocks are few where they are large: a cell touches 10 to 40 MiB a round and thread. */
static const struct range {
	const char *name;
	size_t low, high;
	unsigned blocks;
} ranges[] = {
	{ "16-1024", 16, 1024, 20000 },
	{ "2K-50K", 2048, 50 * 1024, 1500 },
	{ "53K-512K", 53 * 1024, 512 * 1024, 120 },
};
#define RANGES (sizeof(ranges) / sizeof(ranges[0]))

struct batch {
	unsigned count;
	unsigned char *block[MAX_BLOCKS];
	size_t bytes[MAX_BLOCKS];
};

struct count {
	uint64_t own, all;
};

/* What one cell measured, per node by position; shared with the process that ran it. */
struct cell {
	struct count node[JUDGE_NODES];
	uint32_t done;
};

static struct {
	unsigned count;
	unsigned id[JUDGE_NODES];
	cpu_set_t cpus[JUDGE_NODES];
} machine;

static unsigned option_ops = 500, option_short;

/* ---- the machine ---- */

static void add_node(unsigned id, void *arg)
{
	(void)arg;
	if (machine.count == JUDGE_NODES || !judge_cpus(id, &machine.cpus[machine.count]))
		return;
	machine.id[machine.count++] = id;
}

static void find_machine(void)
{
	char line[4096];

	if (judge_line("/sys/devices/system/node/has_memory", line, sizeof(line)))
		judge_list(line, add_node, NULL);
}

/* Bytes of all nodes' free memory, for choosing the size of the big block. */
static size_t free_bytes(void)
{
	char line[256];
	size_t kib = 0;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %zu", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib * 1024;
}

static void move_to(unsigned node)
{
	if (sched_setaffinity(0, sizeof(cpu_set_t), &machine.cpus[node]))
		judge_broken("sched_setaffinity: %s", strerror(errno));
	if (judge_here() != machine.id[node])
		judge_broken("pinned to node %u, but runs on node %u", machine.id[node], judge_here());
}

/* The thread is born on its node: nothing of it runs elsewhere first. */
static pthread_t start_on(unsigned node, void *(*body)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(cpu_set_t), &machine.cpus[node]);
	error = pthread_create(&thread, &attr, body, arg);
	if (error)
		judge_broken("pthread_create: %s", strerror(error));
	pthread_attr_destroy(&attr);
	return thread;
}

/* ---- allocate, touch, ask, free ---- */

static size_t random_size(const struct range *range, uint64_t *state)
{
	return range->low + judge_random(state) % (range->high - range->low + 1);
}

static void fill(struct batch *batch, const struct range *range, uint64_t *state)
{
	for (batch->count = 0; batch->count < range->blocks; batch->count++) {
		size_t bytes = random_size(range, state);
		unsigned char *block = malloc(bytes);

		if (!block)
			judge_broken("malloc of %zu bytes failed", bytes);
		judge_touch(block, bytes);
		batch->block[batch->count] = block;
		batch->bytes[batch->count] = bytes;
	}
}

/* In an order of its own, as a program's frees rarely follow its allocations. */
static void drop(struct batch *batch, unsigned keep, uint64_t *state)
{
	while (batch->count > keep) {
		unsigned pick = judge_random(state) % batch->count, last = --batch->count;

		free(batch->block[pick]);
		batch->block[pick] = batch->block[last];
		batch->bytes[pick] = batch->bytes[last];
	}
}

static bool block_is_on(struct judge_look *look, const unsigned char *block, size_t bytes, unsigned node)
{
	uint64_t pages[JUDGE_NODES] = { 0 };

	judge_count(look, block, bytes, pages);
	return judge_share(machine.id[node], pages) == 100.0;
}

static void judge(const struct batch *batch, unsigned node, struct count *count)
{
	struct judge_look look = { 0 };

	for (unsigned i = 0; i < batch->count; i++)
		count->own += block_is_on(&look, batch->block[i], batch->bytes[i], node);
	count->all += batch->count;
}

/* ---- the situations ---- */

struct actor {
	const struct range *range;
	struct cell *cell;
	pthread_barrier_t *step;
	struct batch *batch; /* what this actor allocates; room for two */
	struct batch *others; /* what it takes over, two as well, or NULL */
	unsigned char *big;
	size_t big_bytes;
	unsigned node, other;
	uint64_t random;
};

static struct actor actor_on(unsigned node, const struct range *range, struct cell *cell)
{
	return (struct actor){ .node = node,
			       .range = range,
			       .cell = cell,
			       .batch = judge_memory(2 * sizeof(struct batch)),
			       .random = 0x9e3779b97f4a7c15ull * (node + 1) };
}

static void end_of(struct actor *actor)
{
	munmap(actor->batch, 2 * sizeof(struct batch));
}

static void *local_body(void *arg)
{
	struct actor *a = arg;

	for (int round = 0; round < ROUNDS; round++) {
		fill(a->batch, a->range, &a->random);
		judge(a->batch, a->node, &a->cell->node[a->node]);
		drop(a->batch, 0, &a->random);
	}
	return NULL;
}

/* All nodes at once: threads that allocate and free what is theirs. */
static void run_local(const struct range *range, struct cell *cell)
{
	struct actor actor[JUDGE_NODES];
	pthread_t thread[JUDGE_NODES];

	for (unsigned n = 0; n < machine.count; n++) {
		actor[n] = actor_on(n, range, cell);
		thread[n] = start_on(n, local_body, &actor[n]);
	}
	for (unsigned n = 0; n < machine.count; n++) {
		pthread_join(thread[n], NULL);
		end_of(&actor[n]);
	}
}

static void *producer_body(void *arg)
{
	struct actor *a = arg;

	for (int round = 0; round < ROUNDS; round++) {
		fill(a->batch, a->range, &a->random);
		pthread_barrier_wait(a->step); /* handed over */
		pthread_barrier_wait(a->step); /* consumed */
	}
	return NULL;
}

static void *consumer_body(void *arg)
{
	struct actor *a = arg;

	for (int round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(a->step);
		drop(a->others, KEPT(a->range), &a->random);
		fill(a->batch, a->range, &a->random);
		judge(a->batch, a->node, &a->cell->node[a->node]);
		drop(a->batch, 0, &a->random);
		drop(a->others, 0, &a->random);
		pthread_barrier_wait(a->step);
	}
	return NULL;
}

/* One pair at a time: a consumer's fresh blocks, after it freed a producer's. */
static void run_consumer(const struct range *range, struct cell *cell)
{
	for (unsigned n = 0; n < machine.count; n++) {
		struct actor consumer = actor_on(n, range, cell);
		struct actor producer = actor_on((n + 1) % machine.count, range, cell);
		pthread_barrier_t step;
		pthread_t thread[2];

		pthread_barrier_init(&step, NULL, 2);
		consumer.step = producer.step = &step;
		consumer.others = producer.batch;
		thread[0] = start_on(producer.node, producer_body, &producer);
		thread[1] = start_on(consumer.node, consumer_body, &consumer);
		pthread_join(thread[0], NULL);
		pthread_join(thread[1], NULL);
		pthread_barrier_destroy(&step);
		end_of(&producer);
		end_of(&consumer);
	}
}

static void *mover_body(void *arg)
{
	struct actor *a = arg;
	unsigned char *held[32] = { NULL };

	fill(a->batch, a->range, &a->random);
	drop(a->batch, 0, &a->random);
	fill(a->batch, a->range, &a->random);
	drop(a->batch, a->range->blocks / 4, &a->random);
	move_to(a->other);
	for (unsigned i = 0; i < option_ops; i++) {
		unsigned slot = judge_random(&a->random) % 32;

		free(held[slot]);
		held[slot] = malloc(random_size(a->range, &a->random));
		if (!held[slot])
			judge_broken("malloc failed after the move");
		*held[slot] = 1;
	}
	drop(a->batch, 0, &a->random);
	fill(a->batch, a->range, &a->random);
	judge(a->batch, a->other, &a->cell->node[a->other]);
	drop(a->batch, 0, &a->random);
	for (unsigned i = 0; i < 32; i++)
		free(held[i]);
	return NULL;
}

/* Fresh blocks of a thread that was moved, some hundreds of operations after its move. */
static void run_moved(const struct range *range, struct cell *cell)
{
	for (unsigned n = 0; n < machine.count; n++) {
		struct actor mover = actor_on(n, range, cell);

		mover.other = (n + 1) % machine.count;
		pthread_join(start_on(n, mover_body, &mover), NULL);
		end_of(&mover);
	}
}

static void *sudden_body(void *arg)
{
	struct actor *a = arg;

	fill(a->batch, a->range, &a->random);
	drop(a->batch, a->range->blocks / 4, &a->random);
	move_to(a->other);
	fill(&a->batch[1], a->range, &a->random);
	judge(&a->batch[1], a->other, &a->cell->node[a->other]);
	drop(&a->batch[1], 0, &a->random);
	drop(a->batch, 0, &a->random);
	return NULL;
}

/* All blocks from the move on, when the thread's caches are full of the old node's: an
 * allocator that looks only when a cache runs dry shows here what it held. */
static void run_sudden(const struct range *range, struct cell *cell)
{
	for (unsigned n = 0; n < machine.count; n++) {
		struct actor mover = actor_on(n, range, cell);

		mover.other = (n + 1) % machine.count;
		pthread_join(start_on(n, sudden_body, &mover), NULL);
		end_of(&mover);
	}
}

static void *comer_body(void *arg)
{
	struct actor *a = arg;

	fill(a->batch, a->range, &a->random);
	judge(a->batch, a->node, &a->cell->node[a->node]);
	drop(a->batch, KEPT(a->range), &a->random);
	if (a->others)
		drop(a->others, 0, &a->random);
	return NULL;
}

/* One thread after the other, each on the next node: whose memory do they inherit? */
static void run_turnover(const struct range *range, struct cell *cell)
{
	struct actor comer, last = { 0 };

	for (unsigned i = 0; i < COMERS * machine.count; i++) {
		comer = actor_on(i % machine.count, range, cell);
		comer.random += i;
		comer.others = last.batch;
		pthread_join(start_on(comer.node, comer_body, &comer), NULL);
		if (last.batch)
			end_of(&last);
		last = comer;
	}
	drop(last.batch, 0, &last.random);
	end_of(&last);
}

static void *stream_body(void *arg)
{
	struct actor *a = arg;

	for (int round = 0; round < ROUNDS; round++) {
		struct batch *given = &a->others[round % 2], *made = &a->batch[round % 2];

		fill(made, a->range, &a->random);
		judge(made, a->node, &a->cell->node[a->node]);
		pthread_barrier_wait(a->step);
		/* The last of the round before go only now, when there are new ones. */
		drop(&a->others[(round + 1) % 2], 0, &a->random);
		drop(given, KEPT(a->range), &a->random);
		pthread_barrier_wait(a->step);
	}
	drop(&a->others[(ROUNDS + 1) % 2], 0, &a->random);
	return NULL;
}

/* All nodes at once in a ring: each makes blocks, then frees most of its neighbour's. */
static void run_stream(const struct range *range, struct cell *cell)
{
	struct actor actor[JUDGE_NODES];
	pthread_t thread[JUDGE_NODES];
	pthread_barrier_t step;

	pthread_barrier_init(&step, NULL, machine.count);
	for (unsigned n = 0; n < machine.count; n++)
		actor[n] = actor_on(n, range, cell);
	for (unsigned n = 0; n < machine.count; n++) {
		actor[n].step = &step;
		actor[n].others = actor[(n + 1) % machine.count].batch;
		thread[n] = start_on(n, stream_body, &actor[n]);
	}
	for (unsigned n = 0; n < machine.count; n++)
		pthread_join(thread[n], NULL);
	for (unsigned n = 0; n < machine.count; n++)
		end_of(&actor[n]);
	pthread_barrier_destroy(&step);
}

static void *toucher_body(void *arg)
{
	struct actor *a = arg;

	judge_touch(a->big, a->big_bytes);
	return NULL;
}

/*
 * A huge page that two slices share belongs to whoever came first, whatever the allocator does:
 * only pages of huge pages wholly inside a slice are judged.
 */
static void judge_slice(const struct actor *a)
{
	uintptr_t low = ((uintptr_t)a->big + HUGE_PAGE - 1) & -HUGE_PAGE;
	uintptr_t high = ((uintptr_t)a->big + a->big_bytes) & -HUGE_PAGE;
	struct count *count = &a->cell->node[a->node];
	uint64_t pages[JUDGE_NODES] = { 0 };
	struct judge_look look = { 0 };

	judge_count(&look, (void *)low, high - low, pages);
	count->own += pages[machine.id[a->node]];
	count->all += (high - low) / JUDGE_PAGE;
}

/*
 * A big block of the main thread's, touched in slices by one thread per node; then the same again,
 * each time the next node's thread for a slice: what is reused as it lay would lie wrong.
 */
static void touch_in_slices(size_t bytes, const struct range *range, struct cell *cell)
{
	size_t slice = bytes / machine.count;

	if (slice < 3 * HUGE_PAGE)
		judge_broken("not enough free memory for a big block");
	move_to(0);
	for (unsigned round = 0; round < 3; round++) {
		unsigned char *big = malloc(bytes);
		struct actor actor[JUDGE_NODES];
		pthread_t thread[JUDGE_NODES];

		if (!big)
			judge_broken("malloc of %zu bytes failed", bytes);
		for (unsigned n = 0; n < machine.count; n++) {
			unsigned node = (n + round) % machine.count;

			actor[n] = actor_on(node, range, cell);
			actor[n].big = big + n * slice;
			actor[n].big_bytes = slice;
			thread[n] = start_on(node, toucher_body, &actor[n]);
		}
		for (unsigned n = 0; n < machine.count; n++) {
			pthread_join(thread[n], NULL);
			judge_slice(&actor[n]);
			end_of(&actor[n]);
		}
		free(big);
	}
}

static void run_touch(const struct range *range, struct cell *cell)
{
	size_t most = option_short ? BIG_SHORT : BIG_MAX, half = free_bytes() / 2;

	touch_in_slices(half < most ? half : most, range, cell);
}

static void run_touch_reused(const struct range *range, struct cell *cell)
{
	touch_in_slices(REUSED_SHARED, range, cell);
	touch_in_slices(REUSED_OWN, range, cell);
}

static const struct situation {
	const char *name;
	void (*run)(const struct range *range, struct cell *cell);
	bool sized; /* once for each range of sizes */
	const char *help;
	double most; /* --min asks for no more than this here; 0: whatever it says */
} situations[] = {
	{ "local", run_local, true, "threads that free their own", 0 },
	{ "consumer", run_consumer, true, "fresh blocks after freeing another node's", 0 },
	{ "moved", run_moved, true, "after sched_setaffinity to another node", 0 },
	{ "sudden", run_sudden, true, "the same, with nothing freed since", 80.0 },
	{ "turnover", run_turnover, true, "threads come and go on alternating nodes", 0 },
	{ "stream", run_stream, true, "blocks handed from node to node", 0 },
	{ "touch", run_touch, false, "parallel first touch of up to 1 GiB, again and again", 0 },
	{ "touch-reused", run_touch_reused, false, "the same of 56 and 128 MiB", 0 },
};
#define SITUATIONS (sizeof(situations) / sizeof(situations[0]))

/* ---- running the cells and telling ---- */

static void run_cell(unsigned s, unsigned r, struct cell *cell)
{
	situations[s].run(&ranges[r], cell);
	cell->done = 1;
}

/* The child finds the cell at the same offset of the memory file it inherits. */
static void spawn_cell(unsigned s, unsigned r, int fd, const struct cell *cell)
{
	char situation[12], range[12], file[12], ops[12], is_short[12];
	char *argv[] = { (char *)"placement", (char *)"--cell", situation, range, file, ops, is_short, NULL };
	int error, status;
	pid_t child;

	snprintf(situation, sizeof(situation), "%u", s);
	snprintf(range, sizeof(range), "%u", r);
	snprintf(file, sizeof(file), "%d", fd);
	snprintf(ops, sizeof(ops), "%u", option_ops);
	snprintf(is_short, sizeof(is_short), "%u", option_short);
	fflush(stdout);
	error = posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ);
	if (error)
		judge_broken("posix_spawn: %s", strerror(error));
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			judge_broken("waitpid: %s", strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status) || !cell->done)
		judge_broken("%s %s: ended with status %#x", situations[s].name, ranges[r].name, status);
}

static struct cell *share_cells(int fd)
{
	struct cell *cells = mmap(NULL, sizeof(struct cell) * SITUATIONS * RANGES,
				  PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (cells == MAP_FAILED)
		judge_broken("mmap of the results: %s", strerror(errno));
	return cells;
}

static double percent(const struct count *count)
{
	return count->all ? 100.0 * (double)count->own / (double)count->all : 0.0;
}

/* The least share of a row, or 100 for a row that cannot be below. */
static double print_row(const char *name, const char *node, unsigned s,
			const struct count count[RANGES])
{
	double least = 100.0;

	printf("%-12s %5s", name, node);
	for (unsigned r = 0; r < RANGES; r++) {
		if (!situations[s].sized && r) {
			printf(" %10s", "");
			continue;
		}
		printf(" %10.2f", percent(&count[r]));
		if (percent(&count[r]) < least)
			least = percent(&count[r]);
	}
	putchar('\n');
	return least;
}

static unsigned print_table(const struct cell *cells, unsigned wanted, bool per_node, double min)
{
	unsigned below = 0;

	printf("%-12s %5s", "% on own", "node");
	for (unsigned r = 0; r < RANGES; r++)
		printf(" %10s", ranges[r].name);
	putchar('\n');
	for (unsigned s = 0; s < SITUATIONS; s++) {
		struct count sum[RANGES] = { { 0, 0 } };

		if (!(wanted & 1u << s))
			continue;
		double least = situations[s].most && situations[s].most < min ? situations[s].most : min;
		for (unsigned n = 0; n < machine.count; n++) {
			struct count count[RANGES];
			char node[12];

			for (unsigned r = 0; r < RANGES; r++) {
				count[r] = cells[s * RANGES + r].node[n];
				sum[r].own += count[r].own;
				sum[r].all += count[r].all;
				if (count[r].all == 0 && (situations[s].sized || r == 0))
					judge_broken("%s: node %u was not measured", situations[s].name,
					       machine.id[n]);
			}
			snprintf(node, sizeof(node), "%u", machine.id[n]);
			if (per_node && print_row(situations[s].name, node, s, count) < least)
				below++;
			for (unsigned r = 0; !per_node && r < (situations[s].sized ? RANGES : 1); r++)
				below += percent(&count[r]) < least;
		}
		print_row(situations[s].name, "all", s, sum);
	}
	return below;
}

static void usage(FILE *out)
{
	fprintf(out, "usage: placement [--min PERCENT] [--only SITUATION]... [--ops N] [--short]\n"
		     "                 [--brief] [--together]\n"
		     "  --min PERCENT   end with 1 when a node's share is below in any row\n"
		     "  --only NAME     this situation; may be repeated\n"
		     "  --ops N         operations between a thread's move and its judged blocks (%u)\n"
		     "  --short         half the rounds, and a fifth of the large block\n"
		     "  --brief         only the rows over all nodes\n"
		     "  --together      all situations in this process instead of one process each\n",
		option_ops);
	for (unsigned s = 0; s < SITUATIONS; s++)
		fprintf(out, "  %-15s %s\n", situations[s].name, situations[s].help);
}

static unsigned find_situation(const char *name)
{
	for (unsigned s = 0; s < SITUATIONS; s++)
		if (strcmp(name, situations[s].name) == 0)
			return s;
	usage(stderr);
	exit(JUDGE_BROKEN);
}

static unsigned number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value > INT_MAX) {
		usage(stderr);
		exit(JUDGE_BROKEN);
	}
	return (unsigned)value;
}

static int child_main(char **argv)
{
	unsigned s = number(argv[0]), r = number(argv[1]);

	if (s >= SITUATIONS || r >= RANGES)
		return JUDGE_BROKEN;
	option_ops = number(argv[3]);
	option_short = number(argv[4]);
	run_cell(s, r, &share_cells((int)number(argv[2]))[s * RANGES + r]);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "min", required_argument, NULL, 'm' },  { "only", required_argument, NULL, 'o' },
		{ "ops", required_argument, NULL, 'n' },  { "brief", no_argument, NULL, 'b' },
		{ "together", no_argument, NULL, 't' },	  { "short", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },	  { NULL, 0, NULL, 0 },
	};
	double min = 0.0;
	bool per_node = true, together = false;
	unsigned wanted = 0, below;
	struct cell *cells;
	int option, fd;

	find_machine();
	if (argc == 7 && strcmp(argv[1], "--cell") == 0)
		return child_main(argv + 2);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		char *end;

		switch (option) {
		case 'm':
			min = strtod(optarg, &end);
			if (end == optarg || *end || !(min >= 0.0 && min <= 100.0)) {
				usage(stderr);
				return JUDGE_BROKEN;
			}
			break;
		case 'o':
			wanted |= 1u << find_situation(optarg);
			break;
		case 'n':
			option_ops = number(optarg);
			break;
		case 'b':
			per_node = false;
			break;
		case 't':
			together = true;
			break;
		case 's':
			option_short = 1;
			break;
		default:
			usage(option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : JUDGE_BROKEN;
		}
	}
	if (optind != argc) {
		usage(stderr);
		return JUDGE_BROKEN;
	}
	if (!wanted)
		wanted = (1u << SITUATIONS) - 1;
	if (machine.count < 2) {
		printf("placement: %u node with CPUs and memory: nothing to tell\n", machine.count);
		return JUDGE_SKIPPED;
	}
	fd = memfd_create("placement", 0);
	if (fd < 0 || ftruncate(fd, (off_t)(sizeof(struct cell) * SITUATIONS * RANGES)))
		judge_broken("memory for the results: %s", strerror(errno));
	cells = share_cells(fd);
	for (unsigned s = 0; s < SITUATIONS; s++) {
		for (unsigned r = 0; r < (situations[s].sized ? RANGES : 1); r++) {
			struct cell *cell = &cells[s * RANGES + r];

			if (!(wanted & 1u << s))
				continue;
			if (together)
				run_cell(s, r, cell);
			else
				spawn_cell(s, r, fd, cell);
		}
	}
	below = print_table(cells, wanted, per_node, min);
	if (below) {
		printf("placement: %u %s below %.2f %%\n", below,
		       per_node ? "rows are" : "shares are", min);
		return JUDGE_WRONG;
	}
	return 0;
}
