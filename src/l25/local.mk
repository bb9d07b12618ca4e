# SPDX-License-Identifier: MIT
libhakmem_core_la_SOURCES += %D%/classes.def %D%/l25.c %D%/l25.h
