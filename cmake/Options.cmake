# Warnings, sanitizers and the packages that every part may use.
#
# Link `ollamatrace_options` (PRIVATE) into each target of the project.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

add_library(ollamatrace_options INTERFACE)
target_include_directories(ollamatrace_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(ollamatrace_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers)
if(OLLAMATRACE_WERROR)
  target_compile_options(ollamatrace_options INTERFACE -Werror)
endif()
if(OLLAMATRACE_SANITIZE)
  # Never part of libollamatrace.so itself: it lives inside programs that have their own runtime.
  add_library(ollamatrace_sanitize INTERFACE)
  target_compile_options(ollamatrace_sanitize INTERFACE
    -fsanitize=${OLLAMATRACE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  if(OLLAMATRACE_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC says of each fence that TSan does not see it: it may then report too much, never too little.
    target_compile_options(ollamatrace_sanitize INTERFACE -Wno-tsan)
  endif()
  target_link_options(ollamatrace_sanitize INTERFACE -fsanitize=${OLLAMATRACE_SANITIZE})
else()
  add_library(ollamatrace_sanitize INTERFACE)
endif()

# libzstd.a on Debian and Ubuntu is position independent: the injected library links it whole.
find_path(ZSTD_INCLUDE_DIR zstd.h REQUIRED)
find_library(ZSTD_STATIC_LIBRARY NAMES libzstd.a REQUIRED)
add_library(ollamatrace_zstd INTERFACE)
target_include_directories(ollamatrace_zstd SYSTEM INTERFACE "${ZSTD_INCLUDE_DIR}")
target_link_libraries(ollamatrace_zstd INTERFACE "${ZSTD_STATIC_LIBRARY}")
