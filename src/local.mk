# SPDX-License-Identifier: MIT
# core: everything but libc's names, so that unit tests keep their own malloc.
noinst_LTLIBRARIES += libhakmem_core.la
libhakmem_core_la_SOURCES = \
	%D%/base.h %D%/fast.h \
	%D%/counters.def %D%/counters.h \
	%D%/route.c %D%/route.h \
	%D%/front.c %D%/front.h \
	%D%/heap.c %D%/heap.h \
	%D%/hardened.c %D%/hardened.h \
	%D%/slab.c %D%/slab.h \
	%D%/init.c %D%/init.h \
	%D%/foreign.c %D%/foreign.h \
	%D%/failure.c %D%/failure.h \
	%D%/fresh.c %D%/fresh.h \
	%D%/touched.c %D%/touched.h \
	%D%/meta.c %D%/meta.h \
	%D%/reclaim.c %D%/reclaim.h %D%/holes.c %D%/holes.h %D%/price.c %D%/price.h \
	%D%/probe.h \
	%D%/options.c %D%/options.h %D%/options.def \
	%D%/stats.c %D%/stats.h \
	%D%/record.c %D%/record.h \
	%D%/live.c %D%/live.h \
	%D%/limit.c %D%/limit.h \
	%D%/lock.c %D%/lock.h \
	%D%/clock.h \
	%D%/step.c %D%/step.h \
	%D%/die.c %D%/die.h

include %D%/ace/local.mk
include %D%/sys/local.mk
include %D%/numa/local.mk
include %D%/tiny/local.mk
include %D%/pool/local.mk
include %D%/l25/local.mk
include %D%/topo/local.mk
include %D%/profile/local.mk

# The names that programs call; libhakmem-profile.so is made of them, too.
entry_points = %D%/interpose.c %D%/cxx.c %D%/jemalloc.c

lib_LTLIBRARIES += libhakmem.la
libhakmem_la_SOURCES = $(entry_points)
libhakmem_la_LIBADD = libhakmem_core.la
# Never unloaded: blocks outlive any dlclose. All symbols bound at load: no lazy binding,
# and so no look-up, inside malloc.
libhakmem_la_LDFLAGS = -version-info 0:0:0 -no-undefined \
	-Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete -Wl,--version-script=$(top_srcdir)/hakmem.map
libhakmem_la_DEPENDENCIES = libhakmem_core.la hakmem.map
