# SPDX-License-Identifier: MIT
# What needs hwloc, libnuma or liburing. Found by its name in libhakmem.so's own folder, so the
# file has no version; its one symbol carries the version of the interface.
EXTRA_DIST += %D%/topo.map

if BUILD_TOPO
lib_LTLIBRARIES += libhakmem-topo.la
libhakmem_topo_la_SOURCES = \
	%D%/draft.c \
	%D%/draft.h \
	%D%/from_hwloc.c \
	%D%/from_sysfs.c \
	%D%/ring.c \
	%D%/topo.c \
	%D%/topo.h
libhakmem_topo_la_CFLAGS = $(AM_CFLAGS) $(HWLOC_CFLAGS) $(LIBNUMA_CFLAGS) $(LIBURING_CFLAGS)
libhakmem_topo_la_LIBADD = $(HWLOC_LIBS) $(LIBNUMA_LIBS) $(LIBURING_LIBS)
# All symbols at load: an older liburing than the one built with makes dlopen fail, not a call.
libhakmem_topo_la_LDFLAGS = -avoid-version -no-undefined -shared \
	-Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete -Wl,--version-script=$(top_srcdir)/%D%/topo.map
EXTRA_libhakmem_topo_la_DEPENDENCIES = %D%/topo.map
endif
