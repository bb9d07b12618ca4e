/* SPDX-License-Identifier: MIT */
/*
 * Pointers that are not hakmem's. Libraries loaded with RTLD_DEEPBIND, or bound before
 * hakmem was loaded with dlopen, allocate with the C library and free with us.
 *
 *   in an arena of ours, or in the middle of an own mapping     fault
 *   on a stack, in a mapped file, nowhere                       fault
 *   in other anonymous memory                                   the C library's free
 */
#ifndef HAK_FOREIGN_H
#define HAK_FOREIGN_H

#include "base.h"

void hak_foreign_free(void *p);
void *hak_foreign_realloc(void *p, size_t bytes);
size_t hak_foreign_usable_size(const void *p);

#endif
