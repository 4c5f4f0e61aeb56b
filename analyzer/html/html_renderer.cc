#include "analyzer/html/html_renderer.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "analyzer/html/page.h"
#include "analyzer/report/compressed_sink.h"

namespace ollamatrace {
namespace {

constexpr absl::string_view kPlace = "<!--ollamatrace:data-->";

// Writes base64, which cannot end a script element.
class Base64Sink {
 public:
  explicit Base64Sink(const OutputSink& sink) : sink_(sink) {}
  // Three bytes become four characters: only whole threes can be written before the end.
  void Write(absl::string_view bytes) {
    bytes_.append(bytes.data(), bytes.size());
    const size_t whole = bytes_.size() / 3 * 3;
    sink_(absl::Base64Escape(absl::string_view(bytes_).substr(0, whole)));
    bytes_.erase(0, whole);
  }
  void Finish() { sink_(absl::Base64Escape(bytes_)); }

 private:
  const OutputSink& sink_;
  std::string bytes_;
};

void WriteData(absl::string_view id, const OutputSink& sink,
               const std::function<void(const OutputSink&)>& write) {
  sink(absl::StrCat("<script type=\"application/gzip\" id=\"", id, "\">"));
  Base64Sink base64(sink);
  const OutputSink to_base64 = [&](absl::string_view bytes) { base64.Write(bytes); };
  CompressedSink packed(Compression::kGzip, to_base64);
  write([&](absl::string_view text) { packed.Write(text); });
  packed.Finish();
  base64.Finish();
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
