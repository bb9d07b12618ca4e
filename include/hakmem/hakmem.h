/* SPDX-License-Identifier: MIT */
/*
 * hakmem: a malloc for Linux NUMA servers. Programs need none of this to use it: the
 * library replaces malloc and its family. See hakmem(3).
 */
#ifndef HAKMEM_H
#define HAKMEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAKMEM_VERSION "0.1.0"

/* The version of the library in use, a static string. */
const char *hakmem_version(void);

/*
 * Gives all memory that is free back to the kernel now, without waiting for the decay, but for what other
 * threads have cached: they are asked for it. Returns the bytes given back. Any thread; takes as long as
 * the kernel takes to free that memory.
 */
size_t hakmem_trim(void);

/*
 * Empties the calling thread's caches: for a thread about to sleep for long. Its next
 * allocations are slower. Other threads do not wait for it.
 */
void hakmem_thread_idle(void);

/*
 * A snapshot of the statistics, in bytes and events since the start. Any thread; sums
 * over heaps are taken while they change, so they may be off by what changes meanwhile.
 * `size` and `version` come first: pass sizeof of the struct you were compiled with;
 * only that much is written. Returns 0, or -1 if the size is too small for `version`.
 */
struct hakmem_stats {
	uint64_t size;		 /* of this struct, as the library knows it */
	uint64_t version;	 /* 1 */
	uint64_t mapped;	 /* mapped for blocks and metadata */
	uint64_t metadata;	 /* of these, for metadata */
	uint64_t live;		 /* in blocks that are allocated, at their class's size */
	uint64_t cached;	 /* in magazines */
	uint64_t released;	 /* given back to the kernel since the start */
	uint64_t heaps;		 /* thread heaps, parked ones included */
	uint64_t remote_frees;	 /* blocks freed by a thread that does not own them */
	uint64_t foreign_frees;	 /* blocks of the C library's malloc that came to our free */
	uint64_t fallbacks;	 /* requests served by another malloc: always 0 */
	uint64_t failed;	 /* requests that could not be served */
	uint64_t stages[6];	 /* slabs found: own, near, adopted, empty, unused, new */
};
int hakmem_stats_get(struct hakmem_stats *stats, size_t size);

/*
 * All statistics as text, handed to `write` in pieces. Any thread; nothing is allocated, and
 * `write` may be called with any piece of a line. HAKMEM_STATS_TABLE: for people, as
 * malloc_stats() prints it. HAKMEM_STATS_JSON: one object on one line (doc/statistics.md has
 * its keys); HAKMEM_STATS_JSON_QUICK: without what is resident and on huge pages, which the
 * kernel must count first. Returns 0, or -1 if `format` is none of these.
 */
#define HAKMEM_STATS_VERSION 1 /* of struct hakmem_stats and of the JSON object */
enum hakmem_stats_format { HAKMEM_STATS_TABLE, HAKMEM_STATS_JSON, HAKMEM_STATS_JSON_QUICK };
typedef void hakmem_write_fn(void *arg, const char *text, size_t bytes);
int hakmem_stats_write(enum hakmem_stats_format format, hakmem_write_fn *write, void *arg);

/*
 * The heap profile so far, in the text format that pprof reads, handed to `write` in pieces.
 * Any thread. Returns 0, or -1 where the program does not run on libhakmem-profile.so.
 */
int hakmem_profile_write(hakmem_write_fn *write, void *arg);

/*
 * Where memory lies. A place is a node by the kernel's number, or one of these:
 *
 *   HAKMEM_NODE_LOCAL        the node of the CPU that the thread is on
 *   HAKMEM_NODE_BANDWIDTH    the nearest node with more bandwidth than those with CPUs (HBM)
 *   HAKMEM_NODE_CAPACITY     the nearest node of other memory without CPUs (CXL, NVM)
 *   HAKMEM_NODE_INTERLEAVED  all nodes with CPUs by turns, page by page; by huge pages from 128 MiB on
 *
 * A machine without such memory gives local memory. Kinds are known once the topology has been
 * read, some ms after the heap has 4 MiB; until then HAKMEM_NODE_BANDWIDTH is local. Memory is
 * preferred to lie there, whoever touches it first: when the node is full it comes from the
 * others. Where the kernel refuses to bind it lies where it is first touched.
 */
enum { HAKMEM_NODE_LOCAL = -1, HAKMEM_NODE_BANDWIDTH = -2, HAKMEM_NODE_CAPACITY = -3, HAKMEM_NODE_INTERLEAVED = -4 };

/*
 * Blocks at a place. Any thread may free them, by free(); realloc() may move them to where the
 * calling thread's memory lies. Each block over 1 MiB is a mapping of its own. `align` is a
 * power of two. NULL and errno: EINVAL, there is no such place, the node has no memory, or
 * align is no power of two; ENOMEM.
 */
void *hakmem_malloc_at(int place, size_t bytes);
void *hakmem_memalign_at(int place, size_t align, size_t bytes);

/*
 * From now on all memory that the calling thread allocates lies at `place`, wherever it runs and
 * whatever its memory policy, blocks over 1 MiB included. HAKMEM_NODE_LOCAL ends that: its memory
 * then lies where the thread is or as its policy says. What it has allocated stays. Returns 0,
 * or -1 and errno: EINVAL, there is no such place.
 */
int hakmem_thread_bind(int place);

/*
 * The node on which the block's first byte lies; for a block of up to 1 MiB that is not touched
 * yet, or if the kernel does not tell, the node that it is bound to. Returns -1 and errno:
 * EINVAL, this is no block of hakmem's; ENODATA, nothing says where it lies or will lie.
 */
int hakmem_node_of(const void *block);

#ifdef __cplusplus
}
#endif
#endif
