#include "analyzer/report/compressed_sink.h"

#include <zlib.h>
#include <zstd.h>

#include <string>

namespace ollamatrace {

namespace {

constexpr size_t kPiece = size_t{1} << 16;

}  // namespace

// Gathers what it is given into pieces worth compressing.
class CompressedSink::Stream {
 public:
  explicit Stream(const OutputSink& sink) : sink_(sink) {}
  virtual ~Stream() = default;
  void Write(absl::string_view text) {
    text_.append(text.data(), text.size());
    if (text_.size() >= kPiece) Flush(/*last=*/false);
  }
  void Flush(bool last) {
    Compress(text_, last);
    text_.clear();
  }

 protected:
  virtual void Compress(const std::string& text, bool last) = 0;
  void Emit(const char* bytes, size_t size) {
    if (size > 0) sink_(absl::string_view(bytes, size));
  }

 private:
  const OutputSink& sink_;
  std::string text_;
};

class CompressedSink::Gzip : public Stream {
 public:
  explicit Gzip(const OutputSink& sink) : Stream(sink) {
    constexpr int kGzipHeader = 16;  // added to the window's bits: not zlib's header
    deflateInit2(&stream_, 6, Z_DEFLATED, MAX_WBITS + kGzipHeader, 8, Z_DEFAULT_STRATEGY);
  }
  ~Gzip() override { deflateEnd(&stream_); }

 private:
  void Compress(const std::string& text, bool last) override {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream_.avail_in = static_cast<uInt>(text.size());
    do {
      char room[kPiece];
      stream_.next_out = reinterpret_cast<Bytef*>(room);
      stream_.avail_out = sizeof(room);
      deflate(&stream_, last ? Z_FINISH : Z_NO_FLUSH);
      Emit(room, sizeof(room) - stream_.avail_out);
    } while (stream_.avail_out == 0);
  }

  z_stream stream_ = {};
};

class CompressedSink::Zstd : public Stream {
 public:
  explicit Zstd(const OutputSink& sink) : Stream(sink), context_(ZSTD_createCCtx()) {}
  ~Zstd() override { ZSTD_freeCCtx(context_); }

 private:
  void Compress(const std::string& text, bool last) override {
    ZSTD_inBuffer in = {text.data(), text.size(), 0};
    size_t left = 0;
    do {
      char room[kPiece];
      ZSTD_outBuffer out = {room, sizeof(room), 0};
      left = ZSTD_compressStream2(context_, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left) != 0) return;  // not with sane parameters and memory
      Emit(room, out.pos);
    } while (last ? left != 0 : in.pos < in.size);
  }

  ZSTD_CCtx* const context_;
};

CompressedSink::CompressedSink(Compression compression, const OutputSink& sink) {
  if (compression == Compression::kGzip) {
    stream_ = std::make_unique<Gzip>(sink);
  } else {
    stream_ = std::make_unique<Zstd>(sink);
  }
}

CompressedSink::~CompressedSink() = default;

void CompressedSink::Write(absl::string_view text) { stream_->Write(text); }

void CompressedSink::Finish() { stream_->Flush(/*last=*/true); }

}  // namespace ollamatrace
