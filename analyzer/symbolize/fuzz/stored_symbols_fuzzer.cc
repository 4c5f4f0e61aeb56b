// Stored names lie in a cache or come with somebody's trace: whatever is in the zstd frame, there
// are frames or there is an error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "analyzer/symbolize/stored_symbols.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ollamatrace;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  if (StoredSymbols::Decode(bytes).ok()) return 0;
  const auto stored = StoredSymbols::DecodeUnpacked(bytes);
  if (!stored.ok()) return 0;
  SymbolAnswers answers;
  (*stored)->AddTo(answers);
  const auto again = StoredSymbols::Decode(EncodeStoredSymbols((*stored)->head(), answers));
  for (const auto& [address, frames] : answers) {
    const auto found = again.ok() ? (*again)->Find(address) : std::nullopt;
    if (!found || found->size() != frames.size()) __builtin_trap();
  }
  return 0;
}
