#include "analyzer/symbolize/mini_debug_info.h"

#include <algorithm>

#ifdef OLLAMATRACE_HAVE_LZMA
#include <lzma.h>
#endif

namespace ollamatrace {

#ifdef OLLAMATRACE_HAVE_LZMA

std::vector<uint8_t> ReadMiniDebugInfo(const ElfFile& file) {
  constexpr size_t kMaxSize = 64 << 20;
  constexpr uint64_t kMaxDecoderMemory = 128 << 20;
  const ElfSection* section = file.FindSection(".gnu_debugdata");
  if (section == nullptr) return {};
  const ByteSpan input = file.Contents(*section);
  if (input.empty()) return {};

  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_decoder(&stream, kMaxDecoderMemory, 0) != LZMA_OK) return {};
  std::vector<uint8_t> output;
  stream.next_in = input.data();
  stream.avail_in = input.size();
  lzma_ret result = LZMA_OK;
  // Grown as the data proves to be there: a short section claims no memory.
  while (result == LZMA_OK && output.size() < kMaxSize) {
    const size_t done = output.size();
    output.resize(std::min(kMaxSize, std::max<size_t>(64 << 10, done * 2)));
    stream.next_out = output.data() + done;
    stream.avail_out = output.size() - done;
    while (result == LZMA_OK && stream.avail_out != 0) result = lzma_code(&stream, LZMA_FINISH);
    output.resize(output.size() - stream.avail_out);
  }
  lzma_end(&stream);
  if (result != LZMA_STREAM_END) return {};
  return output;
}

#else

std::vector<uint8_t> ReadMiniDebugInfo(const ElfFile&) { return {}; }

#endif

}  // namespace ollamatrace
