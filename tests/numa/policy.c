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
 *	--on NODE        runs on this node's CPUs (default: where it is started)
 *	--set MODE:NODES set_mempolicy after 64 MiB were allocated and freed without it
 *	--thread         everything happens in a second thread, while the first, without a
 *	                 policy, must get all of its memory on its own node
 *	--mib N          of each range (default 64)
 *	--within N[,M]   points by which a share may differ (default 0.5); M for blocks over 1 MiB,
 *	                 which the kernel spreads by huge pages: few, and of many a part is free
 *	--nodes          prints the shares and expects nothing
 *
 * Ends with 0, with 1 if a share differs, with 77 if the kernel does not know the mode, with 2
 * when it could not measure.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_NODES 64
#define PAGE 4096ul
#define MPOL_WEIGHTED_INTERLEAVE_ 6 /* Linux 6.9 */

enum { EXIT_DIFFERS = 1, EXIT_BROKEN = 2, EXIT_SKIPPED = 77 };

static const struct range {
	const char *name;
	size_t low, high;
} ranges[] = {
	{ "16-1024", 16, 1024 },
	{ "2K-50K", 2048, 50 * 1024 },
	{ "53K-512K", 53 * 1024, 512 * 1024 },
	{ "1M-8M", 1 << 20, 8 << 20 },
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

static double want[MAX_NODES], within = 0.5, within_large = 0.5;
static size_t bytes_wanted = 64ul << 20;
static int set_mode = -1;
static unsigned long set_nodes;
static bool expecting = true;

__attribute__((noreturn, format(printf, 1, 2))) static void broken(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("policy: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_BROKEN);
}

static uint32_t random_next(uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*state >> 33);
}

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
		size_t n = range->low + random_next(random) % (range->high - range->low + 1);
		unsigned char *p = malloc(n);

		if (!p)
			broken("malloc of %zu bytes failed", n);
		for (size_t at = 0; at < n; at += PAGE)
			*(volatile unsigned char *)(p + at) = 1;
		*(volatile unsigned char *)(p + n - 1) = 1;
		b->at[b->count].p = p;
		b->at[b->count++].bytes = n;
		b->bytes += n;
	}
}

static void drop(struct blocks *b, size_t keep, uint64_t *random)
{
	while (b->bytes > keep) {
		size_t i = random_next(random) % b->count;

		free(b->at[i].p);
		b->bytes -= b->at[i].bytes;
		b->at[i] = b->at[--b->count];
	}
}

/* Every page that a block touches, once for each block: by bytes, as the user counts. */
static void judge(const struct blocks *b, uint64_t pages[MAX_NODES])
{
	for (size_t i = 0; i < b->count; i++) {
		uintptr_t page = (uintptr_t)b->at[i].p & -PAGE, end = (uintptr_t)b->at[i].p + b->at[i].bytes;

		while (page < end) {
			void *ask[256];
			int where[256];
			size_t n = 0;

			for (; n < 256 && page < end; page += PAGE)
				ask[n++] = (void *)page;
			if (syscall(SYS_move_pages, 0, n, ask, NULL, where, MPOL_MF_MOVE))
				broken("move_pages: %s", strerror(errno));
			while (n--) {
				if (where[n] < 0 || where[n] >= MAX_NODES)
					broken("a touched page is not there: %s", strerror(-where[n]));
				pages[where[n]]++;
			}
		}
	}
}

static bool compare(const char *name, const uint64_t pages[MAX_NODES], const double expected[MAX_NODES],
		    double points)
{
	uint64_t all = 0;
	bool ok = true;

	for (unsigned n = 0; n < MAX_NODES; n++)
		all += pages[n];
	printf("%-9s", name);
	for (unsigned n = 0; n < MAX_NODES; n++) {
		double share = 100.0 * (double)pages[n] / (double)all;
		bool differs = share > expected[n] + points || share < expected[n] - points;

		if (pages[n] || differs)
			printf("  node %u %.2f%s", n, share, differs && expecting ? " !" : "");
		ok &= !differs;
	}
	putchar('\n');
	return ok || !expecting;
}

static bool measure(const char *who, const double expected[MAX_NODES])
{
	struct blocks b = { .room = bytes_wanted / 256 };
	uint64_t random = 0x9e3779b97f4a7c15ull;
	bool ok = true;

	b.at = mmap(NULL, b.room * sizeof(*b.at), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b.at == MAP_FAILED)
		broken("mmap: %s", strerror(errno));
	if (set_mode >= 0 && expected == want) {
		for (unsigned r = 0; r < RANGES; r++) {
			allocate(&b, &ranges[r], bytes_wanted / 4, &random);
			drop(&b, 0, &random);
		}
		if (syscall(SYS_set_mempolicy, set_mode, set_nodes ? &set_nodes : NULL,
			    set_nodes ? MAX_NODES + 1 : 0)) {
			if (errno == EINVAL && set_mode > MPOL_PREFERRED_MANY) {
				printf("policy: the kernel does not know the mode\n");
				exit(EXIT_SKIPPED);
			}
			broken("set_mempolicy: %s", strerror(errno));
		}
	}
	for (unsigned r = 0; r < RANGES; r++) {
		uint64_t pages[MAX_NODES] = { 0 };
		char name[32];

		allocate(&b, &ranges[r], bytes_wanted, &random);
		drop(&b, b.bytes / 2, &random);
		allocate(&b, &ranges[r], bytes_wanted, &random);
		judge(&b, pages);
		snprintf(name, sizeof(name), "%s%s", who, ranges[r].name);
		ok &= compare(name, pages, expected, r == RANGES - 1 ? within_large : within);
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

static void run_on(unsigned node)
{
	char path[64], line[256] = "";
	cpu_set_t cpus;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		broken("node %u has no CPUs", node);
	fclose(file);
	CPU_ZERO(&cpus);
	for (char *s = line; *s >= '0' && *s <= '9';) {
		unsigned long low = strtoul(s, &s, 10), high = low;

		if (*s == '-')
			high = strtoul(s + 1, &s, 10);
		for (; low <= high; low++)
			CPU_SET(low, &cpus);
		s += *s == ',';
	}
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		broken("sched_setaffinity: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
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
		case 'o':
			run_on((unsigned)atoi(optarg));
			break;
		case 's':
			for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
				size_t n = strlen(modes[i].name);

				if (strncmp(optarg, modes[i].name, n) == 0 && (optarg[n] == ':' || !optarg[n])) {
					set_mode = modes[i].mode;
					set_nodes = optarg[n] ? node_list(optarg + n + 1) : 0;
				}
			}
			if (set_mode < 0)
				broken("no such mode: %s", optarg);
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
			return EXIT_BROKEN;
		}
	}
	for (; optind < argc; optind++) {
		unsigned long node = strtoul(argv[optind], &end, 10);

		if (*end != '=' || node >= MAX_NODES)
			broken("not NODE=PERCENT: %s", argv[optind]);
		want[node] = atof(end + 1);
	}
	if (thread) {
		double own[MAX_NODES] = { 0 };
		unsigned node;
		pthread_t t;

		if (syscall(SYS_getcpu, NULL, &node, NULL) || node >= MAX_NODES)
			broken("getcpu: %s", strerror(errno));
		own[node] = 100;
		if (pthread_create(&t, NULL, second, &ok))
			broken("no thread");
		pthread_join(t, NULL);
		/* What the other thread left must not come to this one. */
		ok &= measure("others ", own);
	} else {
		ok = measure("", want);
	}
	return ok ? 0 : EXIT_DIFFERS;
}
