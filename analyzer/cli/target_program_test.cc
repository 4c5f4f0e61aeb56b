#include "analyzer/cli/target_program.h"

#include <elf.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string Write(const std::string& name, const std::string& content, mode_t mode = 0755) {
  const std::string path = (fs::path(::testing::TempDir()) / name).string();
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  chmod(path.c_str(), mode);
  return path;
}

// An ELF file with one program header, and an interpreter's path behind it.
std::string Elf(uint32_t segment_type, const std::string& interpreter, uint16_t machine = 0,
                uint8_t elf_class = ELFCLASS64) {
  std::ifstream self("/proc/self/exe", std::ios::binary);
  Elf64_Ehdr header;
  self.read(reinterpret_cast<char*>(&header), sizeof(header));
  if (machine != 0) header.e_machine = machine;
  header.e_ident[EI_CLASS] = elf_class;
  header.e_phoff = sizeof(header);
  header.e_phnum = 1;
  header.e_phentsize = sizeof(Elf64_Phdr);
  Elf64_Phdr segment = {};
  segment.p_type = segment_type;
  segment.p_offset = sizeof(header) + sizeof(segment);
  segment.p_filesz = interpreter.size() + 1;
  return std::string(reinterpret_cast<char*>(&header), sizeof(header)) +
         std::string(reinterpret_cast<char*>(&segment), sizeof(segment)) + interpreter + '\0';
}

std::string Why(const std::string& program) {
  return std::string(CheckPreloadable(program).message());
}

TEST(FindProgram, AlongThePath) {
  const std::string program = Write("found_program", "x");
  Write("plain_file", "x", 0644);
  const std::string path = "/nowhere:" + fs::path(program).parent_path().string() + ":/bin";
  EXPECT_EQ(*FindProgram("found_program", path), program);
  EXPECT_EQ(*FindProgram("sh", "/bin"), "/bin/sh");
  EXPECT_EQ(*FindProgram(program, ""), program);
  EXPECT_TRUE(absl::IsNotFound(FindProgram("no-such-program", path).status()));
  EXPECT_TRUE(absl::IsNotFound(FindProgram("", path).status()));
  EXPECT_TRUE(absl::IsNotFound(FindProgram("/no/such/program", path).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(FindProgram("plain_file", path).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(FindProgram("/tmp", path).status()));
}

TEST(CheckPreloadable, Dynamic) {
  EXPECT_EQ(Why("/proc/self/exe"), "");
  EXPECT_EQ(Why(Write("dynamic", Elf(PT_INTERP, "/lib64/ld-linux-x86-64.so.2"))), "");
}

TEST(CheckPreloadable, StaticAndMusl) {
  EXPECT_THAT(Why(Write("static", Elf(PT_LOAD, ""))),
              HasSubstr("static: linked statically: a preloaded library"));
  EXPECT_THAT(Why(Write("musl", Elf(PT_INTERP, "/lib/ld-musl-x86_64.so.1"))), HasSubstr("musl"));
}

TEST(CheckPreloadable, AnotherArchitecture) {
  EXPECT_THAT(Why(Write("riscv", Elf(PT_INTERP, "/lib/ld.so", EM_RISCV))),
              HasSubstr("architecture"));
  EXPECT_THAT(Why(Write("narrow", Elf(PT_INTERP, "/lib/ld.so", 0, ELFCLASS32))),
              HasSubstr("architecture"));
}

TEST(CheckPreloadable, ScriptsAreTheirInterpreter) {
  EXPECT_EQ(Why(Write("script", "#!/bin/sh\necho\n")), "");
  EXPECT_EQ(Why(Write("script2", "#! /usr/bin/env python3\n")), "");
  const std::string interpreter = Write("interpreter", Elf(PT_LOAD, ""));
  EXPECT_THAT(Why(Write("script3", "#!" + interpreter + " -x\n")),
              HasSubstr("interpreter: linked statically"));
  const std::string loop = (fs::path(::testing::TempDir()) / "loop").string();
  EXPECT_EQ(Why(Write("loop", "#!" + loop + "\n")), "");
}

TEST(CheckPreloadable, InDoubtItIsTried) {
  EXPECT_EQ(Why(Write("empty", "")), "");
  EXPECT_EQ(Why(Write("text", "echo hello\n")), "");
  EXPECT_EQ(Why("/no/such/file"), "");
  EXPECT_EQ(Why(Write("cut", Elf(PT_INTERP, "x").substr(0, 70))), "");
  EXPECT_EQ(Why(Write("hashbang", "#!")), "");
  EXPECT_EQ(Why(Write("hashbang2", "#!   \n")), "");
}

}  // namespace
}  // namespace ollamatrace
