// The names that were found in one module, as bytes of a file: so that they need not be found
// again, and are there when the module is not.
//
// Eight bytes kStoredSymbolsMagic, then one zstd frame with a checksum. In it varints, and texts as
// length and bytes: version, build-id, path, sources (bits as in SymbolSources, low to high), two
// UsedFiles (path, size, mtime), the number of texts and the texts, the number of addresses, and of
// each address the difference to the one before, the number of its frames and of each frame:
// function and file as numbers of texts, the line, twice, plus one when it is inlined.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_STORED_SYMBOLS_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_STORED_SYMBOLS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

inline constexpr std::string_view kStoredSymbolsMagic = "OTSYMS\r\n";
// Of what Lookup answers: raised when the same files give other names than before.
inline constexpr uint64_t kStoredSymbolsVersion = 1;
inline constexpr size_t kMaxStoredSymbolsBytes = size_t{256} << 20;  // unpacked

// A file that names came from, as it was then. An empty path: there was none.
struct UsedFile {
  std::string path;
  uint64_t size = 0;
  uint64_t mtime_ns = 0;

  // As it is now; an empty path when it is not there.
  static UsedFile At(const std::string& path);
  friend bool operator==(const UsedFile&, const UsedFile&) = default;
};

struct SymbolSources {
  bool dwarf = false;
  bool gopclntab = false;
  bool symtab = false;
  bool dynsym = false;

  static SymbolSources Of(const ModuleStatus& status);
  // How good the names are: 0 (none) to 4 (DWARF).
  int Rank() const { return dwarf ? 4 : gopclntab ? 3 : symtab ? 2 : dynsym ? 1 : 0; }
  friend bool operator==(const SymbolSources&, const SymbolSources&) = default;
};

// What the names are of, and from where.
struct StoredSymbolsHead {
  ModuleSpec module;
  SymbolSources sources;
  UsedFile file;        // the module's own
  UsedFile debug_file;  // the separate one

  // Whether both are of the same data: the path of a module may differ, as one build-id has many.
  bool SameData(const StoredSymbolsHead& other) const {
    return sources == other.sources && file == other.file && debug_file == other.debug_file;
  }
};

// Frames by the address as it was looked up (of a return address: one less); no frames: it was
// looked up, and nothing is known of it.
using SymbolAnswers = std::map<uint64_t, absl::Span<const Frame>>;

std::string EncodeStoredSymbols(const StoredSymbolsHead& head, const SymbolAnswers& answers);

// Immutable. Frames and texts live as long as the object.
class StoredSymbols {
 public:
  // InvalidArgument, in one line, for anything that EncodeStoredSymbols does not write.
  static absl::StatusOr<std::unique_ptr<StoredSymbols>> Decode(std::string_view bytes);
  // The same of what is in the zstd frame.
  static absl::StatusOr<std::unique_ptr<StoredSymbols>> DecodeUnpacked(std::string unpacked);

  const StoredSymbolsHead& head() const { return head_; }
  std::optional<absl::Span<const Frame>> Find(uint64_t address) const;
  void AddTo(SymbolAnswers& answers) const;  // what `answers` has already stays

 private:
  struct Answer {
    uint64_t address = 0;
    size_t first = 0;  // in frames_
    size_t count = 0;
  };

  StoredSymbols() = default;
  absl::Span<const Frame> FramesOf(const Answer& answer) const {
    return absl::MakeConstSpan(frames_).subspan(answer.first, answer.count);
  }

  StoredSymbolsHead head_;
  std::string unpacked_;  // the frames' texts are parts of it
  std::vector<Frame> frames_;
  std::vector<Answer> answers_;  // by address
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_STORED_SYMBOLS_H_
