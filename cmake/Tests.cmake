# ollamatrace_test(NAME SOURCES... [LIBRARIES ...]): one GoogleTest program is one ctest test, run in a folder of its own.
if(OLLAMATRACE_TESTS)
  enable_testing()
  find_package(GTest REQUIRED)
endif()

function(ollamatrace_test name)
  if(NOT OLLAMATRACE_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES} ollamatrace_options ollamatrace_sanitize
    GTest::gmock GTest::gtest GTest::gtest_main Threads::Threads)
  set(folder "${CMAKE_BINARY_DIR}/test-tmp/${name}")
  file(MAKE_DIRECTORY "${folder}")
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${folder}")
  # testing::TempDir() answers TEST_TMPDIR: tests that run side by side never share a folder.
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "TEST_TMPDIR=${folder}")
endfunction()
