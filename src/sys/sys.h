/* SPDX-License-Identifier: MIT */
/*
 * Everything hakmem asks of the kernel goes through one table, so that a test can
 * replace it and make the nth call fail. The default entries are libc's functions
 * (not raw system calls: MPI and RDMA libraries hook madvise and munmap to keep
 * their registration caches true). All follow libc's conventions, errno included;
 * the slow paths save errno around their use (front.c). No lock but the reclaimer's is held where
 * munmap, mremap or madvise is called: a hook may allocate.
 */
#ifndef HAK_SYS_H
#define HAK_SYS_H

#include "base.h"
#include <sys/mman.h>
#include <sys/types.h>

/* Advice that the C library may be too old to know. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

struct iovec;

struct hak_sys {
	void *(*mmap)(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset);
	int (*munmap)(void *addr, size_t bytes);
	void *(*mremap)(void *addr, size_t old_bytes, size_t new_bytes, int flags, void *to);
	int (*mprotect)(void *addr, size_t bytes, int prot);
	int (*madvise)(void *addr, size_t bytes, int advice);
	/*
	 * The same two without libc, also with locks held: a hook on libc's may call malloc. For memory
	 * of which nobody has had a block, so that no cache of registrations knows it.
	 */
	int (*munmap_own)(void *addr, size_t bytes);
	int (*madvise_own)(void *addr, size_t bytes, int advice);
	/* Many ranges of this process in one call. Bytes advised, from the first range on; -1 and errno. */
	ssize_t (*madvise_vector)(const struct iovec *ranges, size_t count, int advice);
	/* Of the calling thread. 0, or -1 and errno. */
	int (*getaffinity)(size_t bytes, void *mask);
	int (*setaffinity)(size_t bytes, const void *mask);
	long (*mbind)(void *addr, size_t bytes, int mode, const unsigned long *nodes,
		      unsigned long maxnode, unsigned flags);
	long (*get_mempolicy)(int *mode, unsigned long *nodes, unsigned long maxnode, void *addr,
			      unsigned long flags);
	/* Linux 5.17: where the search of a PREFERRED_MANY range begins. */
	long (*home_node)(void *addr, size_t bytes, unsigned node);
	/* Asks on which nodes the calling process's pages lie; moves nothing. */
	long (*where_pages)(unsigned long count, void **pages, int *status);
	int (*getcpu)(unsigned *cpu, unsigned *node);
	/* Reads up to cap - 1 bytes, ends them with 0; -1 and errno on error. */
	ssize_t (*read_file)(const char *path, char *buf, size_t cap);
	/* Reads up to `bytes` from the place `at` on. Bytes; -1 and errno. */
	ssize_t (*read_at)(int fd, uint64_t at, void *buf, size_t bytes);
	/* Fills up to 256 bytes at random; it does not wait. False: less than that. */
	bool (*random)(void *buf, size_t bytes);
	/* When it returns every other thread of the process has been through a full barrier since the call. 0,
	 * or -1 and errno: refused, or before Linux 4.14. */
	int (*barrier)(void);
	/* Detached, with all signals blocked. 0 or an error number. */
	int (*thread_start)(void *(*run)(void *), void *arg);
};

extern struct hak_sys hak_sys; /* written by tests only, before other threads start */

/* Fresh zeroed memory, aligned to a page; NULL if there is none. */
void *hak_sys_map(size_t bytes);

/*
 * Files, without libc's wrappers: those are cancellation points, and a thread must not be
 * cancelled inside free, still less with a lock held. -1 and errno on error.
 */
int hak_sys_open(const char *path, int flags, unsigned mode);
ssize_t hak_sys_read(int fd, void *buf, size_t bytes);
ssize_t hak_sys_write(int fd, const void *buf, size_t bytes);
void hak_sys_close(int fd);

/*
 * Gives the calling thread descriptors of its own, none of them open yet. A program may close every
 * number that it does not know, in a loop, and use it anew: between an open and a close of ours those
 * would be its own files. For one thread a process, on which nothing of the program's runs. Refused
 * (before Linux 5.11, a filter): it goes on with the program's.
 */
void hak_sys_stand_apart(void);
/* Is there such a thread? Its numbers mean nothing to the others then, nor to a child of fork. */
bool hak_sys_stands_apart(void);
/* In a child of fork, where there is no such thread. */
void hak_sys_apart_forked(void);

/* The program's standard error, from any thread. For hak_sys_stderr_done after use; -1: it has none. */
int hak_sys_stderr(void);
void hak_sys_stderr_done(int fd);

/* Calls visit for each line of a text file, without its newline, until it returns true.
 * 1: it did; 0: it never did; -1: the file cannot be opened. A line over 8 KiB is dropped. */
int hak_sys_each_line(const char *path, bool (*visit)(const char *line, void *arg), void *arg);
/* The same where the stack may be small: lines are read to buf, and dropped if they do not fit. */
int hak_sys_each_line_in(char *buf, size_t cap, const char *path, bool (*visit)(const char *line, void *arg), void *arg);

/*
 * The seccomp filters that the calling thread is under; 0: none. Read from /proc, since some
 * filters that refuse to open files kill for a prctl that they do not know.
 */
#define HAK_SECCOMP_UNKNOWN UINT32_MAX
uint32_t hak_sys_seccomp(void);
/* At the first allocation or in the constructor, where a prctl is safe and /proc is read only if there are some. */
void hak_sys_seccomp_start(void);
/* Was there a filter? Before that: no. */
bool hak_sys_filtered(void);
/*
 * filters: of hak_sys_seccomp. False: one is in force that was not there at the start, or nobody can
 * tell. Then what malloc does not need is not tried: some filters kill instead of refusing.
 */
bool hak_sys_may_try(uint32_t filters);

/* Names [addr, addr + bytes) in /proc/PID/maps, where the kernel can. Never fails. */
void hak_sys_name(void *addr, size_t bytes, const char *name);

#endif
