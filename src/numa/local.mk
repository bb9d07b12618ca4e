# SPDX-License-Identifier: MIT
libhakmem_core_la_SOURCES += \
	%D%/arena.c %D%/arena.h \
	%D%/node.c %D%/node.h \
	%D%/pool.c \
	%D%/huge.c %D%/huge.h \
	%D%/own.c %D%/own.h \
	%D%/engine.c %D%/engine.h \
	%D%/topology.c %D%/topology.h
