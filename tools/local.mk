# SPDX-License-Identifier: MIT
# The command. It is built where jansson is, and links nothing of the library but the learner's pure part.
if BUILD_TOOLS
bin_PROGRAMS += %D%/hakmem
dist_man_MANS += man/hakmem.1
%C%_hakmem_SOURCES = \
	%D%/args.c \
	%D%/doctor.c \
	%D%/files.c \
	%D%/hakmem.c \
	%D%/kernel.c \
	%D%/leaks.c \
	%D%/options.c \
	%D%/process.c \
	%D%/replay.c \
	%D%/report.c \
	%D%/run.c \
	%D%/stat.c \
	%D%/symbolize.c \
	%D%/symbols.c \
	%D%/text.c \
	%D%/tool.h \
	%D%/topo.c \
	$(ace_pure) src/route.c
%C%_hakmem_CPPFLAGS = $(AM_CPPFLAGS) -DLIBDIR='"$(libdir)"'
%C%_hakmem_CFLAGS = $(WARN_CFLAGS) -std=gnu11 $(JANSSON_CFLAGS)
%C%_hakmem_LDADD = $(JANSSON_LIBS) -lm -ldl

completiondir = $(datadir)/bash-completion/completions
# bash-completion finds it by the command's name
install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(completiondir)'
	$(INSTALL_DATA) $(srcdir)/%D%/hakmem.bash '$(DESTDIR)$(completiondir)/hakmem'
uninstall-local:
	rm -f '$(DESTDIR)$(completiondir)/hakmem'
endif
EXTRA_DIST += %D%/hakmem.bash
dist_pkgdata_DATA = %D%/gdb.py
