# SPDX-License-Identifier: MIT
libhakmem_core_la_SOURCES += %D%/sys.c %D%/sys.h
