// Go's function table, with the funcdata that its inline trees lie in: the first two bytes are the
// funcdata's length, then it, then the table.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "analyzer/symbolize/gopclntab.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ollamatrace;
  if (size < 2) return 0;
  ByteSpan rest(data + 2, size - 2);
  const size_t funcdata_size = std::min<size_t>(data[0] | data[1] << 8, rest.size());
  const ByteSpan funcdata = rest.subspan(0, funcdata_size);
  auto table = GoPclntab::Parse(rest.subspan(funcdata_size));
  if (!table.ok()) return 0;
  if (table->function_count() > size) abort();  // More functions than bytes: believed, not checked.
  table->set_funcdata(funcdata);
  table->ScoreFuncdata(64);
  if (table->needs_text_start()) table->set_text_start(0x400000);
  const uint64_t begin = table->begin_address();
  for (uint64_t offset = 0; offset < 512; ++offset) {
    for (const GoFrame& frame : table->Find(begin + offset)) {
      if (frame.function.size() > size || frame.file.size() > size) abort();
    }
  }
  table->Find(table->end_address() - 1);
  return 0;
}
