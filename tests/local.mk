# SPDX-License-Identifier: MIT
# A unit test is one line in unit_tests: tests/test_NAME.c, linked with the core and Check.
LDADD = libhakmem_core.la $(CHECK_LIBS) -lpthread -ldl

unit_tests =

if HAVE_CHECK
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
AM_CFLAGS += $(CHECK_CFLAGS)

# Scripts test the shipped shape: each gets the library as its argument.
script_tests = %D%/exports.sh %D%/needed.sh
TESTS += $(script_tests)
dist_check_SCRIPTS += $(script_tests)
EXTRA_DIST += %D%/exports.txt %D%/instructions.sh %D%/instructions.txt %D%/fastpath.sh %D%/pair.c

TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = $(SHELL) $(srcdir)/%D%/with-library
EXTRA_DIST += %D%/with-library
AM_TESTS_ENVIRONMENT = HAK_LIBRARY='$(abs_builddir)/.libs/libhakmem.so'; export HAK_LIBRARY;
