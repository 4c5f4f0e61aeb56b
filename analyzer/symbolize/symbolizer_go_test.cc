// The symbolizer on Go programs, against what Go's own run-time tables say: each program prints the
// return addresses of a stack and their names.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "analyzer/symbolize/elf_file.h"
#include "analyzer/symbolize/mapped_file.h"
#include "analyzer/symbolize/symbolizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

// Runs a shell command; gives its output, or fails the test with it.
std::string Shell(const std::string& command, int* status) {
  std::string output;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) {
    *status = -1;
    return output;
  }
  char buffer[4096];
  size_t size;
  while ((size = fread(buffer, 1, sizeof(buffer), pipe)) > 0) output.append(buffer, size);
  *status = pclose(pipe);
  return output;
}

// The ELF virtual address of the file's first loaded byte.
uint64_t FirstLoadedAddress(const std::string& path) {
  const auto file = MappedFile::Open(path);
  const auto elf = ElfFile::Parse((*file)->bytes());
  for (const Elf64_Phdr& segment : elf->segments()) {
    if (segment.p_type == PT_LOAD) return segment.p_vaddr - segment.p_offset;
  }
  return 0;
}

struct Form {
  const char* name;
  const char* build_options;
  bool external_linker;
};

class GoProgramTest : public testing::TestWithParam<Form> {};

TEST_P(GoProgramTest, NamesFilesAndLinesEqualGosOwn) {
  int status = 0;
  Shell("go version", &status);
  if (status != 0) GTEST_SKIP() << "no Go toolchain on the PATH";
  if (GetParam().external_linker) {
    Shell("cc --version", &status);
    if (status != 0) GTEST_SKIP() << "no C compiler on the PATH";
  }
  const fs::path folder = fs::path(testing::TempDir()) / GetParam().name;
  fs::create_directories(folder);
  const std::string program = (folder / "program").native();
  const std::string source = std::string(SYMBOLIZE_SOURCE_DIR) + "/fixtures/go";
  const std::string built = Shell(
      "cd '" + source + "' && GOTOOLCHAIN=local GOFLAGS= GOWORK=off go build -buildvcs=false " +
          GetParam().build_options + " -o '" + program + "' .",
      &status);
  ASSERT_EQ(status, 0) << built;
  const std::string output = Shell("'" + program + "'", &status);
  ASSERT_EQ(status, 0) << output;

  Symbolizer symbolizer({.debug_directories = {}});
  const ModuleIndex module = symbolizer.AddModule({program, ""});
  EXPECT_TRUE(symbolizer.Status(module).has_gopclntab);
  uint64_t bias = 0;
  int compared = 0;
  bool saw_inlined = false;
  std::istringstream lines(output);
  std::string kind;
  while (lines >> kind) {
    if (kind == "base") {
      uint64_t base = 0;
      lines >> std::hex >> base >> std::dec;
      bias = base - FirstLoadedAddress(program);
      continue;
    }
    ASSERT_EQ(kind, "frame") << output;
    uint64_t pc = 0;
    uint32_t line = 0;
    std::string function, file;
    lines >> std::hex >> pc >> std::dec >> function >> file >> line;
    const auto frames = symbolizer.Lookup(module, pc - bias, AddressKind::kReturn);
    ASSERT_FALSE(frames.empty()) << function;
    EXPECT_EQ(frames[0].function, function);
    EXPECT_EQ(frames[0].file, file) << function;
    EXPECT_EQ(frames[0].line, line) << function;
    ++compared;
    if (function == "main.(*pool).helper") {
      saw_inlined = true;
      ASSERT_EQ(frames.size(), 2u);
      EXPECT_TRUE(frames[0].inlined);
      EXPECT_EQ(frames[1].function, "main.(*pool).keep");
      EXPECT_FALSE(frames[1].inlined);
      EXPECT_EQ(fs::path(frames[1].file).filename(), "main.go");
      EXPECT_EQ(frames[1].line + 4, frames[0].line);  // As main.go has them.
    }
  }
  EXPECT_GE(compared, 5) << output;
  EXPECT_TRUE(saw_inlined) << output;
}

std::string FormName(const testing::TestParamInfo<Form>& form) { return form.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Forms, GoProgramTest,
    testing::Values(Form{"plain", "", false}, Form{"stripped", "-ldflags='-s -w'", false},
                    Form{"pie_stripped", "-buildmode=pie -ldflags='-s -w'", false},
                    Form{"cgo", "-tags=cgo_fixture -ldflags=-linkmode=external", true},
                    Form{"cgo_pie_stripped",
                         "-tags=cgo_fixture -buildmode=pie -ldflags='-s -w -linkmode=external'",
                         true}),
    FormName);

}  // namespace
}  // namespace ollamatrace
