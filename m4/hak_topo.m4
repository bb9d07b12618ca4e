dnl SPDX-License-Identifier: MIT
dnl HAK_TOPO_LIBRARY(NAME, MODULE, MACRO): an optional library of libhakmem-topo.
AC_DEFUN([HAK_TOPO_LIBRARY], [
  AC_ARG_WITH([$1], [AS_HELP_STRING([--without-$1], [build without $1])], [], [with_$1=auto])
  hak_have=0
  hak_$1_report=no
  AS_IF([test "x$with_$1" != xno],
    [PKG_CHECK_MODULES([$3], [$2],
      [hak_have=1; hak_$1_report="yes ($($PKG_CONFIG --modversion $2))"],
      [AS_IF([test "x$with_$1" = xyes], [AC_MSG_ERROR([$1 was asked for but not found])])])])
  AC_DEFINE_UNQUOTED([HAVE_$3], [$hak_have], [1: $1 is there])
  AS_IF([test $hak_have = 1], [hak_topo=yes])
])
AC_DEFUN([HAK_TOPO_LIBRARIES], [
  hak_topo=no
  HAK_TOPO_LIBRARY([hwloc], [hwloc], [HWLOC])
  HAK_TOPO_LIBRARY([libnuma], [numa], [LIBNUMA])
  HAK_TOPO_LIBRARY([liburing], [liburing], [LIBURING])
  AM_CONDITIONAL([BUILD_TOPO], [test "x$hak_topo" = xyes && test -f "$srcdir/src/topo/topo.c"])
])
