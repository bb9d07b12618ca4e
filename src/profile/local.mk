# SPDX-License-Identifier: MIT
# libhakmem-profile.so, to be preloaded and never linked: the same core and entry points with the heap profile around them.
lib_LTLIBRARIES += libhakmem-profile.la
libhakmem_profile_la_SOURCES = $(entry_points) \
	%D%/entries.h %D%/profile.c %D%/profile.h
libhakmem_profile_la_CFLAGS = $(AM_CFLAGS) -include $(srcdir)/%D%/entries.h
libhakmem_profile_la_LIBADD = libhakmem_core.la -lm
libhakmem_profile_la_LDFLAGS = -avoid-version -no-undefined -shared \
	-Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete -Wl,--version-script=$(top_srcdir)/hakmem.map
EXTRA_libhakmem_profile_la_DEPENDENCIES = hakmem.map
