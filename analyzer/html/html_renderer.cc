#include "analyzer/html/html_renderer.h"

#include <zlib.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "analyzer/html/page.h"

namespace ollamatrace {
namespace {

constexpr absl::string_view kPlace = "<!--ollamatrace:data-->";

// Compresses what it is given and writes it as base64, which cannot end a script element.
class GzipBase64 {
 public:
  explicit GzipBase64(const OutputSink& sink) : sink_(sink) {
    constexpr int kGzip = 16;  // added to the window's bits: a gzip header, not zlib's
    deflateInit2(&stream_, 6, Z_DEFLATED, MAX_WBITS + kGzip, 8, Z_DEFAULT_STRATEGY);
  }
  ~GzipBase64() { deflateEnd(&stream_); }
  GzipBase64(const GzipBase64&) = delete;
  GzipBase64& operator=(const GzipBase64&) = delete;

  void Write(absl::string_view text) {
    text_.append(text.data(), text.size());
    if (text_.size() >= kPiece) Compress(Z_NO_FLUSH);
  }

  void Finish() {
    Compress(Z_FINISH);
    sink_(absl::Base64Escape(packed_));
    packed_.clear();
  }

 private:
  static constexpr size_t kPiece = 1 << 16;

  void Compress(int flush) {
    stream_.next_in = reinterpret_cast<Bytef*>(text_.data());
    stream_.avail_in = static_cast<uInt>(text_.size());
    do {
      char room[kPiece];
      stream_.next_out = reinterpret_cast<Bytef*>(room);
      stream_.avail_out = sizeof(room);
      deflate(&stream_, flush);
      packed_.append(room, sizeof(room) - stream_.avail_out);
    } while (stream_.avail_out == 0);
    text_.clear();
    // Three bytes become four characters: only whole threes can be written before the end.
    const size_t whole = packed_.size() / 3 * 3;
    sink_(absl::Base64Escape(absl::string_view(packed_).substr(0, whole)));
    packed_.erase(0, whole);
  }

  const OutputSink& sink_;
  z_stream stream_ = {};
  std::string text_;
  std::string packed_;
};

void WriteData(absl::string_view id, const OutputSink& sink,
               const std::function<void(const OutputSink&)>& write) {
  sink(absl::StrCat("<script type=\"application/gzip\" id=\"", id, "\">"));
  GzipBase64 packed(sink);
  write([&](absl::string_view text) { packed.Write(text); });
  packed.Finish();
  sink("</script>\n");
}

}  // namespace

absl::Status RenderHtml(const Report& report, const ReportDiff* diff, const OutputSink& sink) {
  const absl::string_view page = Page();
  const size_t place = page.find(kPlace);
  if (place == absl::string_view::npos) {
    return absl::UnimplementedError(
        "built without the page: npm was not there; install nodejs and npm, and build again");
  }
  sink(page.substr(0, place));
  WriteData("report-data", sink,
            [&](const OutputSink& to) { RenderJson(report, to, JsonStacks::kIndices); });
  if (diff != nullptr) {
    WriteData("diff-data", sink,
              [&](const OutputSink& to) { RenderDiffJson(*diff, /*top=*/2000, to); });
  }
  sink(page.substr(place + kPlace.size()));
  return absl::OkStatus();
}

}  // namespace ollamatrace
