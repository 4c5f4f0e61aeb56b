// A module with thread-local data and nothing else: see valgrind_test.py.
namespace {
__attribute__((used)) thread_local int stand_in = 1;
}
