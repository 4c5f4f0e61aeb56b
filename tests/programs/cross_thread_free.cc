// Each block is freed by another thread than the one that allocated it, some after their thread has
// ended.
#include <pthread.h>

#include <atomic>
#include <vector>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

namespace {

constexpr int kSlots = 256;
constexpr int kRounds = 30000;
std::atomic<void*> slots[kSlots];

}  // namespace

PROGRAM_KEEPER void* PassedOn(size_t size) { return Opaque(malloc(size)); }
PROGRAM_KEEPER void* LeftBehind() { return Opaque(malloc(88)); }

namespace {

void* Work(void* argument) {
  auto random = static_cast<unsigned>(reinterpret_cast<size_t>(argument) * 2654435761u + 1);
  for (int i = 0; i < kRounds; ++i) {
    random = random * 1664525u + 1013904223u;
    free(slots[(random >> 8) % kSlots].exchange(PassedOn(16 + (random >> 20) % 200)));
  }
  auto* left = new std::vector<void*>;
  for (int i = 0; i < 100; ++i) left->push_back(LeftBehind());
  return left;
}

}  // namespace

int main() {
  pthread_t threads[6];
  for (size_t i = 0; i < 6; ++i) {
    PROGRAM_CHECK(pthread_create(&threads[i], nullptr, Work, reinterpret_cast<void*>(i)) == 0);
  }
  for (size_t i = 0; i < 6; ++i) {
    void* result = nullptr;
    PROGRAM_CHECK(pthread_join(threads[i], &result) == 0);
    auto* left = static_cast<std::vector<void*>*>(result);
    for (size_t k = 0; k + i < left->size(); ++k) free((*left)[k]);
    delete left;
  }
  for (std::atomic<void*>& slot : slots) free(slot.exchange(nullptr));
  ExpectSurvivors("PassedOn", 0, 0);
  ExpectSurvivors("LeftBehind", 0 + 1 + 2 + 3 + 4 + 5, 15 * 88);
  puts("done");
  return 0;
}
