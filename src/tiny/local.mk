# SPDX-License-Identifier: MIT
libhakmem_core_la_SOURCES += %D%/classes.def
