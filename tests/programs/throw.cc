// C++ exceptions: their memory comes from malloc, and they unwind over frames that have just been
// recorded.
#include <pthread.h>

#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepAndThrow(int depth) {
  std::string local(100, 'x');
  Opaque(local.data());
  if (depth == 0) {
    Opaque(malloc(33));
    throw std::runtime_error(std::string(80, 'e'));
  }
  KeepAndThrow(depth - 1);
  Opaque(local.data());
}

namespace {

int ThrowRounds(int rounds) {
  int caught = 0;
  for (int i = 0; i < rounds; ++i) {
    try {
      KeepAndThrow(i % 40);
    } catch (const std::runtime_error& error) {
      caught += strlen(error.what()) == 80;
    }
  }
  return caught;
}

int Nested() {
  try {
    try {
      throw std::out_of_range("inner");
    } catch (...) {
      std::throw_with_nested(std::logic_error("outer"));
    }
  } catch (const std::logic_error& outer) {
    try {
      std::rethrow_if_nested(outer);
    } catch (const std::out_of_range&) {
      return 1;
    }
  }
  return 0;
}

void NewHandler() { throw std::runtime_error("from the new handler"); }

// pthread_exit unwinds by force over frames with destructors.
void* ExitByUnwinding(void* destroyed) {
  struct Guard {
    ~Guard() {
      free(block);
      *flag = true;
    }
    bool* flag;
    void* block;
  } guard{static_cast<bool*>(destroyed), Opaque(malloc(10))};
  pthread_exit(nullptr);
}

void* Cancelled(void*) {
  std::unique_ptr<std::string> held = std::make_unique<std::string>(500, 'c');
  for (;;) {
    Opaque(held.get())->append("more");
    if (held->size() > 5000) held = std::make_unique<std::string>(500, 'c');
    pthread_testcancel();
  }
}

}  // namespace

int main() {
  printf("caught %d\n", ThrowRounds(500));
  int caught[4] = {};
  std::vector<std::thread> threads;
  for (int& count : caught) threads.emplace_back([&count] { count = ThrowRounds(250); });
  for (std::thread& thread : threads) thread.join();
  for (int count : caught) printf("a thread caught %d\n", count);
  printf("nested %d\n", Nested());

  volatile size_t huge = ~size_t{0} / 4;
  int bad = 0;
  try {
    Opaque(static_cast<char*>(::operator new(huge)));
  } catch (const std::bad_alloc&) {
    ++bad;
  }
  std::set_new_handler(NewHandler);
  try {
    Opaque(static_cast<char*>(::operator new(huge)));
  } catch (const std::runtime_error&) {
    ++bad;
  }
  std::set_new_handler(nullptr);
  printf("bad %d\n", bad);

  std::exception_ptr carried;
  std::thread([&carried] {
    try {
      KeepAndThrow(3);
    } catch (...) {
      carried = std::current_exception();
    }
  }).join();
  try {
    std::rethrow_exception(carried);
  } catch (const std::runtime_error&) {
    puts("carried");
  }
  carried = nullptr;

  bool destroyed = false;
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, ExitByUnwinding, &destroyed) == 0);
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0 && destroyed);
  for (int i = 0; i < 20; ++i) {
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Cancelled, nullptr) == 0);
    usleep(200);
    void* result = nullptr;
    PROGRAM_CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
    PROGRAM_CHECK(result == PTHREAD_CANCELED);
  }
  ExpectSurvivors("KeepAndThrow", 1501, 1501 * 33);
  return 0;
}
