dnl SPDX-License-Identifier: MIT
dnl HAK_TOOLS: the command hakmem needs jansson for its JSON.
AC_DEFUN([HAK_TOOLS], [
  AC_ARG_ENABLE([tools], [AS_HELP_STRING([--disable-tools], [do not build the command hakmem])],
    [], [enable_tools=auto])
  hak_tools=no
  hak_tools_report="no (not asked for)"
  AS_IF([test "x$enable_tools" != xno],
    [PKG_CHECK_MODULES([JANSSON], [jansson >= 2.10],
      [hak_tools=yes; hak_tools_report="yes (jansson $($PKG_CONFIG --modversion jansson))"],
      [hak_tools_report="no (jansson was not found)"
       AS_IF([test "x$enable_tools" = xyes], [AC_MSG_ERROR([--enable-tools needs jansson])])])])
  AM_CONDITIONAL([BUILD_TOOLS], [test "x$hak_tools" = xyes])
])
