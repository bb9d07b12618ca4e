/* SPDX-License-Identifier: MIT */
/*
 * The geometry of the heap, and the few attributes every file needs.
 *
 *   window     a range of address space that holds up to hak_window.slots arenas
 *   arena      1 GiB slot, aligned to 1 GiB, of one node        16,384 granules
 *   SuperSlab  2 MiB of an arena, aligned to the huge page          32 granules
 *   granule    64 KiB; a slab is 1, 2, 4, ... 32 of them, aligned to its size
 *
 * Nothing here includes anything of hakmem; everything else includes this.
 */
#ifndef HAK_BASE_H
#define HAK_BASE_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef HAK_PERTURB
#define HAK_PERTURB 0
#endif
#ifndef HAK_DEBUG
#define HAK_DEBUG 0
#endif

#define HAK_GRANULE_SHIFT 16
#define HAK_GRANULE ((size_t)1 << HAK_GRANULE_SHIFT)
#define HAK_SUPER_SHIFT 21
#define HAK_SUPER ((size_t)1 << HAK_SUPER_SHIFT)
#define HAK_ARENA_SHIFT 30
#define HAK_ARENA ((size_t)1 << HAK_ARENA_SHIFT)

#define HAK_SUPER_GRANULES 32u
#define HAK_ARENA_GRANULES 16384u
#define HAK_ARENA_SUPERS 512u
#define HAK_MIN_ALIGN ((size_t)16)
#define HAK_PAGE ((size_t)4096)
#define HAK_GRANULE_PAGES ((uint32_t)(HAK_GRANULE / HAK_PAGE))

/* Largest request: PTRDIFF_MAX less room for rounding to an arena. */
#define HAK_MAX_REQUEST ((size_t)PTRDIFF_MAX - HAK_ARENA)

_Static_assert(HAK_SUPER / HAK_GRANULE == HAK_SUPER_GRANULES, "a SuperSlab's granules are one 32-bit mask");
_Static_assert(HAK_ARENA / HAK_GRANULE == HAK_ARENA_GRANULES, "granules of an arena");
_Static_assert(HAK_ARENA / HAK_SUPER == HAK_ARENA_SUPERS, "SuperSlabs of an arena");
_Static_assert(sizeof(void *) == 8, "hakmem needs a 64-bit address space");

#define HAK_CACHELINE 64

#if defined(__SANITIZE_THREAD__)
#define HAK_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAK_TSAN 1
#endif
#endif
#ifndef HAK_TSAN
#define HAK_TSAN 0
#endif

#define hak_likely(x) __builtin_expect(!!(x), 1)
#define hak_unlikely(x) __builtin_expect(!!(x), 0)
#define HAK_COLD __attribute__((cold, noinline))
#define HAK_NOINLINE __attribute__((noinline))
#define HAK_EXPORT __attribute__((visibility("default")))
#define HAK_TLS __thread __attribute__((tls_model("initial-exec")))
#define HAK_ALIGNED(n) __attribute__((aligned(n)))

static inline size_t hak_align_up(size_t n, size_t align)
{
	return (n + align - 1) & ~(align - 1);
}

static inline size_t hak_align_down(size_t n, size_t align)
{
	return n & ~(align - 1);
}

static inline bool hak_is_pow2(size_t n)
{
	return n && (n & (n - 1)) == 0;
}

/* x86-64's first level has no instruction for it, and the compiler's function is a call. */
static inline uint32_t hak_popcount(uint32_t x)
{
	x -= x >> 1 & 0x55555555u;
	x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
	return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

static inline size_t hak_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t hak_max(size_t a, size_t b)
{
	return a > b ? a : b;
}

#endif
