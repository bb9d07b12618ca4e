/* SPDX-License-Identifier: MIT */
/* The default system-call table. */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#ifndef PIDFD_SELF_THREAD
#define PIDFD_SELF_THREAD (-10000)
#endif

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450 /* on every architecture */
#endif

#ifndef SYS_close_range
#define SYS_close_range 436 /* on every architecture */
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1u << 1)
#endif

/* Reports of sanitizers go to descriptor 2 of whatever thread they are about. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
	__has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CAN_STAND_APART false
#else
#define CAN_STAND_APART true
#endif

#define LINE_BYTES 8192
#define STATUS_LOOKS 8
#define REAPER_STACK ((size_t)128 << 10)

static void *sys_mremap(void *addr, size_t old_bytes, size_t new_bytes, int flags, void *to)
{
	return mremap(addr, old_bytes, new_bytes, flags, to);
}

/* A process names itself by a descriptor, or by this number from Linux 6.14 on. A descriptor is not
 * kept: programs close what they do not know. */
static ssize_t sys_madvise_vector(const struct iovec *ranges, size_t count, int advice)
{
	ssize_t n = syscall(SYS_process_madvise, PIDFD_SELF_THREAD, ranges, count, advice, 0);
	if (n >= 0 || errno != EBADF)
		return n;
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (fd < 0)
		return -1;
	n = syscall(SYS_process_madvise, fd, ranges, count, advice, 0);
	int err = errno;
	hak_sys_close(fd);
	errno = err;
	return n;
}

static int sys_munmap_own(void *addr, size_t bytes)
{
	return (int)syscall(SYS_munmap, addr, bytes);
}

static int sys_madvise_own(void *addr, size_t bytes, int advice)
{
	return (int)syscall(SYS_madvise, addr, bytes, advice);
}

static int sys_getaffinity(size_t bytes, void *mask)
{
	return sched_getaffinity(0, bytes, mask);
}

static int sys_setaffinity(size_t bytes, const void *mask)
{
	return sched_setaffinity(0, bytes, mask);
}

/* libnuma's mbind would do the same, but libnuma allocates in its constructor. */
static long sys_mbind(void *addr, size_t bytes, int mode, const unsigned long *nodes,
		      unsigned long maxnode, unsigned flags)
{
	return syscall(SYS_mbind, addr, bytes, mode, nodes, maxnode, flags);
}

static long sys_get_mempolicy(int *mode, unsigned long *nodes, unsigned long maxnode, void *addr,
			      unsigned long flags)
{
	return syscall(SYS_get_mempolicy, mode, nodes, maxnode, addr, flags);
}

static long sys_home_node(void *addr, size_t bytes, unsigned node)
{
	return syscall(SYS_set_mempolicy_home_node, addr, bytes, (unsigned long)node, 0ul);
}

static long sys_where_pages(unsigned long count, void **pages, int *status)
{
	return syscall(SYS_move_pages, 0, count, pages, NULL, status, 0);
}

int hak_sys_open(const char *path, int flags, unsigned mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

ssize_t hak_sys_read(int fd, void *buf, size_t bytes)
{
	return syscall(SYS_read, fd, buf, bytes);
}

ssize_t hak_sys_write(int fd, const void *buf, size_t bytes)
{
	return syscall(SYS_write, fd, buf, bytes);
}

void hak_sys_close(int fd)
{
	syscall(SYS_close, fd);
}

static _Atomic pid_t apart; /* the thread that has descriptors of its own; 0: none */

void hak_sys_stand_apart(void)
{
	bool done = CAN_STAND_APART && syscall(SYS_close_range, 0u, ~0u, CLOSE_RANGE_UNSHARE) == 0;
	/* relaxed, here and below: only this thread's own reads need it, and those of fork's child */
	atomic_store_explicit(&apart, done ? gettid() : 0, memory_order_relaxed);
}

bool hak_sys_stands_apart(void)
{
	return atomic_load_explicit(&apart, memory_order_relaxed) != 0;
}

void hak_sys_apart_forked(void)
{
	atomic_store_explicit(&apart, 0, memory_order_relaxed);
}

static bool is_apart(void)
{
	pid_t thread = atomic_load_explicit(&apart, memory_order_relaxed);
	return thread && thread == gettid();
}

/* Not a copy that is kept: whoever reads the other end of a pipe waits until the last one is closed. */
int hak_sys_stderr(void)
{
	if (!is_apart())
		return STDERR_FILENO;
	int process = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int fd = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, STDERR_FILENO, 0);
	if (process >= 0)
		hak_sys_close(process);
	return fd;
}

void hak_sys_stderr_done(int fd)
{
	if (fd >= 0 && is_apart())
		hak_sys_close(fd);
}

int hak_sys_each_line_in(char *buf, size_t cap, const char *path, bool (*visit)(const char *line, void *arg), void *arg)
{
	size_t have = 0;
	bool stop = false;
	int fd = hak_sys_open(path, O_RDONLY, 0);
	if (fd < 0)
		return -1;
	while (!stop) {
		ssize_t n = hak_sys_read(fd, buf + have, cap - 1 - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
		buf[have] = 0;
		char *line = buf, *end;
		while (!stop && (end = strchr(line, '\n'))) {
			*end = 0;
			stop = visit(line, arg);
			line = end + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == cap - 1)
			have = 0;
	}
	hak_sys_close(fd);
	return stop;
}

int hak_sys_each_line(const char *path, bool (*visit)(const char *line, void *arg), void *arg)
{
	char buf[LINE_BYTES];
	return hak_sys_each_line_in(buf, sizeof buf, path, visit, arg);
}

static bool sys_random(void *buf, size_t bytes)
{
	return syscall(SYS_getrandom, buf, bytes, GRND_NONBLOCK) == (long)bytes;
}

static ssize_t sys_read_file(const char *path, char *buf, size_t cap)
{
	int fd = hak_sys_open(path, O_RDONLY, 0);
	if (fd < 0)
		return -1;
	size_t n = 0;
	while (n < cap - 1) {
		ssize_t got = hak_sys_read(fd, buf + n, cap - 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	buf[n] = 0;
	hak_sys_close(fd);
	return (ssize_t)n;
}

static ssize_t sys_read_at(int fd, uint64_t at, void *buf, size_t bytes)
{
	return syscall(SYS_pread64, fd, buf, bytes, at);
}

static int sys_barrier(void)
{
	/* to register again costs little, and is right in a fork's child */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		return -1;
	return (int)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

static int sys_thread_start(void *(*run)(void *), void *arg)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int err = pthread_attr_init(&attr);
	if (err)
		return err;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, REAPER_STACK);
	sigfillset(&all);
	/* the new thread inherits the mask, so no signal of the program lands on it */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return err;
}

static int sys_getcpu(unsigned *cpu, unsigned *node)
{
	return getcpu(cpu, node);
}

struct hak_sys hak_sys = {
	.mmap = mmap,
	.munmap = munmap,
	.mremap = sys_mremap,
	.mprotect = mprotect,
	.madvise = madvise,
	.munmap_own = sys_munmap_own,
	.madvise_own = sys_madvise_own,
	.madvise_vector = sys_madvise_vector,
	.getaffinity = sys_getaffinity,
	.setaffinity = sys_setaffinity,
	.mbind = sys_mbind,
	.get_mempolicy = sys_get_mempolicy,
	.home_node = sys_home_node,
	.where_pages = sys_where_pages,
	.getcpu = sys_getcpu,
	.read_file = sys_read_file,
	.read_at = sys_read_at,
	.random = sys_random,
	.barrier = sys_barrier,
	.thread_start = sys_thread_start,
};

void *hak_sys_map(size_t bytes)
{
	void *p = hak_sys.mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void hak_sys_name(void *addr, size_t bytes, const char *name)
{
	static _Atomic bool refused; /* a kernel before 5.17, or built without it */
	/* relaxed: asking once more is harmless */
	if (!atomic_load_explicit(&refused, memory_order_relaxed) &&
	    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, (unsigned long)addr, bytes, name))
		atomic_store_explicit(&refused, true, memory_order_relaxed);
}

static bool seccomp_line(const char *line, void *arg)
{
	uint32_t *filters = arg, n = 0;
	const char *s = line + strcspn(line, "0123456789");
	bool mode = strncmp(line, "Seccomp:", 8) == 0, count = strncmp(line, "Seccomp_filters:", 16) == 0;
	if (!mode && !count)
		return false;
	while (*s >= '0' && *s <= '9')
		n = n * 10 + (uint32_t)(*s++ - '0');
	/* kernels before 5.9 say only that there are some */
	*filters = mode && n ? 1 : n;
	return count;
}

uint32_t hak_sys_seccomp(void)
{
	uint32_t filters = HAK_SECCOMP_UNKNOWN;
	/* more than one look: another thread may have closed the descriptor meanwhile */
	for (int i = 0; i < STATUS_LOOKS && filters == HAK_SECCOMP_UNKNOWN; i++)
		if (hak_sys_each_line("/proc/thread-self/status", seccomp_line, &filters) < 0)
			break;
	return filters;
}

static uint32_t filters_at_start; /* immutable after the start */

void hak_sys_seccomp_start(void)
{
	/* an error: a kernel without seccomp */
	filters_at_start = prctl(PR_GET_SECCOMP) > 0 ? hak_sys_seccomp() : 0;
}

bool hak_sys_filtered(void)
{
	return filters_at_start != 0;
}

bool hak_sys_may_try(uint32_t filters)
{
	return filters != HAK_SECCOMP_UNKNOWN && filters == filters_at_start;
}
