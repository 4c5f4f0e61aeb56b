// Damaged files: real modules with bytes changed, in many and repeatable ways. Whatever they say,
// the answers are some frames or none: no crash, no hang, no memory without bound (the test runs in
// a limited address space where no sanitizer needs it all).
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "analyzer/symbolize/elf_file.h"
#include "analyzer/symbolize/symbolizer.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

// Passes over each module; OLLAMATRACE_DAMAGE multiplies them for a longer run by hand.
int Passes(int passes) {
  const char* factor = std::getenv("OLLAMATRACE_DAMAGE");
  return passes * (factor != nullptr ? std::max(1, std::atoi(factor)) : 1);
}

std::vector<uint8_t> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class DamagedFilesTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string original =
        std::string(SYMBOLIZE_FIXTURES) + "/" + GetParam() + "/libinlined.so";
    if (!fs::exists(original)) GTEST_SKIP() << "the build made no " << original;
    whole_ = ReadFile(original);
    const auto elf = ElfFile::Parse(whole_);
    ASSERT_TRUE(elf.ok());
    build_id_ = elf->build_id();
    path_ = (fs::path(testing::TempDir()) / (std::string(GetParam()) + ".so")).native();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const rlimit limit = {rlim_t{2} << 30, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
#endif
  }

  // Asks for everything there is to ask of the file's bytes, with and without a build-id to go by.
  void Use(const std::vector<uint8_t>& bytes) {
    {
      std::ofstream file(path_, std::ios::binary | std::ios::trunc);
      file.write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
      ASSERT_TRUE(file.flush()) << "cannot write " << path_;
    }
    Symbolizer symbolizer({.debug_directories = {}});
    for (const std::string& build_id : {std::string(), build_id_}) {
      const ModuleIndex module = symbolizer.AddModule({path_, build_id});
      for (uint64_t address = 0x1000; address < 0x1300; address += 7) {
        for (const Frame& frame : symbolizer.Lookup(module, address, AddressKind::kExact)) {
          frames_ += 1 + frame.function.size() / 1000000;
        }
      }
      const ModuleStatus& status = symbolizer.Status(module);
      EXPECT_EQ(status.message.find('\n'), std::string::npos);
      // What was not used says why.
      if (status.file.empty()) {
        EXPECT_FALSE(status.message.empty());
      }
    }
  }

  std::vector<uint8_t> whole_;
  std::string build_id_;
  std::string path_;
  size_t frames_ = 0;
};

TEST_P(DamagedFilesTest, BytesChangedAnywhere) {
  std::mt19937 random(1);
  for (int pass = 0; pass < Passes(400); ++pass) {
    std::vector<uint8_t> bytes = whole_;
    const size_t changes = 1 + random() % 8;
    for (size_t i = 0; i < changes; ++i)
      bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    Use(bytes);
  }
  EXPECT_GT(frames_, 0u);  // Most damage is elsewhere: the file was read.
}

// The headers, where a byte means most.
TEST_P(DamagedFilesTest, HeadersChanged) {
  std::mt19937 random(2);
  Elf64_Ehdr header;
  std::memcpy(&header, whole_.data(), sizeof(header));
  const size_t sections_at = header.e_shoff;
  const size_t sections_size = size_t{header.e_shnum} * sizeof(Elf64_Shdr);
  for (int pass = 0; pass < Passes(400); ++pass) {
    std::vector<uint8_t> bytes = whole_;
    for (size_t i = 0; i < 1 + random() % 4; ++i) {
      const size_t at =
          random() % 4 == 0 ? random() % 0x400 : sections_at + random() % sections_size;
      static constexpr uint8_t kTelling[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
      bytes[at] = random() % 2 == 0 ? kTelling[random() % 5] : static_cast<uint8_t>(random());
    }
    Use(bytes);
  }
}

// The DWARF and symbol sections, many bytes at once.
TEST_P(DamagedFilesTest, DebugSectionsChanged) {
  std::mt19937 random(3);
  const auto elf = ElfFile::Parse(whole_);
  std::vector<ElfSection> sections;
  for (const ElfSection& section : elf->sections()) {
    if ((section.name.starts_with(".debug_") || section.name.starts_with(".gnu_debug") ||
         section.type == SHT_SYMTAB || section.type == SHT_DYNSYM || section.type == SHT_STRTAB) &&
        section.size > 0) {
      sections.push_back(section);
    }
  }
  ASSERT_FALSE(sections.empty());
  for (int pass = 0; pass < Passes(800); ++pass) {
    std::vector<uint8_t> bytes = whole_;
    const ElfSection& section = sections[random() % sections.size()];
    const size_t changes = 1 + random() % 16;
    for (size_t i = 0; i < changes; ++i) {
      bytes[section.offset + random() % section.size] = static_cast<uint8_t>(random());
    }
    Use(bytes);
  }
}

TEST_P(DamagedFilesTest, CutShort) {
  for (int pass = 0; pass < Passes(200); ++pass) {
    std::vector<uint8_t> bytes = whole_;
    bytes.resize(whole_.size() * static_cast<size_t>(pass) / static_cast<size_t>(Passes(200)));
    Use(bytes);
  }
}

std::string FormName(const testing::TestParamInfo<const char*>& form) { return form.param; }

INSTANTIATE_TEST_SUITE_P(Forms, DamagedFilesTest,
                         testing::Values("dwarf4", "dwarf5", "compressed", "split", "stripped",
                                         "mini"),
                         FormName);

}  // namespace
}  // namespace ollamatrace
