/* SPDX-License-Identifier: MIT */
/*
 * Messages without malloc or stdio: one line, one write(2). Callable from any
 * thread, under any lock, from a signal handler.
 */
#ifndef HAK_DIE_H
#define HAK_DIE_H

#include "base.h"

/* "hakmem: WHAT: ADDRESS" on stderr, then abort. For broken invariants. */
_Noreturn HAK_COLD void hak_die(const char *what, const void *where);

/*
 * A bad free or realloc: "hakmem: free(): FAULT: pointer 0x..., block size N, heap N",
 * then abort; returns only under HAKMEM_ABORT=0, which counts the fault and goes on.
 * block_bytes and heap are 0 where unknown.
 */
HAK_COLD void hak_fault(const char *fault, const void *pointer, size_t block_bytes, uint32_t heap);
/* The same, found by another function than free. */
HAK_COLD void hak_fault_in(const char *function, const char *fault, const void *pointer, size_t block_bytes,
			   uint32_t heap);
/* Its two halves, for who has more to say than the line. */
HAK_COLD void hak_fault_line(const char *function, const char *fault, const void *pointer, size_t block_bytes,
			     uint32_t heap);
HAK_COLD void hak_fault_end(void);

/* "hakmem: WHAT" (and ": DETAIL" unless NULL): a warning. */
HAK_COLD void hak_warn(const char *what, const char *detail);

/* A string builder over a fixed buffer: what does not fit is dropped. */
struct hak_text {
	char *buf;
	size_t len, cap;
};
void hak_text_str(struct hak_text *t, const char *s);
void hak_text_u64(struct hak_text *t, uint64_t v);
void hak_text_hex(struct hak_text *t, uint64_t v);
/* Writes all of it; false: it gave up on an error. */
bool hak_text_write(const struct hak_text *t, int fd);

#endif
