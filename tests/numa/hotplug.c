/* SPDX-License-Identifier: MIT */
/*
 * Does a running program's memory follow CPUs and memory that come and go?
 *
 *	hotplug NODE NEAREST OTHER
 *
 * NODE has CPUs, and memory that is offline; NEAREST is where its CPUs get theirs meanwhile; OTHER
 * is a node with one CPU. Under LD_PRELOAD, as root. In one process:
 *
 *   1. NODE's threads get memory of NEAREST, and as a place of hakmem(3) it is an error
 *   2. NODE's memory comes: they get memory of NODE, which is a place
 *   3. it goes again, with their heaps: NEAREST, and nothing fails
 *   4. it comes back: NODE
 *   5. OTHER's CPU goes under a thread that is bound to it, which goes on elsewhere, and the
 *      library looks at the machine again; the CPU comes back, and OTHER's threads get memory of OTHER
 *
 * Ends with 0, with 1 when one of these does not come true within a minute, with 2 when it could not
 * measure.
 */
#define _GNU_SOURCE
#include <glob.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "judge.h"

#define BLOCKS 2000
#define PATIENCE_SECONDS 60

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	if (!file || fputs(text, file) < 0 || fclose(file))
		judge_broken("%s to %s: %s", text, path, strerror(errno));
}

static void set_memory(unsigned node, const char *state)
{
	char pattern[64];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "/sys/devices/system/node/node%u/memory[0-9]*/state", node);
	if (glob(pattern, 0, NULL, &found))
		judge_broken("node %u has no memory blocks", node);
	for (size_t i = 0; i < found.gl_pathc; i++)
		write_file(found.gl_pathv[i], state);
	globfree(&found);
}

static void set_cpu(unsigned cpu, const char *online)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
	write_file(path, online);
}

/* Where this thread's next blocks lie. */
static void look(uint64_t pages[JUDGE_NODES])
{
	static unsigned char *block[BLOCKS];
	uint64_t random = 0x9e3779b97f4a7c15ull;
	struct judge_look known = { 0 };

	for (unsigned i = 0; i < BLOCKS; i++) {
		size_t bytes = 16 + judge_random(&random) % 20000;

		block[i] = malloc(bytes);
		if (!block[i])
			judge_end(JUDGE_WRONG, "malloc failed");
		judge_touch(block[i], bytes);
		judge_count(&known, block[i], bytes, pages);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		free(block[i]);
}

struct visit {
	unsigned node;
	uint64_t pages[JUDGE_NODES];
};

static void *visit(void *arg)
{
	struct visit *v = arg;

	judge_run_on(v->node);
	look(v->pages);
	return NULL;
}

static void run(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, arg) || pthread_join(thread, NULL))
		judge_broken("no thread");
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Threads of `node`, one after the other, until one finds all of its memory on `where`. */
static void until(const char *what, unsigned node, unsigned where)
{
	time_t start = now();
	double share = 0;

	do {
		struct visit v = { .node = node };

		run(visit, &v);
		share = judge_share(where, v.pages);
		if (share >= 99.5) {
			printf("%s: all on node %u after %d s\n", what, where, (int)(now() - start));
			return;
		}
		sleep(3); /* the decay time: pages that the kernel moved here go back to it */
	} while (now() - start < PATIENCE_SECONDS);
	judge_end(JUDGE_WRONG, "%s: %.2f %% of node %u's memory on node %u", what, share, node, where);
}

/* A node without memory is no place. */
static void expect_place(int node, bool there)
{
	void *(*malloc_at)(int, size_t), *p;
	int (*thread_bind)(int), bound, error;

	if (!judge_find("hakmem_malloc_at", &malloc_at) || !judge_find("hakmem_thread_bind", &thread_bind))
		judge_broken("no hakmem_malloc_at");
	errno = 0;
	p = malloc_at(node, 100);
	error = errno;
	errno = 0;
	bound = thread_bind(node);
	if (there ? !p || bound : p || error != EINVAL || bound != -1 || errno != EINVAL)
		judge_end(JUDGE_WRONG, "node %d as a place: %p, errno %d; bind %d, errno %d", node, p, error, bound, errno);
	free(p);
	thread_bind(HAKMEM_NODE_LOCAL);
}

/* How often the library has looked at the machine. */
static unsigned looks(void)
{
	return (unsigned)judge_figure(judge_statistics(), "topologies");
}

static void until_looked(const char *what, unsigned before)
{
	time_t start = now();

	while (looks() == before)
		if (now() - start >= PATIENCE_SECONDS)
			judge_end(JUDGE_WRONG, "%s: not noticed", what);
		else
			usleep(200000);
	printf("%s: noticed after %d s\n", what, (int)(now() - start));
}

static void change_memory(const char *what, unsigned node, const char *state)
{
	unsigned before = looks();

	set_memory(node, state);
	until_looked(what, before);
}

static void *lose_cpu(void *arg)
{
	unsigned node = *(unsigned *)arg, cpu, before = looks();
	struct visit v = { 0 };

	judge_run_on(node);
	if (syscall(SYS_getcpu, &cpu, NULL, NULL))
		judge_broken("getcpu: %s", strerror(errno));
	look(v.pages);
	set_cpu(cpu, "0");
	until_looked("a CPU gone", before);
	look(v.pages); /* wherever this runs now */
	before = looks();
	set_cpu(cpu, "1");
	until_looked("a CPU back", before);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned node, nearest, other;

	if (argc != 4) {
		fputs("usage: hotplug NODE NEAREST OTHER\n", stderr);
		return JUDGE_BROKEN;
	}
	node = (unsigned)atoi(argv[1]), nearest = (unsigned)atoi(argv[2]), other = (unsigned)atoi(argv[3]);
	until("without memory", node, nearest);
	expect_place((int)node, false);
	change_memory("memory came", node, "online_movable");
	until("with memory", node, node);
	expect_place((int)node, true);
	change_memory("memory gone", node, "offline");
	until("without memory again", node, nearest);
	change_memory("memory back", node, "online_movable");
	until("with memory again", node, node);
	run(lose_cpu, &other);
	until("with its CPU back", other, other);
	return 0;
}
