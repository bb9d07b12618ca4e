dnl SPDX-License-Identifier: MIT
dnl HAK_WARNINGS: WARN_CFLAGS gets each warning that this compiler knows.
AC_DEFUN([HAK_WARNINGS], [
  WARN_CFLAGS=
  for hak_flag in -Wall -Wextra -Wundef -Wshadow -Wvla -Wstrict-prototypes \
                  -Wmissing-prototypes -Wpointer-arith -Wno-gnu-designator; do
    AC_MSG_CHECKING([whether $CC knows $hak_flag])
    hak_save=$CFLAGS
    dnl a compiler may accept an unknown -Wno- in silence: ask for the positive form
    CFLAGS="$CFLAGS -Werror $(echo "$hak_flag" | sed 's/^-Wno-/-W/')"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
      [AC_MSG_RESULT([yes]); WARN_CFLAGS="$WARN_CFLAGS $hak_flag"], [AC_MSG_RESULT([no])])
    CFLAGS=$hak_save
  done
  AS_IF([test "x$enable_werror" = xyes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
  AC_SUBST([WARN_CFLAGS])
])
