#include "analyzer/symbolize/stored_symbols.h"

#include <sys/stat.h>
#include <zstd.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "formats/varint.h"

namespace ollamatrace {
namespace {

constexpr int kCompressionLevel = 3;

absl::Status Damaged() { return absl::InvalidArgumentError("damaged, or no stored symbols"); }

class Writer {
 public:
  void Number(uint64_t value) {
    uint8_t buffer[kMaxVarintBytes];
    const uint8_t* const end = PutVarint(buffer, value);
    bytes_.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(end - buffer));
  }
  void Text(std::string_view text) {
    Number(text.size());
    bytes_.append(text);
  }
  void File(const UsedFile& file) {
    Text(file.path);
    Number(file.size);
    Number(file.mtime_ns);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// After the first thing that is wrong everything is 0 or empty, and good() says so.
class Reader {
 public:
  explicit Reader(std::string_view bytes)
      : at_(reinterpret_cast<const uint8_t*>(bytes.data())), end_(at_ + bytes.size()) {}

  bool good() const { return good_; }
  bool done() const { return at_ == end_; }

  uint64_t Number() {
    uint64_t value = 0;
    if (good_ && !GetVarint(&at_, end_, &value)) good_ = false;
    return good_ ? value : 0;
  }
  // Each of so many things takes `least` bytes or more: no number makes memory without bound.
  size_t Count(size_t least) {
    const uint64_t count = Number();
    if (count > static_cast<uint64_t>(end_ - at_) / least) good_ = false;
    return good_ ? static_cast<size_t>(count) : 0;
  }
  std::string_view Text() {
    const size_t size = Count(1);
    const auto* const begin = reinterpret_cast<const char*>(at_);
    at_ += size;
    return {begin, size};
  }
  UsedFile File() {
    UsedFile file;
    file.path = Text();
    file.size = Number();
    file.mtime_ns = Number();
    return file;
  }

 private:
  const uint8_t* at_;
  const uint8_t* const end_;
  bool good_ = true;
};

}  // namespace

UsedFile UsedFile::At(const std::string& path) {
  struct stat found;
  if (path.empty() || stat(path.c_str(), &found) != 0) return {};
  return {path, static_cast<uint64_t>(found.st_size),
          static_cast<uint64_t>(found.st_mtim.tv_sec) * 1'000'000'000 +
              static_cast<uint64_t>(found.st_mtim.tv_nsec)};
}

SymbolSources SymbolSources::Of(const ModuleStatus& status) {
  return {status.has_dwarf, status.has_gopclntab, status.has_symtab, status.has_dynsym};
}

std::string EncodeStoredSymbols(const StoredSymbolsHead& head, const SymbolAnswers& answers) {
  std::vector<std::string_view> texts;
  std::unordered_map<std::string_view, uint64_t> ids;
  const auto id = [&](std::string_view text) {
    const auto [it, added] = ids.try_emplace(text, texts.size());
    if (added) texts.push_back(text);
    return it->second;
  };
  Writer rows;
  rows.Number(answers.size());
  uint64_t before = 0;
  for (const auto& [address, frames] : answers) {
    rows.Number(address - std::exchange(before, address));
    rows.Number(frames.size());
    for (const Frame& frame : frames) {
      rows.Number(id(frame.function));
      rows.Number(id(frame.file));
      rows.Number(uint64_t{frame.line} * 2 + (frame.inlined ? 1 : 0));
    }
  }

  Writer out;
  out.Number(kStoredSymbolsVersion);
  out.Text(head.module.build_id);
  out.Text(head.module.path);
  const SymbolSources& from = head.sources;
  out.Number((from.dwarf ? 1u : 0u) | (from.gopclntab ? 2u : 0u) | (from.symtab ? 4u : 0u) |
             (from.dynsym ? 8u : 0u));
  out.File(head.file);
  out.File(head.debug_file);
  out.Number(texts.size());
  for (const std::string_view text : texts) out.Text(text);
  const std::string unpacked = out.bytes() + rows.bytes();

  std::string bytes(kStoredSymbolsMagic);
  bytes.resize(bytes.size() + ZSTD_compressBound(unpacked.size()));
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     &ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kCompressionLevel);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  const size_t packed =
      ZSTD_compress2(context.get(), bytes.data() + kStoredSymbolsMagic.size(),
                     bytes.size() - kStoredSymbolsMagic.size(), unpacked.data(), unpacked.size());
  bytes.resize(kStoredSymbolsMagic.size() + (ZSTD_isError(packed) != 0 ? 0 : packed));
  return bytes;
}

absl::StatusOr<std::unique_ptr<StoredSymbols>> StoredSymbols::Decode(std::string_view bytes) {
  if (!bytes.starts_with(kStoredSymbolsMagic)) return Damaged();
  bytes.remove_prefix(kStoredSymbolsMagic.size());
  const unsigned long long size = ZSTD_getFrameContentSize(bytes.data(), bytes.size());
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR ||
      size > kMaxStoredSymbolsBytes) {
    return Damaged();
  }
  std::string unpacked(static_cast<size_t>(size), '\0');
  const size_t got = ZSTD_decompress(unpacked.data(), unpacked.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(got) != 0 || got != unpacked.size()) return Damaged();
  return DecodeUnpacked(std::move(unpacked));
}

absl::StatusOr<std::unique_ptr<StoredSymbols>> StoredSymbols::DecodeUnpacked(std::string unpacked) {
  std::unique_ptr<StoredSymbols> made(new StoredSymbols);
  made->unpacked_ = std::move(unpacked);
  Reader in(made->unpacked_);
  const uint64_t version = in.Number();
  if (in.good() && version != kStoredSymbolsVersion) {
    return absl::InvalidArgumentError(absl::StrCat("of version ", version));
  }
  StoredSymbolsHead& head = made->head_;
  head.module.build_id = in.Text();
  head.module.path = in.Text();
  const uint64_t from = in.Number();
  head.sources = {(from & 1) != 0, (from & 2) != 0, (from & 4) != 0, (from & 8) != 0};
  head.file = in.File();
  head.debug_file = in.File();

  std::vector<std::string_view> texts(in.Count(1));
  for (std::string_view& text : texts) text = in.Text();
  made->answers_.resize(in.Count(2));
  uint64_t address = 0;
  for (Answer& answer : made->answers_) {
    const uint64_t step = in.Number();
    if (step == 0 && &answer != made->answers_.data()) return Damaged();
    if (address + step < address) return Damaged();
    address += step;
    answer = {address, made->frames_.size(), in.Count(3)};
    for (size_t i = 0; i < answer.count; ++i) {
      const uint64_t function = in.Number();
      const uint64_t file = in.Number();
      const uint64_t line = in.Number();
      if (function >= texts.size() || file >= texts.size() || line >> 33 != 0) return Damaged();
      made->frames_.push_back(
          {texts[function], texts[file], static_cast<uint32_t>(line >> 1), (line & 1) != 0});
    }
    if (!in.good()) return Damaged();
  }
  if (!in.good() || !in.done()) return Damaged();
  return made;
}

std::optional<absl::Span<const Frame>> StoredSymbols::Find(uint64_t address) const {
  const auto it = std::lower_bound(
      answers_.begin(), answers_.end(), address,
      [](const Answer& answer, uint64_t wanted) { return answer.address < wanted; });
  if (it == answers_.end() || it->address != address) return std::nullopt;
  return FramesOf(*it);
}

void StoredSymbols::AddTo(SymbolAnswers& answers) const {
  for (const Answer& answer : answers_) answers.try_emplace(answer.address, FramesOf(answer));
}

}  // namespace ollamatrace
