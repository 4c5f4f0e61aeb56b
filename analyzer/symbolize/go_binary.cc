#include "analyzer/symbolize/go_binary.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "analyzer/symbolize/symbol_table.h"

namespace ollamatrace {
namespace {

using Relocations = std::vector<std::pair<uint64_t, uint64_t>>;

// Words of runtime.moduledata (src/runtime/symtab.go), counted in pointers: pcHeader, six slices,
// findfunctab, minpc, maxpc, text, etext, the bounds of the data sections, ...
constexpr uint64_t kMinPcWord = 20;
constexpr uint64_t kMaxPcWord = 21;
constexpr uint64_t kTextWord = 22;
// rodata and then gofunc follow the data sections; which word that is depends on the version
// (go1.20 added covctrs and ecovctrs). Candidates are told apart by what they point to.
constexpr uint64_t kFirstGofuncWord = 36;
constexpr uint64_t kLastGofuncWord = 44;

// Functions looked at to choose among the candidates for the funcdata's place.
constexpr int kFuncdataSamples = 64;

// Sections of one kind that are searched; Go's and the C linker's files have fewer. A bound,
// because in a damaged file they may overlap.
constexpr int kMaxSections = 32;

bool LooksLikeGo(const ElfFile& file) {
  for (const ElfSection& section : file.sections()) {
    if (section.name.starts_with(".go.") || section.name.starts_with(".note.go.") ||
        section.name == ".gosymtab" || section.name.ends_with(".gopclntab")) {
      return true;
    }
  }
  return false;
}

struct Location {
  uint64_t address = 0;
  ByteSpan bytes;
};

bool HasTableMagic(const uint8_t* at) {
  const bool magic = at[0] == 0xfb || at[0] == 0xfa || at[0] == 0xf0 || at[0] == 0xf1;
  return magic && at[1] == 0xff && at[2] == 0xff && at[3] == 0xff && at[4] == 0 && at[5] == 0 &&
         (at[6] == 1 || at[6] == 2 || at[6] == 4) && at[7] == 8;
}

// A copy of `bytes`, loaded at `address`, as the dynamic linker would leave them at load bias 0;
// empty when it changes nothing there.
std::vector<uint8_t> Relocated(ByteSpan bytes, uint64_t address, const Relocations& relocations) {
  std::vector<uint8_t> copy;
  auto it = std::lower_bound(relocations.begin(), relocations.end(), address,
                             [](const auto& r, uint64_t a) { return r.first < a; });
  for (; it != relocations.end() && it->first - address < bytes.size(); ++it) {
    const uint64_t at = it->first - address;
    if (bytes.size() - at < sizeof(uint64_t)) break;
    if (copy.empty()) copy.assign(bytes.begin(), bytes.end());
    std::memcpy(copy.data() + at, &it->second, sizeof(uint64_t));
  }
  return copy;
}

// The table by its section's name; else the largest one among those that the magic number leads to.
std::optional<Location> FindTable(const ElfFile& file) {
  for (const ElfSection& section : file.sections()) {
    if (!section.name.ends_with(".gopclntab")) continue;
    const ByteSpan contents = file.Contents(section);
    if (contents.size() >= 8 && HasTableMagic(contents.data())) {
      return Location{section.address, contents};
    }
  }
  std::optional<Location> best;
  uint64_t best_count = 0;
  int searched = 0;
  for (const ElfSection& section : file.sections()) {
    if (section.name != ".data.rel.ro" && section.name != ".rodata") continue;
    if (++searched > kMaxSections) break;
    const ByteSpan contents = file.Contents(section);
    for (size_t at = (8 - section.address % 8) % 8; at + 8 <= contents.size(); at += 8) {
      if (!HasTableMagic(contents.data() + at)) continue;
      const auto table = GoPclntab::Parse(contents.subspan(at));
      if (table.ok() && table->function_count() > best_count) {
        best = Location{section.address + at, contents.subspan(at)};
        best_count = table->function_count();
      }
    }
  }
  return best;
}

// The 64-bit word that stands at `address` in the running program, less the load bias.
std::optional<uint64_t> WordAt(const ElfFile& file, const Relocations& relocations,
                               uint64_t address) {
  const auto it = std::lower_bound(relocations.begin(), relocations.end(), address,
                                   [](const auto& r, uint64_t a) { return r.first < a; });
  if (it != relocations.end() && it->first == address) return it->second;
  const auto bytes = Slice(file.LoadedAt(address), 0, sizeof(uint64_t));
  if (!bytes) return std::nullopt;
  uint64_t value;
  std::memcpy(&value, bytes->data(), sizeof(value));
  return value;
}

// The addresses of what could be runtime.moduledata: where a pointer to the table stands in the
// data.
std::vector<uint64_t> ModuledataCandidates(const ElfFile& file, const Relocations& relocations,
                                           uint64_t table_address) {
  constexpr size_t kMaxCandidates = 64;
  std::vector<uint64_t> candidates;
  for (const auto& [address, value] : relocations) {
    if (value == table_address && candidates.size() < kMaxCandidates) candidates.push_back(address);
  }
  int searched = 0;
  for (const ElfSection& section : file.sections()) {
    constexpr uint64_t kData = SHF_ALLOC | SHF_WRITE;
    if (section.type != SHT_PROGBITS || (section.flags & kData) != kData) continue;
    if (++searched > kMaxSections) break;
    const ByteSpan contents = file.Contents(section);
    for (size_t at = (8 - section.address % 8) % 8; at + 8 <= contents.size(); at += 8) {
      uint64_t value;
      std::memcpy(&value, contents.data() + at, sizeof(value));
      if (value == table_address && candidates.size() < kMaxCandidates) {
        candidates.push_back(section.address + at);
      }
    }
  }
  return candidates;
}

}  // namespace

std::unique_ptr<GoBinary> GoBinary::Find(const ElfFile& file) {
  if (!LooksLikeGo(file)) return nullptr;
  const auto location = FindTable(file);
  if (!location) return nullptr;

  const Relocations relocations = file.RelativeRelocations();
  std::vector<uint8_t> relocated = Relocated(location->bytes, location->address, relocations);
  auto table = GoPclntab::Parse(relocated.empty() ? location->bytes : ByteSpan(relocated));
  if (!table.ok()) return nullptr;
  std::unique_ptr<GoBinary> result(new GoBinary(*std::move(table)));
  result->relocated_ = std::move(relocated);  // A moved vector keeps its bytes where they are.
  GoPclntab& go = result->table_;
  if (go.version() < GoVersion::k1_18) return result;

  for (const uint64_t moduledata : ModuledataCandidates(file, relocations, location->address)) {
    const auto word = [&](uint64_t n) { return WordAt(file, relocations, moduledata + n * 8); };
    const auto text = word(kTextWord);
    const auto min_pc = word(kMinPcWord);
    const auto max_pc = word(kMaxPcWord);
    if (!text || !min_pc || !max_pc || *text == 0) continue;
    GoPclntab with_text = go;
    with_text.set_text_start(*text);
    // The proof that it is the moduledata of this table: it repeats the bounds of the functions.
    if (with_text.begin_address() != *min_pc || with_text.end_address() != *max_pc) continue;
    go = with_text;
    int best_score = 0;
    ByteSpan best;
    for (uint64_t n = kFirstGofuncWord; n <= kLastGofuncWord; ++n) {
      const ByteSpan funcdata = file.LoadedAt(word(n).value_or(0));
      if (funcdata.empty()) continue;
      go.set_funcdata(funcdata);
      const int score = go.ScoreFuncdata(kFuncdataSamples);
      if (score > best_score) {
        best_score = score;
        best = funcdata;
      }
    }
    go.set_funcdata(best);
    return result;
  }

  // No moduledata: later tables do not say where the text begins, and a guess that is wrong would
  // name every function falsely. The symbol is sure; the section is, where Go's own linker made the
  // file: it holds Go's text from its beginning.
  if (go.needs_text_start()) {
    uint64_t text = SymbolTable::AddressOf(file, SHT_SYMTAB, "runtime.text");
    if (text == 0 && file.FindSection(".gopclntab") != nullptr) {
      const ElfSection* section = file.FindSection(".text");
      if (section != nullptr) text = section->address;
    }
    if (text == 0) return nullptr;
    go.set_text_start(text);
  }
  return result;
}

}  // namespace ollamatrace
