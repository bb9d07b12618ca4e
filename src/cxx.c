/* SPDX-License-Identifier: MIT */
/*
 * C++'s operator new and delete, by their mangled names, so that the library needs no
 * C++ runtime. What only that runtime can do is asked of the one the program uses:
 * std::get_new_handler and std::__throw_bad_alloc are weak references, and a nothrow
 * new that finds no memory is handed to the runtime's own, which calls the throwing
 * form and catches.
 *
 * This file is compiled with -fexceptions: bad_alloc passes through its frames.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "fast.h"
#include "front.h"

extern void (*_ZSt15get_new_handlerv(void))(void) __attribute__((weak));
extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak, noreturn));

static HAK_COLD void *new_slow(size_t bytes, size_t align)
{
	for (;;) {
		void (*handler)(void) = _ZSt15get_new_handlerv ? _ZSt15get_new_handlerv() : NULL;
		if (!handler) {
			if (_ZSt17__throw_bad_allocv)
				_ZSt17__throw_bad_allocv();
			abort(); /* a C++ program without a runtime that could throw */
		}
		handler();
		void *p = align ? hak_memalign(align, bytes) : hak_malloc(bytes);
		if (p)
			return p;
	}
}

static HAK_COLD void *new_first(size_t bytes)
{
	void *p = hak_malloc_slow(bytes);
	return hak_likely(p) ? p : new_slow(bytes, 0);
}

static inline void *new_plain(size_t bytes)
{
	void *p = hak_malloc_fast(bytes);
	return hak_likely(p) ? p : new_first(bytes);
}

static void *new_aligned(size_t bytes, size_t align)
{
	void *p = hak_memalign(align, bytes);
	return hak_likely(p) ? p : new_slow(bytes, align);
}

static HAK_COLD void *nothrow_slow(const char *name, size_t bytes, const void *nothrow)
{
	void *(*next)(size_t, const void *) = (void *(*)(size_t, const void *))dlsym(RTLD_NEXT, name);
	return next ? next(bytes, nothrow) : NULL;
}

static HAK_COLD void *nothrow_aligned_slow(const char *name, size_t bytes, size_t align, const void *nothrow)
{
	void *(*next)(size_t, size_t, const void *) =
		(void *(*)(size_t, size_t, const void *))dlsym(RTLD_NEXT, name);
	return next ? next(bytes, align, nothrow) : NULL;
}

#define NEW(name) HAK_EXPORT void *name(size_t bytes); HAK_EXPORT void *name(size_t bytes) { return new_plain(bytes); }
#define NEW_NOTHROW(name)                                                                          \
	HAK_EXPORT void *name(size_t bytes, const void *nothrow);                                  \
	HAK_EXPORT void *name(size_t bytes, const void *nothrow)                                   \
	{                                                                                          \
		void *p = hak_malloc(bytes);                                                       \
		return hak_likely(p) ? p : nothrow_slow(#name, bytes, nothrow);                    \
	}
#define NEW_ALIGNED(name)                                                                          \
	HAK_EXPORT void *name(size_t bytes, size_t align);                                         \
	HAK_EXPORT void *name(size_t bytes, size_t align) { return new_aligned(bytes, align); }
#define NEW_ALIGNED_NOTHROW(name)                                                                  \
	HAK_EXPORT void *name(size_t bytes, size_t align, const void *nothrow);                    \
	HAK_EXPORT void *name(size_t bytes, size_t align, const void *nothrow)                     \
	{                                                                                          \
		void *p = hak_memalign(align, bytes);                                              \
		return hak_likely(p) ? p : nothrow_aligned_slow(#name, bytes, align, nothrow);     \
	}
#define DELETE(name, ...)                                                                          \
	HAK_EXPORT void name(void *p, ##__VA_ARGS__);                                              \
	HAK_EXPORT void name(void *p, ##__VA_ARGS__) { hak_free_fast(p); }

NEW(_Znwm)			       /* operator new(size_t) */
NEW(_Znam)			       /* operator new[](size_t) */
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED(_ZnwmSt11align_val_t)
NEW_ALIGNED(_ZnamSt11align_val_t)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

#pragma GCC diagnostic ignored "-Wunused-parameter"
DELETE(_ZdlPv)			       /* operator delete(void *) */
DELETE(_ZdaPv)			       /* operator delete[](void *) */
DELETE(_ZdlPvm, size_t bytes)	       /* sized */
DELETE(_ZdaPvm, size_t bytes)
DELETE(_ZdlPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdaPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdlPvSt11align_val_t, size_t align)
DELETE(_ZdaPvSt11align_val_t, size_t align)
DELETE(_ZdlPvmSt11align_val_t, size_t bytes, size_t align)
DELETE(_ZdaPvmSt11align_val_t, size_t bytes, size_t align)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align, const void *nothrow)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align, const void *nothrow)
