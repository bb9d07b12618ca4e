/* SPDX-License-Identifier: MIT */
/*
 * Runs a command where the kernel refuses, or kills for, what a malloc could ask of it:
 *
 *	surroundings deny ERRNO COMMAND ...   all calls of hakmem's own that malloc can do without
 *	surroundings strict                   allocates on threads, then under a filter that kills
 *	surroundings closes ROUNDS            closes all descriptors, and opens files, while threads free
 *	surroundings fault                    ends by a double free that the reclaimer finds
 *
 * strict is what sandboxes of parsers do (OpenSSH's, for one): the calls of libc's malloc and
 * some more are allowed, any other one ends the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 64

static int install(const int *calls, size_t count, uint32_t listed, uint32_t others)
{
	struct sock_filter code[2 * MOST + 2];
	unsigned n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < count; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, listed);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, others);
	struct sock_fprog program = { (unsigned short)n, code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("seccomp");
		return 77;
	}
	return 0;
}

static void work(unsigned seed)
{
	enum { N = 400 };
	static _Thread_local char *p[N];
	for (unsigned i = 0; i < 30 * N; i++) {
		seed = seed * 1664525 + 1013904223;
		size_t bytes = (seed >> 8) % (i % 40 ? 20000 : 3000000) + 1;
		if (p[i % N] && p[i % N][0] != (char)(i % N))
			abort();
		p[i % N] = seed % 4 ? (free(p[i % N]), malloc(bytes)) : realloc(p[i % N], bytes);
		if (!p[i % N])
			abort();
		p[i % N][0] = (char)(i % N);
	}
	for (unsigned i = 0; i < N; i++) {
		free(p[i]);
		p[i] = NULL;
	}
}

/* New memory of every kind, where nothing that is free would do. */
static void grow(void)
{
	static char *p[600];
	for (size_t i = 0; i < 600; i++) {
		size_t bytes = i == 0 ? (size_t)70 << 20 : i < 20 ? (size_t)5 << 20 : 900000;
		if (!(p[i] = malloc(bytes)))
			abort();
		p[i][bytes - 1] = 1;
	}
	for (size_t i = 0; i < 600; i++)
		free(p[i]);
}

static pthread_barrier_t confined;

static void *worker(void *arg)
{
	work((unsigned)(uintptr_t)arg);
	pthread_barrier_wait(&confined);
	pthread_barrier_wait(&confined);
	work((unsigned)(uintptr_t)arg + 1);
	return NULL;
}

static int strict(void)
{
	/* what glibc's malloc and threads need, and a sandboxed worker that reads and writes */
	static const int allowed[] = { SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_futex,
				       SYS_read, SYS_write, SYS_close, SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
				       SYS_rt_sigprocmask, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_clock_gettime,
				       SYS_sched_yield, SYS_getrandom, SYS_set_robust_list, SYS_restart_syscall };
	pthread_t t[2];
	pthread_barrier_init(&confined, NULL, 3);
	for (uintptr_t i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, worker, (void *)(i + 7)))
			abort();
	work(3);
	pthread_barrier_wait(&confined);
	/* this thread alone: the others are of the program's trusted part */
	int status = install(allowed, sizeof allowed / sizeof *allowed, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
	pthread_barrier_wait(&confined);
	if (status)
		return status;
	for (unsigned i = 0; i < 5; i++)
		work(100 + i);
	grow();
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	return 0;
}

/* ---- a program that closes what it does not know ------------------------------------ */

#define FILES 32
#define MIB ((size_t)1 << 20)

static _Atomic int churning = 2;

/* Some 100 MiB come and go, of all sizes, so that the reclaimer has always something to do. */
static void *churn(void *arg)
{
	enum { N = 2000 };
	char **p = calloc(N, sizeof *p);
	for (unsigned round = 0; churning == 2; round++) {
		for (unsigned i = 0; i < N; i++) {
			size_t bytes = i % 50 ? i * 37 % 60000 + 1 : 2 * MIB;
			p[i] = malloc(bytes);
			memset(p[i], (int)i, bytes);
		}
		for (unsigned i = 0; i < N; i++) {
			if (p[i][0] != (char)i)
				abort();
			free(p[i]);
		}
		usleep(1000 * (round % 20));
	}
	free(p);
	return arg;
}

static size_t resident(void)
{
	char text[128] = "";
	int fd = open("/proc/self/statm", O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
		return SIZE_MAX;
	close(fd);
	return strtoull(text + strcspn(text, " "), NULL, 10) * 4096;
}

/* Before it starts a file is read, in the program's thread. */
static void start_reclaimer(void)
{
	for (int i = 0; i < 100; i++)
		free(memset(malloc(2 * MIB + i), 1, 2 * MIB));
}

/* Its own files have the numbers that others' descriptors had a moment ago. 10: one was closed or is
 * another's; 11: somebody read from it or wrote into it; 12: memory does not come back. */
static int closes(unsigned rounds)
{
	static char text[4096];
	pthread_t t[2];
	struct stat was[FILES], is;
	start_reclaimer();
	for (int i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, churn, NULL))
			abort();
	memset(text, 'x', sizeof text);
	for (unsigned round = 0; round < rounds; round++) {
		int fd[FILES];
		closefrom(0);
		for (int i = 0; i < FILES; i++) {
			fd[i] = memfd_create("own", 0);
			if (fd[i] < 0 || pwrite(fd[i], text, sizeof text, 0) != sizeof text || fstat(fd[i], &was[i]))
				return 77;
		}
		usleep(200);
		for (int i = 0; i < FILES; i++) {
			if (fstat(fd[i], &is) || is.st_ino != was[i].st_ino)
				return 10;
			if (lseek(fd[i], 0, SEEK_CUR) != 0 || is.st_size != was[i].st_size)
				return 11;
		}
	}
	churning = 0;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 100 && resident() > 40 * MIB; i++)
		usleep(100000);
	return resident() > 40 * MIB ? 12 : 0;
}

static void *free_twice(void *p)
{
	free(malloc(1)); /* has a heap from here on, so its frees travel in parcels */
	free(p);
	free(p);
	return NULL;
}

/* It is the reclaimer that finds it: this thread sleeps. */
static int fault(void)
{
	pthread_t t;
	start_reclaimer();
	if (pthread_create(&t, NULL, free_twice, malloc(1000)))
		return 77;
	pthread_join(t, NULL);
	sleep(20);
	return 1;
}

int main(int argc, char **argv)
{
	/* numbers that this machine's headers may not have */
	static const int own[] = { SYS_mbind, SYS_get_mempolicy, SYS_set_mempolicy, SYS_move_pages, SYS_getcpu, 450,
				   SYS_sched_setaffinity, SYS_sched_getaffinity, 440, SYS_io_uring_setup, SYS_prctl,
				   SYS_pidfd_open, SYS_madvise, SYS_mremap };
	if (argc == 2 && !strcmp(argv[1], "strict"))
		return strict();
	if (argc == 2 && !strcmp(argv[1], "fault"))
		return fault();
	if (argc == 3 && !strcmp(argv[1], "closes"))
		return closes((unsigned)atoi(argv[2]));
	if (argc < 4 || strcmp(argv[1], "deny"))
		return 2;
	int status = install(own, sizeof own / sizeof *own, SECCOMP_RET_ERRNO | (uint32_t)atoi(argv[2]), SECCOMP_RET_ALLOW);
	if (status)
		return status;
	execv(argv[3], argv + 3);
	perror(argv[3]);
	return 1;
}
