# The unwinder, as objects of libollamatrace.so and of its tests. Included by preload/CMakeLists.txt.
#
# UNWINDER_SOURCES is what libollamatrace.so compiles in; unwinder_test links ollamatrace_unwinder.
set(UNWINDER_SOURCES)
