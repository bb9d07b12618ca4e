/* SPDX-License-Identifier: MIT */
/*
 * Does memory lie where the user's policy says?
 *
 *	policy [OPTION]... NODE=PERCENT...
 *
 * Allocates and touches blocks of each range of sizes, frees half of them in no order and
 * allocates again; asks by move_pages(2) where all pages lie; and compares each node's share
 * with what the command line expects, nodes not named with 0. The policy comes from outside
 * (numactl, a cpuset) or is set by this program:
 *
 *	--before MODE:NODES
 *	                 set_mempolicy, then starts itself anew, as numactl does: for modes that an
 *	                 older numactl does not know. Comes first
 *	--on NODE        runs on this node's CPUs (default: where it is started)
 *	--set MODE:NODES set_mempolicy after 64 MiB were allocated and freed without it
 *	--cgroup FOLDER  the same, but enters this cgroup, with what memory its cpuset allows
 *	--thread         everything happens in a second thread, while the first, without a
 *	                 policy, must get all of its memory on its own node
 *	--mib N          of each range (default 64)
 *	--within N[,M]   points by which a share may differ (default 0.5); M for blocks over 1 MiB,
 *	                 of which a thread has none in its magazines
 *	--nodes          prints the shares and expects nothing
 *
 * Ends with 0, with 1 if a share differs, with 77 if the kernel does not know the mode, with 2
 * when it could not measure.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>

#include "judge.h"

#define MPOL_WEIGHTED_INTERLEAVE_ 6 /* Linux 6.9 */

static const struct range {
	const char *name;
	size_t low, high;
} ranges[] = {
	{ "16-1024", 16, 1024 },
	{ "2K-50K", 2048, 50 * 1024 },
	{ "53K-512K", 53 * 1024, 512 * 1024 },
	{ "1M-8M", 1 << 20, 8 << 20 },
	{ "9M-48M", 9 << 20, 48 << 20 },
	{ "64M-160M", 64 << 20, 160 << 20 },
};
#define RANGES (sizeof(ranges) / sizeof(ranges[0]))

static const struct mode {
	const char *name;
	int mode;
} modes[] = {
	{ "bind", MPOL_BIND },
	{ "preferred", MPOL_PREFERRED },
	{ "preferred-many", MPOL_PREFERRED_MANY },
	{ "interleave", MPOL_INTERLEAVE },
	{ "weighted-interleave", MPOL_WEIGHTED_INTERLEAVE_ },
	{ "local", MPOL_LOCAL },
};

static double want[JUDGE_NODES], within = 0.5, within_large = 0.5;
static size_t bytes_wanted = 64ul << 20;
static int set_mode = -1;
static unsigned long set_nodes;
static const char *cgroup;
static bool expecting = true;

struct blocks {
	size_t count, bytes;
	struct {
		unsigned char *p;
		size_t bytes;
	} *at; /* in no heap */
	size_t room;
};

static void allocate(struct blocks *b, const struct range *range, size_t bytes, uint64_t *random)
{
	while (b->bytes < bytes && b->count < b->room) {
		size_t n = range->low + judge_random(random) % (range->high - range->low + 1);
		unsigned char *p = malloc(n);

		if (!p)
			judge_broken("malloc of %zu bytes failed", n);
		judge_touch(p, n);
		b->at[b->count].p = p;
		b->at[b->count++].bytes = n;
		b->bytes += n;
	}
}

static void drop(struct blocks *b, size_t keep, uint64_t *random)
{
	while (b->bytes > keep) {
		size_t i = judge_random(random) % b->count;

		free(b->at[i].p);
		b->bytes -= b->at[i].bytes;
		b->at[i] = b->at[--b->count];
	}
}

static bool compare(const char *name, const uint64_t pages[JUDGE_NODES], const double expected[JUDGE_NODES],
		    double points)
{
	bool ok = true;

	printf("%-9s", name);
	for (unsigned n = 0; n < JUDGE_NODES; n++) {
		double share = judge_share(n, pages);
		bool differs = share > expected[n] + points || share < expected[n] - points;

		if (pages[n] || differs)
			printf("  node %u %.2f%s", n, share, differs && expecting ? " !" : "");
		ok &= !differs;
	}
	putchar('\n');
	return ok || !expecting;
}

static void set_policy(void)
{
	if (!syscall(SYS_set_mempolicy, set_mode, set_nodes ? &set_nodes : NULL, set_nodes ? JUDGE_NODES + 1 : 0))
		return;
	if (errno == EINVAL && set_mode > MPOL_PREFERRED_MANY) {
		printf("policy: the kernel does not know the mode\n");
		exit(JUDGE_SKIPPED);
	}
	judge_broken("set_mempolicy: %s", strerror(errno));
}

static void enter_cgroup(void)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	file = fopen(path, "we");
	if (!file || fprintf(file, "%d\n", getpid()) < 0 || fclose(file))
		judge_broken("%s: %s", path, strerror(errno));
}

static bool measure(const char *who, const double expected[JUDGE_NODES])
{
	struct blocks b = { .room = bytes_wanted / 256 };
	uint64_t random = 0x9e3779b97f4a7c15ull;
	bool ok = true;

	b.at = judge_memory(b.room * sizeof(*b.at));
	if ((set_mode >= 0 || cgroup) && expected == want) {
		for (unsigned r = 0; r < RANGES; r++) {
			allocate(&b, &ranges[r], bytes_wanted / 4, &random);
			drop(&b, 0, &random);
		}
		if (cgroup)
			enter_cgroup();
		else
			set_policy();
	}
	for (unsigned r = 0; r < RANGES; r++) {
		uint64_t pages[JUDGE_NODES] = { 0 };
		struct judge_look look = { 0 };
		char name[32];

		allocate(&b, &ranges[r], bytes_wanted, &random);
		drop(&b, b.bytes / 2, &random);
		allocate(&b, &ranges[r], bytes_wanted, &random);
		/* once for each block: by bytes, as the user counts */
		for (size_t i = 0; i < b.count; i++)
			judge_count(&look, b.at[i].p, b.at[i].bytes, pages);
		snprintf(name, sizeof(name), "%s%s", who, ranges[r].name);
		ok &= compare(name, pages, expected, ranges[r].low >= 1 << 20 ? within_large : within);
		drop(&b, 0, &random);
	}
	munmap(b.at, b.room * sizeof(*b.at));
	return ok;
}

static void *second(void *arg)
{
	*(bool *)arg = measure("", want);
	return NULL;
}

static unsigned long node_list(const char *s)
{
	unsigned long nodes = 0;

	while (*s >= '0' && *s <= '9') {
		char *end;

		nodes |= 1ul << strtoul(s, &end, 10);
		s = *end == ',' ? end + 1 : end;
	}
	return nodes;
}

static void choose_policy(const char *text)
{
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		size_t n = strlen(modes[i].name);

		if (strncmp(text, modes[i].name, n) == 0 && (text[n] == ':' || !text[n])) {
			set_mode = modes[i].mode;
			set_nodes = text[n] ? node_list(text + n + 1) : 0;
		}
	}
	if (set_mode < 0)
		judge_broken("no such mode: %s", text);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "before", required_argument, NULL, 'b' }, { "cgroup", required_argument, NULL, 'c' },
		{ "on", required_argument, NULL, 'o' }, { "set", required_argument, NULL, 's' },
		{ "thread", no_argument, NULL, 't' },	{ "mib", required_argument, NULL, 'm' },
		{ "within", required_argument, NULL, 'w' }, { "nodes", no_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	bool thread = false, ok;
	int option;
	char *end;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'b':
			choose_policy(optarg);
			set_policy();
			argv[2] = argv[0];
			execv("/proc/self/exe", argv + 2);
			judge_broken("/proc/self/exe: %s", strerror(errno));
		case 'c':
			cgroup = optarg;
			break;
		case 'o':
			judge_run_on((unsigned)atoi(optarg));
			break;
		case 's':
			choose_policy(optarg);
			break;
		case 't':
			thread = true;
			break;
		case 'm':
			bytes_wanted = strtoul(optarg, NULL, 10) << 20;
			break;
		case 'w':
			within = within_large = strtod(optarg, &end);
			if (*end == ',')
				within_large = atof(end + 1);
			break;
		case 'n':
			expecting = false;
			break;
		default:
			return JUDGE_BROKEN;
		}
	}
	for (; optind < argc; optind++) {
		unsigned long node = strtoul(argv[optind], &end, 10);

		if (*end != '=' || node >= JUDGE_NODES)
			judge_broken("not NODE=PERCENT: %s", argv[optind]);
		want[node] = atof(end + 1);
	}
	if (thread) {
		double own[JUDGE_NODES] = { 0 };
		pthread_t t;

		own[judge_here()] = 100;
		if (pthread_create(&t, NULL, second, &ok))
			judge_broken("no thread");
		pthread_join(t, NULL);
		/* What the other thread left must not come to this one. */
		ok &= measure("others ", own);
	} else {
		ok = measure("", want);
	}
	return ok ? 0 : JUDGE_WRONG;
}
