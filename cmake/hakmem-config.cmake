# SPDX-License-Identifier: MIT
# find_package(hakmem) gives the targets hakmem::hakmem (shared) and, where it is installed,
# hakmem::static. Linking either replaces malloc in the whole program.
if(NOT TARGET hakmem::hakmem)
  get_filename_component(_hakmem_lib "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
  # LIBDIR is PREFIX/lib or PREFIX/lib/TRIPLET
  find_path(hakmem_INCLUDE_DIR hakmem/hakmem.h
    HINTS "${_hakmem_lib}/../include" "${_hakmem_lib}/../../include" NO_CACHE)
  find_package(Threads REQUIRED)

  add_library(hakmem::hakmem SHARED IMPORTED)
  set_target_properties(hakmem::hakmem PROPERTIES
    IMPORTED_LOCATION "${_hakmem_lib}/libhakmem.so.0"
    IMPORTED_SONAME libhakmem.so.0
    INTERFACE_INCLUDE_DIRECTORIES "${hakmem_INCLUDE_DIR}")

  if(EXISTS "${_hakmem_lib}/libhakmem.a")
    add_library(hakmem::static STATIC IMPORTED)
    set_target_properties(hakmem::static PROPERTIES
      IMPORTED_LOCATION "${_hakmem_lib}/libhakmem.a"
      INTERFACE_INCLUDE_DIRECTORIES "${hakmem_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS}")
  endif()
  unset(_hakmem_lib)
endif()
