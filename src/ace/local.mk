# SPDX-License-Identifier: MIT
# Pure: the command replays the learner's log with them.
ace_pure = \
	%D%/bandit.c %D%/bandit.h \
	%D%/share.c %D%/share.h \
	%D%/decide.c %D%/decide.h \
	%D%/walk.c %D%/walk.h
libhakmem_core_la_SOURCES += $(ace_pure) \
	%D%/ace.c %D%/ace.h \
	%D%/health.c %D%/health.h \
	%D%/prewarm.c %D%/prewarm.h \
	%D%/learn.c %D%/learn.h \
	%D%/log.c %D%/log.h
