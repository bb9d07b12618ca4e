# SPDX-License-Identifier: MIT
# libhakmem-profile.so, to be preloaded and never linked: the same core, the profile, and the same entry points, which
# go through it. The profile itself does not: it calls the core.
noinst_LTLIBRARIES += libhakmem_samples.la
libhakmem_samples_la_SOURCES = %D%/profile.c %D%/profile.h %D%/stack.c %D%/stack.h \
	%D%/guarded.c %D%/guarded.h %D%/crash.c %D%/crash.h

lib_LTLIBRARIES += libhakmem-profile.la
libhakmem_profile_la_SOURCES = $(entry_points) %D%/entries.h
libhakmem_profile_la_CFLAGS = $(AM_CFLAGS) -include $(srcdir)/%D%/entries.h
libhakmem_profile_la_LIBADD = libhakmem_samples.la libhakmem_core.la -lm
libhakmem_profile_la_LDFLAGS = -avoid-version -no-undefined -shared \
	-Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete -Wl,--version-script=$(top_srcdir)/hakmem.map
EXTRA_libhakmem_profile_la_DEPENDENCIES = hakmem.map
