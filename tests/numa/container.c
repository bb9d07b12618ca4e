/* SPDX-License-Identifier: MIT */
/*
 * Runs a program under a seccomp filter.
 *
 *	container PROGRAM ARGUMENT...
 *
 * As in a container: refuses what Docker's default profile refuses a container without privileges
 * and an allocator might want.
 *
 *	container --service PROGRAM ARGUMENT...
 *
 * As a service of systemd's with the filter of Debian's redis-server, SystemCallFilter=@system-service
 * without @privileged and @resources: kills for what else an allocator might want.
 *
 * One exception: move_pages with no nodes and the flag MPOL_MF_MOVE, a question that asks for
 * nothing, is let through. By it the tests judge; hakmem asks without the flag.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

#define REFUSE (SECCOMP_RET_ERRNO | EPERM)
#define KILL SECCOMP_RET_KILL_PROCESS

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define NOT(call, what) IS(call, 0, 1), RETURN(what)

#define BEGIN(what) LOAD(arch), IS(AUDIT_ARCH_X86_64, 1, 0), RETURN(what), LOAD(nr)
#define END(what)                                                                                                      \
	IS(SYS_move_pages, 1, 0), RETURN(SECCOMP_RET_ALLOW), LOAD(args[5]), /* little-endian: the low word */          \
		IS(MPOL_MF_MOVE, 1, 0), RETURN(what), RETURN(SECCOMP_RET_ALLOW)

static struct sock_filter container[] = {
	BEGIN(REFUSE),
	NOT(SYS_mbind, REFUSE),
	NOT(SYS_set_mempolicy, REFUSE),
	NOT(SYS_get_mempolicy, REFUSE),
	NOT(SYS_set_mempolicy_home_node, REFUSE),
	NOT(SYS_migrate_pages, REFUSE),
	NOT(SYS_process_madvise, REFUSE),
	NOT(SYS_io_uring_setup, REFUSE),
	END(REFUSE),
};

static struct sock_filter service[] = {
	BEGIN(KILL),
	NOT(SYS_mbind, KILL),
	NOT(SYS_set_mempolicy, KILL),
	NOT(SYS_set_mempolicy_home_node, KILL), /* too new for @system-service, as the next */
	NOT(SYS_process_madvise, KILL),
	NOT(SYS_migrate_pages, KILL),
	NOT(SYS_sched_setaffinity, KILL),
	NOT(SYS_sched_setattr, KILL),
	NOT(SYS_sched_setparam, KILL),
	NOT(SYS_sched_setscheduler, KILL),
	NOT(SYS_setpriority, KILL),
	NOT(SYS_setrlimit, KILL),
	NOT(SYS_ioprio_set, KILL),
	NOT(SYS_perf_event_open, KILL),
	NOT(SYS_ptrace, KILL),
	NOT(438, KILL), /* pidfd_getfd */
	END(KILL),
};

int main(int argc, char **argv)
{
	struct sock_fprog program = { sizeof container / sizeof *container, container };

	if (argc > 1 && strcmp(argv[1], "--service") == 0) {
		program = (struct sock_fprog){ sizeof service / sizeof *service, service };
		argc--, argv++;
	}
	if (argc < 2) {
		fputs("usage: container [--service] PROGRAM ARGUMENT...\n", stderr);
		return 2;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("container: seccomp");
		return 2;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 2;
}
