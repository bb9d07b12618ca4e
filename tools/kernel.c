/* SPDX-License-Identifier: MIT */
/*
 * What this kernel, with the filters and limits that are in force here, lets a process do.
 * Each call is made in a child: a seccomp filter may kill instead of refusing.
 */
#include "tool.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)4 << 20)
#define PAGE ((size_t)4096)

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static void *map(size_t bytes)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int result(long returned)
{
	return returned < 0 ? errno : 0;
}

static int try_mbind(void)
{
	unsigned long node = 1;
	return result(syscall(SYS_mbind, map(PAGE), PAGE, MPOL_PREFERRED, &node, 2ul, 0));
}

static int try_get_mempolicy(void)
{
	int mode;
	return result(syscall(SYS_get_mempolicy, &mode, NULL, 0ul, NULL, 0ul));
}

static int try_membarrier(void)
{
	return result(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
}

static int try_hugepage(void)
{
	return result(madvise(map(HUGE_BYTES), HUGE_BYTES, MADV_HUGEPAGE));
}

static int try_io_uring(void)
{
	char parameters[120] = { 0 }; /* struct io_uring_params */
	return result(syscall(SYS_io_uring_setup, 2, parameters));
}

static int try_process_madvise(void)
{
	struct iovec range = { map(PAGE), PAGE };
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (self < 0)
		return errno;
	return result(syscall(SYS_process_madvise, self, &range, 1ul, MADV_DONTNEED, 0u));
}

static int try_guard(void)
{
	return result(madvise(map(PAGE), PAGE, MADV_GUARD_INSTALL));
}

static int try_wipe(void)
{
	return result(madvise(map(PAGE), PAGE, MADV_WIPEONFORK));
}

static int try_name(void)
{
	return result(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, map(PAGE), PAGE, "hakmem: probe"));
}

const struct probe kernel_probes[] = {
	{ "MADV_HUGEPAGE", "huge pages for large heaps", "small pages only", NULL, try_hugepage },
	{ "mbind", "memory bound to its node", "first touch by the owning thread", "HAKMEM_BIND=on", try_mbind },
	{ "get_mempolicy", "leaves a policy of yours alone", "memory is bound as if there were none", "HAKMEM_BIND=on",
	  try_get_mempolicy },
	{ "membarrier", "takes back what sleeping threads have cached", "they keep it", NULL, try_membarrier },
	{ "io_uring_setup", "whole huge pages given back by a ring", "process_madvise or madvise", "HAKMEM_RECLAIM=uring",
	  try_io_uring },
	{ "process_madvise", "small ranges given back many a call", "one madvise a range", "HAKMEM_RECLAIM=vector",
	  try_process_madvise },
	{ "MADV_GUARD_INSTALL", "guards without a mapping of their own", "no guards", NULL, try_guard },
	{ "MADV_WIPEONFORK", "notices a fork without handlers", "_Fork and clone go unnoticed", NULL, try_wipe },
	{ "PR_SET_VMA_ANON_NAME", "names in /proc/PID/maps", "mappings without names", NULL, try_name },
};
const size_t kernel_probe_count = sizeof kernel_probes / sizeof *kernel_probes;

int kernel_try(const struct probe *probe)
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(probe->call());
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return EAGAIN;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const char *kernel_why(int why)
{
	switch (why) {
	case 0:
		return "works";
	case -1:
		return "a seccomp filter kills the process that asks";
	case EPERM:
	case EACCES:
		return "refused: seccomp, a sysctl or a missing right";
	case ENOSYS:
		return "not in this kernel, or hidden by seccomp";
	case EINVAL:
		return "this kernel does not know it";
	default:
		return strerror(why);
	}
}

const char *kernel_choice(const char *path)
{
	static char word[32];
	char *text = text_file(path), *open = text ? strchr(text, '[') : NULL;
	word[0] = 0;
	if (open)
		snprintf(word, sizeof word, "%.*s", (int)strcspn(open + 1, "]"), open + 1);
	free(text);
	return word;
}
