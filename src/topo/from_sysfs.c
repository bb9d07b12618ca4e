/* SPDX-License-Identifier: MIT */
/*
 * What do the kernel's own files, and libnuma, say of a machine?
 *
 * All of it where hwloc is not to be had; beside hwloc, what only the running kernel knows: which
 * CPUs are a node's own, how large its huge pages are, which nodes this process may use. A root
 * folder stands in for "/" so that a recorded machine can be read.
 */
#include "draft.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if HAVE_LIBNUMA
#include <numa.h>
#endif

#define NODE_FOLDER "/sys/devices/system/node"
#define CPU_FOLDER "/sys/devices/system/cpu"
#define THP_FOLDER "/sys/kernel/mm/transparent_hugepage"
#define PATH_BYTES 4096

#ifndef MPOL_F_MEMS_ALLOWED
#define MPOL_F_MEMS_ALLOWED (1 << 2)
#endif

__attribute__((format(printf, 2, 3))) static char *read_text(struct hak_draft *draft,
							     const char *format, ...)
{
	char path[PATH_BYTES];
	size_t have = 0;
	ssize_t got = 1;
	va_list args;
	int fd, length;

	va_start(args, format);
	length = vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(path))
		return NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	while (have < HAK_DRAFT_TEXT_BYTES - 1 && got) {
		got = read(fd, draft->text + have, HAK_DRAFT_TEXT_BYTES - 1 - have);
		if (got < 0 && errno != EINTR)
			break;
		if (got > 0)
			have += (size_t)got;
	}
	close(fd);
	draft->text[have] = '\0';
	return got < 0 ? NULL : draft->text;
}

typedef int on_number(struct hak_draft *draft, uint32_t number, uint32_t arg);

/* Calls back for each number of a list such as "0-2,7". The callback may not read_text. */
static int each_number(struct hak_draft *draft, const char *list, on_number *found, uint32_t arg)
{
	int error = 0;

	while (!error && isdigit((unsigned char)*list)) {
		char *end;
		unsigned long low = strtoul(list, &end, 10), high = low;

		if (*end == '-')
			high = strtoul(end + 1, &end, 10);
		if (high < low || high >= HAK_DRAFT_CPUS_MAX)
			return -EINVAL;
		for (; !error && low <= high; low++)
			error = found(draft, (uint32_t)low, arg);
		list = *end == ',' ? end + 1 : end;
	}
	return error;
}

static int on_node(struct hak_draft *draft, uint32_t os_index, uint32_t arg)
{
	struct hak_draft_node *node;

	(void)arg;
	return hak_draft_add_node(draft, os_index, &node);
}

static int on_cpu(struct hak_draft *draft, uint32_t cpu, uint32_t os_node)
{
	return hak_draft_set_cpu(draft, cpu, os_node);
}

static int on_allowed(struct hak_draft *draft, uint32_t os_index, uint32_t arg)
{
	struct hak_draft_node *node = hak_draft_find(draft, os_index);

	(void)arg;
	if (node)
		node->node.allowed = true;
	return 0;
}

/* The number after a word, in bytes where "kB" follows; 0 when the word is not there. */
static uint64_t kib_after(const char *text, const char *word)
{
	const char *at = text ? strstr(text, word) : NULL;

	return at ? strtoull(at + strlen(word), NULL, 10) * 1024 : 0;
}

/* Sizes are in folders' names: hugepages-2048kB */
static uint64_t bytes_of_name(const char *name)
{
	static const char prefix[] = "hugepages-";
	unsigned long long kib;
	char *end;

	if (strncmp(name, prefix, sizeof(prefix) - 1))
		return 0;
	kib = strtoull(name + sizeof(prefix) - 1, &end, 10);
	if (strcmp(end, "kB") || kib > (1ull << 40) || (kib & (kib - 1)))
		return 0;
	return kib * 1024;
}

static uint64_t base_page(const struct hak_draft *draft)
{
	return draft->base_page_bytes ? draft->base_page_bytes : (uint64_t)sysconf(_SC_PAGESIZE);
}

static void add_page_types(struct hak_draft *draft, const char *folder, struct hak_draft_node *node)
{
	uint64_t in_huge = 0;
	struct dirent *entry;
	DIR *dir = opendir(folder);

	while (dir && (entry = readdir(dir))) {
		uint64_t bytes = bytes_of_name(entry->d_name), count;
		const char *text;

		if (!bytes)
			continue;
		text = read_text(draft, "%s/%s/nr_hugepages", folder, entry->d_name);
		count = text ? strtoull(text, NULL, 10) : 0;
		in_huge += bytes * count;
		hak_draft_add_pages(node, bytes, count);
	}
	if (dir)
		closedir(dir);
	if (in_huge > node->node.memory_bytes)
		in_huge = node->node.memory_bytes;
	hak_draft_add_pages(node, base_page(draft),
			    (node->node.memory_bytes - in_huge) / base_page(draft));
}

/* A kernel built without NUMA has no folder of nodes: all is one node. */
static int add_only_node(struct hak_draft *draft, const char *root)
{
	char folder[PATH_BYTES];
	struct hak_draft_node *node;
	int error = hak_draft_add_node(draft, 0, &node);

	if (error)
		return error;
	node->node.memory_bytes = kib_after(read_text(draft, "%s/proc/meminfo", root), "MemTotal:");
	if (!node->node.memory_bytes)
		return -ENOENT;
	snprintf(folder, sizeof(folder), "%s/sys/kernel/mm/hugepages", root);
	add_page_types(draft, folder, node);
	return 0;
}

static int add_distance_row(struct hak_draft *draft, const char *root, uint32_t from)
{
	char *text = read_text(draft, "%s" NODE_FOLDER "/node%u/distance", root,
			       draft->node[from].node.os_index);

	/* The row lists the online nodes in ascending order, as the draft does. */
	for (uint32_t to = 0; text && to < draft->nodes; to++) {
		char *end;
		unsigned long value = strtoul(text, &end, 10);

		if (end == text || value > UINT32_MAX)
			return -EINVAL;
		draft->distance[from * draft->nodes + to] = (uint32_t)value;
		text = end;
	}
	return 0;
}

int hak_sysfs_nodes(struct hak_draft *draft, const char *root)
{
	const char *online;
	int error;

	draft->source = HAK_TOPO_SYSFS;
	online = read_text(draft, "%s" NODE_FOLDER "/online", root);
	if (!online)
		return add_only_node(draft, root);
	error = each_number(draft, online, on_node, 0);
	if (error || !draft->nodes)
		return error ? error : -EINVAL;
	error = hak_draft_add_distances(draft);
	for (uint32_t i = 0; !error && i < draft->nodes; i++) {
		struct hak_draft_node *node = &draft->node[i];
		char folder[PATH_BYTES];
		unsigned os_index = node->node.os_index;

		node->node.memory_bytes = kib_after(
			read_text(draft, "%s" NODE_FOLDER "/node%u/meminfo", root, os_index),
			"MemTotal:");
		snprintf(folder, sizeof(folder), "%s" NODE_FOLDER "/node%u/hugepages", root,
			 os_index);
		add_page_types(draft, folder, node);
		error = add_distance_row(draft, root, i);
	}
	return error;
}

/* Each node's own CPUs, in place of any map that was there. */
int hak_sysfs_cpus(struct hak_draft *draft, const char *root)
{
	bool some = false;
	int error = 0;

	for (uint32_t i = 0; !error && i < draft->nodes; i++) {
		unsigned os_index = draft->node[i].node.os_index;
		const char *list = read_text(draft, "%s" NODE_FOLDER "/node%u/cpulist", root,
					     os_index);

		if (!list)
			continue;
		if (!some) {
			for (uint32_t cpu = 0; cpu < draft->cpus; cpu++)
				draft->cpu_os_node[cpu] = HAK_TOPO_NO_NODE;
			some = true;
		}
		error = each_number(draft, list, on_cpu, os_index);
	}
	if (!error && !some && draft->nodes == 1) {
		const char *list = read_text(draft, "%s" CPU_FOLDER "/online", root);

		if (list)
			error = each_number(draft, list, on_cpu, draft->node[0].node.os_index);
	}
	return error;
}

void hak_sysfs_huge_pages(struct hak_draft *draft, const char *root)
{
	const char *text = read_text(draft, "%s" THP_FOLDER "/hpage_pmd_size", root);
	char folder[PATH_BYTES];
	struct dirent *entry;
	DIR *dir;

	draft->huge_page_bytes = text ? strtoull(text, NULL, 10) : 0;
	snprintf(folder, sizeof(folder), "%s" THP_FOLDER, root);
	dir = opendir(folder);
	/* A power of two is its own bit. */
	while (dir && (entry = readdir(dir)))
		draft->thp_sizes |= bytes_of_name(entry->d_name);
	if (dir)
		closedir(dir);
}

void hak_sysfs_allowed(struct hak_draft *draft, const char *root)
{
	static const char word[] = "Mems_allowed_list:";
	char *text = read_text(draft, "%s/proc/self/status", root);

	text = text ? strstr(text, word) : NULL;
	if (text) {
		text += sizeof(word) - 1;
		(void)each_number(draft, text + strspn(text, " \t"), on_allowed, 0);
		return;
	}
	for (uint32_t i = 0; i < draft->nodes; i++)
		draft->node[i].node.allowed = true;
}

void hak_self_allowed(struct hak_draft *draft)
{
	/* Where a container's profile denies the call, its /proc still has the answer. libnuma would
	 * complain of the denial on stderr. */
	unsigned long mask[HAK_DRAFT_NODES_MAX / (8 * sizeof(unsigned long))] = { 0 };
	const unsigned bits = 8 * sizeof(unsigned long);

	if (syscall(SYS_get_mempolicy, NULL, mask, (unsigned long)HAK_DRAFT_NODES_MAX, NULL,
		    (unsigned long)MPOL_F_MEMS_ALLOWED)) {
		hak_sysfs_allowed(draft, "");
		return;
	}
	for (uint32_t i = 0; i < draft->nodes; i++) {
		unsigned os_index = draft->node[i].node.os_index;

		draft->node[i].node.allowed = os_index < HAK_DRAFT_NODES_MAX &&
					      (mask[os_index / bits] >> os_index % bits & 1);
	}
}

#if HAVE_LIBNUMA

/* libnuma prints a warning of its own where sysfs is not mounted: do not ask it there. */
static bool libnuma_usable(void)
{
	return access(NODE_FOLDER "/online", R_OK) == 0 && numa_available() >= 0;
}

void hak_self_distances(struct hak_draft *draft)
{
	if (draft->distance || !libnuma_usable() || hak_draft_add_distances(draft))
		return;
	for (uint32_t i = 0; i < draft->nodes; i++)
		for (uint32_t j = 0; j < draft->nodes; j++) {
			int value = numa_distance(draft->node[i].node.os_index,
						  draft->node[j].node.os_index);

			draft->distance[i * draft->nodes + j] = value > 0 ? (uint32_t)value : 0;
		}
}

#else /* built without libnuma */

void hak_self_distances(struct hak_draft *draft)
{
	if (draft->distance || hak_draft_add_distances(draft))
		return;
	for (uint32_t i = 0; i < draft->nodes; i++)
		if (add_distance_row(draft, "", i))
			return;
}

#endif
