/* SPDX-License-Identifier: MIT */
/* Stacks of return addresses, by libgcc's unwinder, which may allocate. */
#ifndef HAK_PROFILE_STACK_H
#define HAK_PROFILE_STACK_H

#include "base.h"

#define HAK_STACK_DEPTH 64u

struct hak_stack {
	uint32_t depth;
	uintptr_t pc[HAK_STACK_DEPTH];
};

/* The calling thread's, from the first frame that is not this library's. */
void hak_stack_take(struct hak_stack *s);
/* The same in a signal handler: from the interrupted instruction, at pc. */
void hak_stack_take_from(struct hak_stack *s, uintptr_t pc);

#endif
