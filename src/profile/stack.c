/* SPDX-License-Identifier: MIT */
/*
 * Unwinding. An outer part of a thread's stack is mostly the same from one sample to the next. So the
 * last stack is kept with the place of each frame, and unwinding stops at the first frame that is where
 * it was then, if every return address from there on is still in its place. (One in a frame of variable
 * size, which has moved and left its old bytes behind, would be taken for the present one.)
 */
#include "profile/stack.h"

#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include "die.h"

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

struct walk {
	struct hak_stack *to;
	uintptr_t from;		       /* 0: the first frame that is not ours */
	bool to_the_end;	       /* the last stack is left alone */
	uint32_t next;		       /* of the last stack's frames, the first that is not below this one */
	uintptr_t sp[HAK_STACK_DEPTH]; /* behind the return address that is its pc */
};

/* The thread's last stack, if it was unwound to its end. */
static HAK_TLS struct {
	uint32_t depth;
	uintptr_t pc[HAK_STACK_DEPTH], sp[HAK_STACK_DEPTH];
} last;

/* Whether pc lies in this library's own code. */
static bool is_ours(uintptr_t pc)
{
	uintptr_t base = (uintptr_t)&__ehdr_start;
	const ElfW(Phdr) *ph = (const ElfW(Phdr) *)(base + __ehdr_start.e_phoff);
	for (int i = 0; i < __ehdr_start.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && (ph[i].p_flags & PF_X))
			return pc - (base + ph[i].p_vaddr) < ph[i].p_memsz;
	return false;
}

/* The kernel reads the set before it looks at what it cannot know. What is no stack any more may be unmapped. */
static bool is_readable(uintptr_t address)
{
	return syscall(SYS_rt_sigprocmask, -1, address, NULL, sizeof(uint64_t)) == 0 || errno != EFAULT;
}

/* Whether the return address that leads to frame i of the last stack is still in its place. page: one that is
 * readable for sure. */
static bool is_in_place(uint32_t i, uintptr_t *page)
{
	uintptr_t at = last.sp[i] - sizeof(uintptr_t);
	if (at % sizeof(uintptr_t) || (hak_align_down(at, HAK_PAGE) != *page && !is_readable(at)))
		return false;
	*page = hak_align_down(at, HAK_PAGE);
	return *(const uintptr_t *)at == last.pc[i];
}

/* Whether the frame is one of the last stack, and all those further out are still there. */
static bool is_known(struct walk *w, uintptr_t pc, uintptr_t sp)
{
	uint32_t i = w->next;
	uintptr_t page = hak_align_down(sp - sizeof(uintptr_t), HAK_PAGE);
	while (i < last.depth && last.sp[i] < sp)
		i++;
	w->next = i;
	if (i == last.depth || last.sp[i] != sp || last.pc[i] != pc)
		return false;
	for (i++; i < last.depth; i++)
		if (!is_in_place(i, &page))
			return false;
	return true;
}

/* The last stack's frames from w->next on; false: they are too many. */
static bool take_known(struct walk *w)
{
	struct hak_stack *s = w->to;
	uint32_t count = last.depth - w->next;
	if (count > HAK_STACK_DEPTH - s->depth)
		return false;
	memcpy(s->pc + s->depth, last.pc + w->next, count * sizeof *s->pc);
	memcpy(w->sp + s->depth, last.sp + w->next, count * sizeof *w->sp);
	s->depth += count;
	return true;
}

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *arg)
{
	struct walk *w = arg;
	struct hak_stack *s = w->to;
	uintptr_t pc = _Unwind_GetIP(context), sp = _Unwind_GetCFA(context);
	if (!pc || s->depth == HAK_STACK_DEPTH)
		return _URC_END_OF_STACK;
	if (!s->depth && (w->from ? pc != w->from : is_ours(pc)))
		return _URC_NO_REASON;
	if (!w->to_the_end && is_known(w, pc, sp) && take_known(w))
		return _URC_END_OF_STACK;
	w->sp[s->depth] = sp;
	s->pc[s->depth++] = pc;
	return _URC_NO_REASON;
}

/* In debug builds: what was taken of the last stack is what unwinding to the end finds. */
static HAK_NOINLINE void check(const struct hak_stack *s)
{
	struct hak_stack whole = { .depth = 0 };
	struct walk w = { .to = &whole, .to_the_end = true };
	_Unwind_Backtrace(frame, &w);
	if (whole.depth != s->depth || memcmp(whole.pc, s->pc, s->depth * sizeof *s->pc) != 0)
		hak_die("stack: not the one that unwinding finds", s->pc);
}

void hak_stack_take(struct hak_stack *s)
{
	struct walk w = { .to = s };
	s->depth = 0;
	_Unwind_Backtrace(frame, &w);
	last.depth = s->depth < HAK_STACK_DEPTH ? s->depth : 0;
	memcpy(last.pc, s->pc, last.depth * sizeof *s->pc);
	memcpy(last.sp, w.sp, last.depth * sizeof *w.sp);
	if (HAK_DEBUG)
		check(s);
}

void hak_stack_take_from(struct hak_stack *s, uintptr_t pc)
{
	struct walk w = { .to = s, .from = pc, .to_the_end = true };
	s->depth = 0;
	_Unwind_Backtrace(frame, &w);
}
