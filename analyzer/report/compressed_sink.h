// Output that is compressed on its way.
#ifndef OLLAMATRACE_ANALYZER_REPORT_COMPRESSED_SINK_H_
#define OLLAMATRACE_ANALYZER_REPORT_COMPRESSED_SINK_H_

#include <memory>

#include "absl/strings/string_view.h"
#include "analyzer/report/renderers.h"

namespace ollamatrace {

enum class Compression { kGzip, kZstd };

// Thread-compatible. `sink` has to outlive it and gets pieces of any length.
class CompressedSink {
 public:
  CompressedSink(Compression compression, const OutputSink& sink);
  ~CompressedSink();
  CompressedSink(const CompressedSink&) = delete;
  CompressedSink& operator=(const CompressedSink&) = delete;

  void Write(absl::string_view text);
  // What is left. Call once, last.
  void Finish();

 private:
  class Stream;
  class Gzip;
  class Zstd;
  std::unique_ptr<Stream> stream_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_COMPRESSED_SINK_H_
