/* SPDX-License-Identifier: MIT */
/*
 * Can any file that describes a machine make hakmem believe in one that cannot be? For
 * libFuzzer: an input is a machine in text. Its first letter says which way:
 *
 *	s DESCRIPTION   hwloc's synthetic description
 *	f               lines, each a file of /sys or /proc (by a letter, in the order of files
 *	                below) and its text, ';' for the newline inside; read by libhakmem-topo
 *	c               the same, read by the core, which asks for lists of nodes alone
 *	else            an XML file of lstopo's
 *
 * hwloc itself dies of some XML files, and lstopo with it, and some it does not come to an end with.
 * What dies with hakmem, or takes PATIENCE_S, is tried on hwloc alone: if that dies as well it is no
 * finding here, and counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "numa/node.h"
#include "sys/sys.h"
#include "topo/topo.h"

#if HAVE_HWLOC
#include <hwloc.h>
#endif

#define SYNTHETIC "synthetic:"
#define NODE "/sys/devices/system/node/"
#define CPU "/sys/devices/system/cpu/"

static const char *const files[] = {
	NODE "online", NODE "has_memory", NODE "has_cpu", CPU "online", "/proc/self/status", "/proc/meminfo",
	NODE "node0/meminfo", NODE "node0/cpulist", NODE "node0/distance",
	NODE "node1/meminfo", NODE "node1/cpulist", NODE "node1/distance",
	NODE "node7/meminfo", NODE "node7/cpulist", NODE "node7/distance",
	NODE "node0/hugepages/hugepages-2048kB/nr_hugepages",
	"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
};
#define FILES (sizeof files / sizeof *files)
#define TEXT_BYTES 4096u
#define PATIENCE_S 10 /* a hundred times what a load takes; twice is less than run.sh's -timeout */

static char contents[FILES][TEXT_BYTES]; /* "": no such file */
static char folder[64];
static unsigned died; /* machines that hwloc alone died of */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void check(const struct hak_topology *t)
{
	expect(t->abi == HAK_TOPO_ABI && t->nodes > 0 && !t->this_machine);
	expect(t->align_bytes >= HAK_TOPO_ALIGN_MIN && t->align_bytes <= HAK_TOPO_ALIGN_MAX);
	expect(t->mask_bytes % 8 == 0 && t->mask_bytes * 8ul >= t->cpus);
	for (uint32_t cpu = 0; cpu < t->cpus; cpu++)
		expect(t->cpu_node[cpu] < t->nodes || t->cpu_node[cpu] == HAK_TOPO_NO_NODE);
	for (uint32_t i = 0; i < t->nodes; i++) {
		const struct hak_topo_node *n = &t->node[i];
		const char *end = (const char *)t + t->bytes;
		expect(n->page_types <= HAK_TOPO_PAGE_TYPES && n->spills < t->nodes);
		expect((const char *)(n->spill + n->spills) <= end && (const char *)(n->distance + t->nodes) <= end);
		expect((const char *)n->cpus + t->mask_bytes <= end);
		for (uint32_t k = 0; k < n->spills; k++)
			expect(n->spill[k] < t->nodes && n->spill[k] != i && t->node[n->spill[k]].memory_bytes);
	}
}

static void load(const char *source)
{
	struct hak_topology *t = NULL;
	int error = hak_topo_open(HAK_TOPO_ABI)->load(source, NULL, &t);
	expect(error <= 0 && (error == 0) == (t != NULL));
	if (!t)
		return;
	check(t);
	munmap(t, t->bytes);
}

#if HAVE_HWLOC
/* As src/topo/from_hwloc.c loads it, and nothing else of ours. */
static void load_alone(const char *source)
{
	bool synthetic = strncmp(source, SYNTHETIC, strlen(SYNTHETIC)) == 0;
	hwloc_topology_t topology;
	if (hwloc_topology_init(&topology))
		return;
	(void)hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
	if (synthetic ? !hwloc_topology_set_synthetic(topology, source + strlen(SYNTHETIC))
		      : !hwloc_topology_set_xml(topology, source))
		(void)hwloc_topology_load(topology);
	hwloc_topology_destroy(topology);
}
#else
static void load_alone(const char *source)
{
	(void)source;
}
#endif

/* In a child, for which libFuzzer does nothing about a signal. */
static bool survives(void (*run)(const char *source), const char *source)
{
	int status = 0;
	pid_t child = fork();
	if (child == 0) {
		for (int i = 1; i < SIGRTMIN; i++)
			signal(i, SIG_DFL);
		alarm(PATIENCE_S);
		run(source);
		_exit(0);
	}
	return child < 0 || (waitpid(child, &status, 0) == child && status == 0);
}

static void load_by_hwloc(const char *source)
{
	/* here, too: libFuzzer learns nothing from a child, and reports nothing */
	if (survives(load, source) || survives(load_alone, source))
		load(source);
	else
		died++;
}

static void write_file(const char *path, const char *text, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, bytes) != (ssize_t)bytes) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static void read_lines(char *text)
{
	memset(contents, 0, sizeof contents);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		size_t file = (unsigned char)*line - (size_t)'a';
		if (file >= FILES)
			continue;
		snprintf(contents[file], TEXT_BYTES - 1, "%s", line + 1);
		for (char *c = contents[file]; (c = strchr(c, ';'));)
			*c = '\n';
		strcat(contents[file], "\n");
	}
}

static void load_folder(void)
{
	char path[256], source[80];
	for (size_t i = 0; i < FILES; i++) {
		snprintf(path, sizeof path, "%s%s", folder, files[i]);
		if (*contents[i])
			write_file(path, contents[i], strlen(contents[i]));
		else
			unlink(path);
	}
	snprintf(source, sizeof source, "sysfs:%s", folder);
	load(source);
}

static ssize_t read_contents(const char *path, char *buf, size_t cap)
{
	for (size_t i = 0; i < FILES; i++)
		if (strcmp(path, files[i]) == 0 && *contents[i])
			return (ssize_t)hak_min((size_t)snprintf(buf, cap, "%s", contents[i]), cap - 1);
	errno = ENOENT;
	return -1;
}

static void ask_core(void)
{
	hak_sys.read_file = read_contents;
	atomic_store(&hak_node_count, 0); /* not asked yet */
	expect(hak_node_here() < HAK_NODES && hak_node_mine() < HAK_NODES);
	expect(atomic_load(&hak_node_count) <= HAK_NODE_IDS);
}

static void end(void)
{
	char command[96];
	if (died)
		printf("fuzz: hwloc itself died of %u machines\n", died);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	if (system(command))
		perror(command);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	strcpy(folder, "/dev/shm/hakmem-fuzz.XXXXXX");
	if (!mkdtemp(folder)) {
		perror(folder);
		exit(1);
	}
	for (size_t i = 0; i < FILES; i++) {
		char path[256];
		snprintf(path, sizeof path, "%s%s", folder, files[i]);
		for (char *slash = path + strlen(folder); (slash = strchr(slash + 1, '/'));) {
			*slash = 0;
			mkdir(path, 0700);
			*slash = '/';
		}
	}
	/* hwloc writes about what it does not like */
	setenv("HWLOC_HIDE_ERRORS", "2", 1);
	return atexit(end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), path[300];
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	switch (*text) {
	case 's':
		snprintf(path, sizeof path, SYNTHETIC "%s", text + 1);
		load_by_hwloc(path);
		break;
	case 'f':
	case 'c':
		read_lines(text + 1);
		*text == 'f' ? load_folder() : ask_core();
		break;
	default:
		snprintf(path, sizeof path, "%s/machine.xml", folder);
		write_file(path, text, size);
		load_by_hwloc(path);
	}
	free(text);
	return 0;
}
