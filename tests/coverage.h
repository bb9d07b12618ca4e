/* SPDX-License-Identifier: MIT */
/*
 * For coverage.sh, which includes it before each source: gcov writes its counts at exit alone, so
 * what a process reached that reports a fault and dies would not count. gcov allocates, so this is
 * for programs whose malloc is not the one that has just failed, and may hold a lock.
 */
#include <dlfcn.h>
#include <gcov.h>
#include <stdlib.h>

#define abort() (dlsym(RTLD_DEFAULT, "hakmem_version") ? (void)0 : __gcov_dump(), abort())
