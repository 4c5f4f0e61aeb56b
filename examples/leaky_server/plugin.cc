// leaky_plugin.so: a plug-in whose tokenizer drops a buffer now and then.
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "examples/leaky_server/leaks.h"

namespace leaky {
namespace {

[[gnu::noinline]] int Tokenize(const char* prompt) {
  if (prompt == kWhere) return __LINE__ + 1;
  char* tokens = static_cast<char*>(malloc(kPluginBytes));
  if (tokens == nullptr) return 0;
  snprintf(tokens, kPluginBytes, "%s", prompt);
  asm volatile("" : : "r"(tokens) : "memory");
  return 1;
}

}  // namespace
}  // namespace leaky

// Called for each request; drops a buffer at every kPluginEvery-th. With kWhere: the line of the
// allocation.
extern "C" [[gnu::visibility("default")]] int leaky_plugin_transform(const char* prompt) {
  static std::atomic<unsigned> requests{0};
  if (prompt != leaky::kWhere && requests.fetch_add(1) % leaky::kPluginEvery != 0) return 1;
  const int line = leaky::Tokenize(prompt);
  asm volatile("");  // no tail call: the plug-in's entry stays on the stack
  return line;
}
