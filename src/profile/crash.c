/* SPDX-License-Identifier: MIT */
/*
 * Reports of guarded blocks, and the handlers of SIGSEGV. In the handler there are system calls and the
 * two locks of the profile, neither of which its thread can hold then: no thread touches the pool with
 * one of them held. What is large is static, since the program's signal stack may be small.
 */
#include "profile/crash.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "die.h"
#include "probe.h"
#include "profile/guarded.h"
#include "profile/stack.h"
#include "sys/sys.h"

#define PATH_BYTES 512
#define UNWINDER_ROOM ((size_t)16 << 10) /* of a signal stack, for the stack of the access */
#define LEVELS 4u

/* Where the processor was, and whether it wrote; NULL: not known. */
#if defined(__x86_64__)
#define PC(context) ((uintptr_t)(context)->uc_mcontext.gregs[REG_RIP])
#define ACCESS(context) ((context)->uc_mcontext.gregs[REG_ERR] & 2 ? "write" : "read")
#else
#define PC(context) ((uintptr_t)0)
#define ACCESS(context) "access"
#endif

/* ---- text ------------------------------------------------------------------------ */

static _Atomic int writing; /* the lock of all below */
static HAK_TLS bool is_writing;
static char lines[8192];
static struct hak_stack access_stack;

/* An address that is looked for in /proc/self/maps. */
struct place {
	uintptr_t pc, base; /* base: where the file of the last lines starts */
	char file[PATH_BYTES];
};

static struct place place;

static bool place_line(const char *line, void *arg)
{
	struct place *at = arg;
	char *s;
	/* from-to perms offset dev inode  name */
	uintptr_t from = strtoul(line, &s, 16), to = strtoul(s + 1, &s, 16);
	const char *name = strchr(line, '/');
	size_t bytes = name ? strlen(name) + 1 : 0;
	if (name && bytes <= sizeof at->file && strcmp(at->file, name) != 0) {
		memcpy(at->file, name, bytes);
		at->base = from - strtoul(s + sizeof " rw-p", NULL, 16);
	}
	if (at->pc < from || at->pc >= to)
		return false;
	if (!name || bytes > sizeof at->file)
		at->file[0] = 0;
	return true;
}

/* One line: the file, the offset in it for addr2line, the address. */
static void frame_text(uintptr_t pc)
{
	static char buf[PATH_BYTES + 64];
	struct hak_text t = { buf, 0, sizeof buf };
	place.pc = pc;
	place.file[0] = 0;
	hak_text_str(&t, "    ");
	if (hak_sys_each_line_in(lines, sizeof lines, "/proc/self/maps", place_line, &place) > 0 && place.file[0]) {
		hak_text_str(&t, place.file);
		hak_text_str(&t, "+");
		hak_text_hex(&t, pc - place.base);
		hak_text_str(&t, " ");
	}
	hak_text_str(&t, "[");
	hak_text_hex(&t, pc);
	hak_text_str(&t, "]\n");
	hak_text_write(&t, STDERR_FILENO);
}

static void head_text(const char *what, int thread)
{
	char buf[64];
	struct hak_text t = { buf, 0, sizeof buf };
	hak_text_str(&t, "  ");
	hak_text_str(&t, what);
	hak_text_str(&t, " by thread ");
	hak_text_u64(&t, (uint64_t)thread);
	hak_text_str(&t, ":\n");
	hak_text_write(&t, STDERR_FILENO);
}

/* A return address is behind its call, perhaps on the next line. */
static void site_text(const char *what, int thread, const struct hak_profile_site *s)
{
	head_text(what, thread);
	for (uint32_t i = 0; s && i < s->depth; i++)
		frame_text(s->pc[i] - 1);
}

static void block_text(const struct hak_guarded *block)
{
	if (block->state == HAK_GUARDED_UNUSED)
		return;
	site_text("allocated", block->allocated_by, block->allocated);
	if (block->state == HAK_GUARDED_FREED)
		site_text("freed", block->freed_by, block->freed);
}

static void access_text(uintptr_t pc)
{
	stack_t alternate;
	bool room = sigaltstack(NULL, &alternate) || !(alternate.ss_flags & SS_ONSTACK) ||
		    (uintptr_t)__builtin_frame_address(0) - (uintptr_t)alternate.ss_sp >= UNWINDER_ROOM;
	head_text("accessed", (int)syscall(SYS_gettid));
	frame_text(pc);
	if (!room)
		return;
	/* last, since it is not the program's own code alone that runs now */
	hak_stack_take_from(&access_stack, pc);
	for (uint32_t i = 1; i < access_stack.depth; i++)
		frame_text(access_stack.pc[i] - 1);
}

static void fault_text(const struct hak_guarded *block, uintptr_t address, const char *access)
{
	char buf[256];
	struct hak_text t = { buf, 0, sizeof buf };
	bool before = address < block->address, behind = address >= block->address + block->bytes;
	const char *crime = block->state == HAK_GUARDED_FREED ? "use after free" :
			    before			      ? "underflow" :
								"overflow";
	HAK_PROBE(fault, address, block->bytes);
	hak_text_str(&t, "hakmem: ");
	hak_text_str(&t, block->state == HAK_GUARDED_UNUSED ? "touch of a guard page" : crime);
	hak_text_str(&t, ": ");
	hak_text_str(&t, access);
	hak_text_str(&t, " at ");
	hak_text_hex(&t, address);
	if (block->state != HAK_GUARDED_UNUSED) {
		hak_text_str(&t, ", ");
		hak_text_u64(&t, before ? block->address - address :
				 behind ? address - (block->address + block->bytes) :
					  address - block->address);
		hak_text_str(&t, before ? " bytes before" : behind ? " bytes behind the end of" : " bytes into");
		hak_text_str(&t, block->state == HAK_GUARDED_FREED ? " the freed block " : " the block ");
		hak_text_hex(&t, block->address);
		hak_text_str(&t, " of ");
		hak_text_u64(&t, block->bytes);
		hak_text_str(&t, " bytes");
	}
	hak_text_str(&t, "\n");
	hak_text_write(&t, STDERR_FILENO);
}

/* ---- reports --------------------------------------------------------------------- */

static bool begin(void)
{
	if (is_writing)
		return false;
	hak_profile_lock_word(&writing);
	is_writing = true;
	return true;
}

static void end(void)
{
	is_writing = false;
	hak_profile_unlock_word(&writing);
}

void hak_crash_bad_free(const char *function, const char *fault, const void *p, const struct hak_guarded *block, int thread,
			const struct hak_profile_site *by)
{
	hak_fault_line(function, fault, p, block->bytes, 0);
	if (begin()) {
		block_text(block);
		site_text(block->state == HAK_GUARDED_FREED ? "freed again" : "freed", thread, by);
		end();
	}
	hak_fault_end();
}

static void report(const siginfo_t *info, const ucontext_t *context)
{
	uintptr_t address = (uintptr_t)info->si_addr;
	bool first;
	/* one that was sent has no address */
	if (info->si_code <= 0 || !hak_guarded_has(info->si_addr))
		return;
	struct hak_guarded block = hak_guarded_blame(address, &first);
	if (!first || !begin())
		return;
	fault_text(&block, address, ACCESS(context));
	block_text(&block);
	access_text(PC(context));
	end();
}

/* ---- handlers -------------------------------------------------------------------- */

/*
 * A program that sets a handler later than the constructor takes ours for the one that was there before.
 * Its own may call that, or put it back and raise the signal again. So whenever a handler of ours takes its
 * place again it is another one, with a successor of its own: a chain of them ends.
 */
static struct sigaction next[LEVELS]; /* written before the handler that goes on there is set */
static unsigned level;		      /* under the profile's lock */

static void end_by_default(const siginfo_t *info)
{
	struct sigaction none = { .sa_handler = SIG_DFL };
	sigaction(SIGSEGV, &none, NULL);
	/* a fault comes again when the handler returns */
	if (info->si_code <= 0)
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSEGV);
}

static void handle(unsigned i, int number, siginfo_t *info, void *context)
{
	struct sigaction then = next[i];
	report(info, context);
	if (then.sa_flags & (int)SA_RESETHAND)
		next[i] = (struct sigaction){ .sa_handler = SIG_DFL };
	if (then.sa_flags & SA_SIGINFO)
		then.sa_sigaction(number, info, context);
	else if (then.sa_handler == SIG_DFL || (then.sa_handler == SIG_IGN && info->si_code > 0))
		end_by_default(info);
	else if (then.sa_handler != SIG_IGN)
		then.sa_handler(number);
}

#define HANDLER(i)                                                     \
	static void handler_##i(int number, siginfo_t *info, void *context) \
	{                                                              \
		handle(i, number, info, context);                      \
	}
HANDLER(0)
HANDLER(1)
HANDLER(2)
HANDLER(3)

static void (*const handlers[LEVELS])(int, siginfo_t *, void *) = { handler_0, handler_1, handler_2, handler_3 };

static bool is_ours(const struct sigaction *a)
{
	for (unsigned i = 0; i < level; i++)
		if ((a->sa_flags & SA_SIGINFO) && a->sa_sigaction == handlers[i])
			return true;
	return false;
}

void hak_crash_watch_locked(void)
{
	struct sigaction now, ours;
	if (level == LEVELS || sigaction(SIGSEGV, NULL, &now) || is_ours(&now))
		return;
	next[level] = ours = now;
	ours.sa_sigaction = handlers[level];
	/* as the program wants it; on a signal stack if it has not said */
	ours.sa_flags = now.sa_handler == SIG_DFL ? SA_ONSTACK : now.sa_flags & ~(int)SA_RESETHAND;
	ours.sa_flags |= SA_SIGINFO;
	if (sigaction(SIGSEGV, &ours, NULL) == 0)
		level++;
}
