// The symbolizer on modules that the build made for it (fixtures/): every form in which a module's
// names and lines come.
#include "analyzer/symbolize/symbolizer.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "analyzer/symbolize/elf_file.h"
#include "analyzer/symbolize/mapped_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kFixtures = SYMBOLIZE_FIXTURES;
const std::string kSource = std::string(SYMBOLIZE_SOURCE_DIR) + "/fixtures/inlined.cc";

// Functions without a symbol of their own have no mangled name that would tell their parameters.
constexpr char kInner[] = "fixture::(anonymous namespace)::Pool::Inner<long int>";
constexpr char kMiddle[] = "fixture::(anonymous namespace)::Middle";
constexpr char kOuter[] = "fixture::Outer(void (*)())";

// Return addresses of Record's caller and of that one's caller.
void* recorded[2];

__attribute__((noinline)) void Record() {
  std::array<void*, 8> stack{};
  const int depth = backtrace(stack.data(), static_cast<int>(stack.size()));
  // Before it stand this function and, in some builds, an interceptor's.
  const auto it = std::find(stack.begin(), stack.begin() + depth, __builtin_return_address(0));
  if (stack.begin() + depth - it < 2) abort();
  recorded[0] = it[0];
  recorded[1] = it[1];
}

std::string ModulePath(const std::string& form) {
  return kFixtures + "/" + form + "/libinlined.so";
}

std::string BuildIdOf(const std::string& path) {
  const auto file = MappedFile::Open(path);
  if (!file.ok()) return "";
  const auto elf = ElfFile::Parse((*file)->bytes());
  return elf.ok() ? elf->build_id() : "";
}

// A fixture, loaded and run: where its calls return to, and which lines they stand on.
struct Fixture {
  explicit Fixture(const std::string& form) : path(ModulePath(form)), build_id(BuildIdOf(path)) {
    void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (module == nullptr) {
      ADD_FAILURE() << dlerror();
      return;
    }
    const link_map* map = nullptr;
    dlinfo(module, RTLD_DI_LINKMAP, &map);
    reinterpret_cast<void (*)(void (*)())>(dlsym(module, "fixture_run"))(&Record);
    in_inner = reinterpret_cast<uint64_t>(recorded[0]) - map->l_addr;
    in_run = reinterpret_cast<uint64_t>(recorded[1]) - map->l_addr;
    const auto* lines = static_cast<const int*>(dlsym(module, "fixture_lines"));
    if (lines == nullptr) abort();
    inner_line = static_cast<uint32_t>(lines[0]);
    middle_line = static_cast<uint32_t>(lines[1]);
    outer_line = static_cast<uint32_t>(lines[2]);
    run_line = static_cast<uint32_t>(lines[3]);
    dlclose(module);
  }

  std::string path;
  std::string build_id;
  uint64_t in_inner = 0;  // A return address in Inner, inlined into Middle, inlined into Outer.
  uint64_t in_run = 0;    // A return address in fixture_run.
  uint32_t inner_line = 0, middle_line = 0, outer_line = 0, run_line = 0;
};

auto IsFrame(const std::string& function, const std::string& file, uint32_t line, bool inlined) {
  return AllOf(Field("function", &Frame::function, function), Field("file", &Frame::file, file),
               Field("line", &Frame::line, line), Field("inlined", &Frame::inlined, inlined));
}

void ExpectInlinedFrames(const Fixture& fixture, Symbolizer& symbolizer, ModuleIndex module) {
  EXPECT_THAT(symbolizer.Lookup(module, fixture.in_inner, AddressKind::kReturn),
              ElementsAre(IsFrame(kInner, kSource, fixture.inner_line, true),
                          IsFrame(kMiddle, kSource, fixture.middle_line, true),
                          IsFrame(kOuter, kSource, fixture.outer_line, false)));
  EXPECT_THAT(symbolizer.Lookup(module, fixture.in_run, AddressKind::kReturn),
              ElementsAre(IsFrame("fixture_run", kSource, fixture.run_line, false)));
}

// A folder that is empty when the test begins.
std::string Scratch() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(info->test_suite_name()) + "." + info->name();
  for (char& c : name) {
    if (c == '/') c = '_';
  }
  const std::string folder = (fs::path(testing::TempDir()) / name).native();
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

std::string Hex(const std::string& bytes) {
  std::ostringstream text;
  for (const unsigned char byte : bytes) {
    text << "0123456789abcdef"[byte >> 4] << "0123456789abcdef"[byte & 15];
  }
  return text.str();
}

class DwarfFormTest : public testing::TestWithParam<const char*> {};

TEST_P(DwarfFormTest, ExpandsInlinedCallsWithTheirLines) {
  const Fixture fixture(GetParam());
  Symbolizer symbolizer;
  const ModuleIndex module = symbolizer.AddModule({fixture.path, fixture.build_id});
  ExpectInlinedFrames(fixture, symbolizer, module);
  EXPECT_EQ(symbolizer.Status(module).state, ModuleState::kOk);
  EXPECT_TRUE(symbolizer.Status(module).has_dwarf);
  EXPECT_THAT(symbolizer.Status(module).message, IsEmpty());
  EXPECT_EQ(symbolizer.Status(module).file, fixture.path);
}

std::string FormName(const testing::TestParamInfo<const char*>& form) { return form.param; }

INSTANTIATE_TEST_SUITE_P(Forms, DwarfFormTest,
                         testing::Values("dwarf4", "dwarf5", "split", "compressed"), FormName);

TEST(SymbolizerTest, SymtabNamesLocalFunctionsWithoutDwarf) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer;
  const ModuleIndex module = symbolizer.AddModule({ModulePath("symbols"), fixture.build_id});
  EXPECT_THAT(symbolizer.Lookup(module, fixture.in_inner, AddressKind::kReturn),
              ElementsAre(IsFrame(kOuter, "", 0, false)));
  EXPECT_FALSE(symbolizer.Status(module).has_dwarf);
  EXPECT_TRUE(symbolizer.Status(module).has_symtab);
}

TEST(SymbolizerTest, DynsymNamesWhatIsExportedWhereTheRestIsStripped) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer({.debug_directories = {}});
  const ModuleIndex module = symbolizer.AddModule({ModulePath("stripped"), fixture.build_id});
  EXPECT_THAT(symbolizer.Lookup(module, fixture.in_run, AddressKind::kReturn),
              ElementsAre(IsFrame("fixture_run", "", 0, false)));
  // Outer is hidden: nothing names it, and its neighbour's name would be a lie.
  EXPECT_THAT(symbolizer.Lookup(module, fixture.in_inner, AddressKind::kReturn), IsEmpty());
  EXPECT_FALSE(symbolizer.Status(module).has_symtab);
  EXPECT_TRUE(symbolizer.Status(module).has_dynsym);
  EXPECT_EQ(symbolizer.Status(module).state, ModuleState::kOk);
}

TEST(SymbolizerTest, DebugLinkLeadsToTheFileBeside) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer({.debug_directories = {}});
  const ModuleIndex module = symbolizer.AddModule({ModulePath("linked"), fixture.build_id});
  ExpectInlinedFrames(fixture, symbolizer, module);
  EXPECT_EQ(symbolizer.Status(module).debug_file, ModulePath("linked") + ".debug");
}

TEST(SymbolizerTest, DebugLinkLeadsIntoTheDebugFolder) {
  const Fixture fixture("dwarf5");
  const std::string folder = Scratch();
  fs::create_directories(folder + "/usr/lib");
  fs::create_directories(folder + "/debug/usr/lib");
  fs::copy(ModulePath("linked"), folder + "/usr/lib/libinlined.so");
  fs::copy(ModulePath("linked") + ".debug", folder + "/debug/usr/lib/libinlined.so.debug");
  Symbolizer symbolizer({.sysroot = folder, .debug_directories = {folder + "/debug"}});
  const ModuleIndex module = symbolizer.AddModule({"/usr/lib/libinlined.so", fixture.build_id});
  ExpectInlinedFrames(fixture, symbolizer, module);
  EXPECT_EQ(symbolizer.Status(module).file, folder + "/usr/lib/libinlined.so");
}

TEST(SymbolizerTest, BuildIdFolderLeadsToTheDebugFile) {
  const Fixture fixture("dwarf5");
  const std::string folder = Scratch();
  const std::string hex = Hex(fixture.build_id);
  ASSERT_EQ(hex.size(), 40u);
  const std::string place = folder + "/.build-id/" + hex.substr(0, 2);
  fs::create_directories(place);
  fs::copy(ModulePath("linked") + ".debug", place + "/" + hex.substr(2) + ".debug");
  Symbolizer symbolizer({.debug_directories = {folder}});
  // The module with its names removed, and no module at all.
  ExpectInlinedFrames(fixture, symbolizer,
                      symbolizer.AddModule({ModulePath("stripped"), fixture.build_id}));
  const ModuleIndex absent = symbolizer.AddModule({"/nowhere/libinlined.so", fixture.build_id});
  ExpectInlinedFrames(fixture, symbolizer, absent);
  EXPECT_EQ(symbolizer.Status(absent).state, ModuleState::kOk);
  EXPECT_THAT(symbolizer.Status(absent).file, IsEmpty());
}

TEST(SymbolizerTest, DebugFileOfAnotherBuildIsNotUsed) {
  const Fixture fixture("dwarf5");
  const std::string folder = Scratch();
  const std::string hex = Hex(fixture.build_id);
  const std::string place = folder + "/.build-id/" + hex.substr(0, 2);
  fs::create_directories(place);
  fs::copy(ModulePath("dwarf4"), place + "/" + hex.substr(2) + ".debug");
  Symbolizer symbolizer({.debug_directories = {folder}});
  const ModuleIndex module = symbolizer.AddModule({ModulePath("stripped"), fixture.build_id});
  EXPECT_FALSE(symbolizer.Status(module).has_dwarf);
  EXPECT_THAT(symbolizer.Status(module).debug_file, IsEmpty());
}

TEST(SymbolizerTest, MiniDebugInfoNamesLocalFunctions) {
  const Fixture fixture("dwarf5");
  if (!fs::exists(ModulePath("mini"))) GTEST_SKIP() << "the build found no xz";
  Symbolizer symbolizer({.debug_directories = {}});
  const ModuleIndex module = symbolizer.AddModule({ModulePath("mini"), fixture.build_id});
  const auto frames = symbolizer.Lookup(module, fixture.in_inner, AddressKind::kReturn);
  if (!symbolizer.Status(module).has_symtab) GTEST_SKIP() << "this build has no liblzma";
  EXPECT_THAT(frames, ElementsAre(IsFrame(kOuter, "", 0, false)));
}

TEST(SymbolizerTest, ExactAddressIsNotMovedIntoTheCall) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer;
  const ModuleIndex module = symbolizer.AddModule({fixture.path, fixture.build_id});
  const auto at_call = symbolizer.Lookup(module, fixture.in_inner - 1, AddressKind::kExact);
  ASSERT_EQ(at_call.size(), 3u);
  EXPECT_EQ(at_call[0].line, fixture.inner_line);
  // Behind the call stands the next line of Inner.
  const auto behind = symbolizer.Lookup(module, fixture.in_inner, AddressKind::kExact);
  ASSERT_FALSE(behind.empty());
  EXPECT_NE(behind[0].line, fixture.inner_line);
}

TEST(SymbolizerTest, AnotherBuildIdIsRefusedWithTheReason) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer({.debug_directories = {}});
  const std::string wanted(20, '\x5a');
  const ModuleIndex module = symbolizer.AddModule({fixture.path, wanted});
  EXPECT_THAT(symbolizer.Lookup(module, fixture.in_inner, AddressKind::kReturn), IsEmpty());
  const ModuleStatus& status = symbolizer.Status(module);
  EXPECT_EQ(status.state, ModuleState::kBuildIdDiffers);
  EXPECT_THAT(status.message, HasSubstr("file changed since: " + fixture.path));
  EXPECT_THAT(status.message, HasSubstr(Hex(fixture.build_id)));
  EXPECT_THAT(status.message, HasSubstr(Hex(wanted)));
  EXPECT_THAT(status.file, IsEmpty());
}

TEST(SymbolizerTest, RightFileIsFoundInTheDebugFoldersWhenItsPathLeadsToAnother) {
  const Fixture fixture("dwarf5");
  const std::string folder = Scratch();
  fs::copy(fixture.path, folder + "/libinlined.so");
  Symbolizer symbolizer({.debug_directories = {folder}});
  // The same base name, but the DWARF 4 module stands there now.
  const ModuleIndex module = symbolizer.AddModule({ModulePath("dwarf4"), fixture.build_id});
  ExpectInlinedFrames(fixture, symbolizer, module);
  EXPECT_EQ(symbolizer.Status(module).state, ModuleState::kOk);
  EXPECT_THAT(symbolizer.Status(module).message, IsEmpty());
}

TEST(SymbolizerTest, WithoutRecordedBuildIdTheFileIsUsedUnverified) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer;
  const ModuleIndex module = symbolizer.AddModule({fixture.path, ""});
  ExpectInlinedFrames(fixture, symbolizer, module);
  EXPECT_EQ(symbolizer.Status(module).state, ModuleState::kUnverified);
  EXPECT_THAT(symbolizer.Status(module).message, HasSubstr(fixture.path));
}

TEST(SymbolizerTest, DeletedFileIsSoughtAtItsOldPath) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer;
  ExpectInlinedFrames(fixture, symbolizer,
                      symbolizer.AddModule({fixture.path + " (deleted)", fixture.build_id}));
}

TEST(SymbolizerTest, SysrootComesFirstAndThePlainPathOnlyByBuildId) {
  const Fixture fixture("dwarf5");
  const std::string root = Scratch();
  Symbolizer symbolizer({.sysroot = root, .debug_directories = {}});
  // Not in the sysroot: this machine's file proves by its build-id that it is the one.
  ExpectInlinedFrames(fixture, symbolizer, symbolizer.AddModule({fixture.path, fixture.build_id}));
  // Without a build-id it could be any file.
  const ModuleIndex unverified = symbolizer.AddModule({fixture.path, ""});
  EXPECT_EQ(symbolizer.Status(unverified).state, ModuleState::kNoFile);
  EXPECT_THAT(symbolizer.Status(unverified).message, HasSubstr(root + fixture.path));
}

TEST(SymbolizerTest, MissingAndUnreadableFilesSaySo) {
  const std::string folder = Scratch();
  std::ofstream(folder + "/empty");
  std::ofstream(folder + "/text") << std::string(200, 'x');
  Symbolizer symbolizer({.debug_directories = {}});
  const auto status = [&](const std::string& path) {
    return symbolizer.Status(symbolizer.AddModule({path, ""}));
  };
  EXPECT_EQ(status(folder + "/none").state, ModuleState::kNoFile);
  EXPECT_EQ(status(folder + "/none").message, "no such file: " + folder + "/none");
  EXPECT_EQ(status(folder + "/text/below").state, ModuleState::kNoFile);
  EXPECT_EQ(status(folder + "/empty").state, ModuleState::kUnreadable);
  EXPECT_EQ(status(folder + "/empty").message, folder + "/empty: too short for an ELF file");
  EXPECT_EQ(status(folder + "/text").state, ModuleState::kUnreadable);
  EXPECT_EQ(status(folder + "/text").message, folder + "/text: not an ELF file");
  EXPECT_EQ(status(folder).state, ModuleState::kUnreadable);
  EXPECT_EQ(status("/dev/null").state, ModuleState::kUnreadable);
  EXPECT_EQ(status("[vdso]").state, ModuleState::kNotAFile);
  EXPECT_EQ(status("").state, ModuleState::kNotAFile);
  EXPECT_EQ(status("/no\nsuch").message, "no such file: /no?such");
}

TEST(SymbolizerTest, UnknownIndicesAndAddressesAreNotKnown) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer;
  EXPECT_THAT(symbolizer.Lookup(ModuleIndex{7}, 0x1000, AddressKind::kReturn), IsEmpty());
  EXPECT_EQ(symbolizer.Status(ModuleIndex{7}).state, ModuleState::kNotAFile);
  const ModuleIndex module = symbolizer.AddModule({fixture.path, fixture.build_id});
  for (const uint64_t address : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{1} << 47}) {
    EXPECT_THAT(symbolizer.Lookup(module, address, AddressKind::kReturn), IsEmpty()) << address;
    EXPECT_THAT(symbolizer.Lookup(module, address, AddressKind::kExact), IsEmpty()) << address;
  }
}

TEST(SymbolizerTest, OneModuleForOneSpecAndAnswersThatStay) {
  const Fixture fixture("dwarf5");
  Symbolizer symbolizer;
  const ModuleIndex module = symbolizer.AddModule({fixture.path, fixture.build_id});
  EXPECT_EQ(symbolizer.AddModule({fixture.path, fixture.build_id}), module);
  EXPECT_NE(symbolizer.AddModule({fixture.path, ""}), module);
  const auto first = symbolizer.Lookup(module, fixture.in_inner, AddressKind::kReturn);
  for (uint64_t address = 0; address < 0x4000; ++address) {
    symbolizer.Lookup(module, address, AddressKind::kExact);
  }
  const auto again = symbolizer.Lookup(module, fixture.in_inner, AddressKind::kReturn);
  EXPECT_EQ(first.data(), again.data());
  EXPECT_EQ(first[0].function, kInner);
}

// Copies of a fixture under one path, and a cache; `names` are stored beside a trace.
class StoredNamesTest : public testing::Test {
 protected:
  void Put(const std::string& form) {
    fs::remove(path_);
    fs::copy_file(ModulePath(form), path_);
  }

  SymbolizerOptions Options() const {
    return {.debug_directories = {},
            .debuginfod = false,
            .stored_names = {folder_ + "/names"},
            .cache = folder_ + "/cache"};
  }

  std::string FirstFunction(const std::string& build_id, uint64_t address) const {
    Symbolizer symbolizer(Options());
    const auto frames =
        symbolizer.Lookup(symbolizer.AddModule({path_, build_id}), address, AddressKind::kReturn);
    return frames.empty() ? "" : std::string(frames.front().function);
  }

  // Looks both addresses up, as a report does.
  void Learn(const std::string& build_id) {
    Symbolizer symbolizer(Options());
    ExpectInlinedFrames(fixture_, symbolizer, symbolizer.AddModule({path_, build_id}));
  }

  const Fixture fixture_{"dwarf5"};
  const std::string folder_ = Scratch();
  const std::string path_ = folder_ + "/libinlined.so";
};

TEST_F(StoredNamesTest, TheCacheAnswersWhenTheFileIsGoneOrRebuilt) {
  Put("dwarf5");
  Learn(fixture_.build_id);
  for (const bool rebuilt : {false, true}) {
    fs::remove(path_);
    if (rebuilt) Put("dwarf4");  // another build-id
    Symbolizer symbolizer(Options());
    const ModuleIndex module = symbolizer.AddModule({path_, fixture_.build_id});
    ExpectInlinedFrames(fixture_, symbolizer, module);
    EXPECT_EQ(symbolizer.Status(module).state, ModuleState::kOk);
    EXPECT_TRUE(symbolizer.Status(module).has_dwarf);
    EXPECT_THAT(symbolizer.Status(module).message, IsEmpty());
    // What nobody asked for before is not there, and the status says why.
    EXPECT_THAT(symbolizer.Lookup(module, fixture_.in_inner + 1, AddressKind::kExact), IsEmpty());
    EXPECT_EQ(symbolizer.Status(module).state,
              rebuilt ? ModuleState::kBuildIdDiffers : ModuleState::kNoFile);
    EXPECT_TRUE(symbolizer.Status(module).has_dwarf);
  }
  // Nothing of that was learned.
  fs::remove(path_);
  Put("dwarf5");
  EXPECT_EQ(FirstFunction(fixture_.build_id, fixture_.in_inner + 2), kInner);
}

TEST_F(StoredNamesTest, WhatIsAskedLaterIsAdded) {
  Put("dwarf5");
  EXPECT_EQ(FirstFunction(fixture_.build_id, fixture_.in_inner), kInner);
  EXPECT_EQ(FirstFunction(fixture_.build_id, fixture_.in_run), "fixture_run");
  fs::remove(path_);
  Learn(fixture_.build_id);
}

TEST_F(StoredNamesTest, BetterDebugDataReplacesWhatWasStored) {
  Put("stripped");
  EXPECT_EQ(FirstFunction(fixture_.build_id, fixture_.in_inner), "");
  EXPECT_EQ(FirstFunction(fixture_.build_id, fixture_.in_run), "fixture_run");
  Put("symbols");
  EXPECT_EQ(FirstFunction(fixture_.build_id, fixture_.in_inner), kOuter);
  Put("dwarf5");
  Learn(fixture_.build_id);
}

TEST_F(StoredNamesTest, WorseDebugDataDoesNot) {
  Put("dwarf5");
  Learn(fixture_.build_id);
  Put("stripped");
  Learn(fixture_.build_id);
  // An answer of the worse file is given, and not kept among the better ones.
  EXPECT_EQ(FirstFunction(fixture_.build_id, fixture_.in_run + 1), "fixture_run");
  Put("dwarf5");
  Symbolizer symbolizer(Options());
  const auto frames = symbolizer.Lookup(symbolizer.AddModule({path_, fixture_.build_id}),
                                        fixture_.in_run + 1, AddressKind::kReturn);
  ASSERT_FALSE(frames.empty());
  EXPECT_EQ(frames.back().file, kSource);
}

TEST_F(StoredNamesTest, WithoutABuildIdTheCacheHoldsAsLongAsTheFile) {
  Put("dwarf5");
  Learn("");
  Learn("");
  Put("stripped");
  EXPECT_EQ(FirstFunction("", fixture_.in_inner), "");
  fs::remove(path_);
  EXPECT_EQ(FirstFunction("", fixture_.in_inner), "");
}

TEST_F(StoredNamesTest, NamesBesideTheTraceHoldWhateverIsThereNow) {
  Put("dwarf5");
  for (const std::string& build_id : {fixture_.build_id, std::string()}) {
    SymbolizerOptions options = Options();
    options.cache.clear();
    Symbolizer symbolizer(options);
    ExpectInlinedFrames(fixture_, symbolizer, symbolizer.AddModule({path_, build_id}));
    ASSERT_TRUE(symbolizer.StoreAnswers(options.stored_names.front()).ok());
  }
  for (const char* form : {"none", "dwarf4", "stripped"}) {
    fs::remove(path_);
    if (std::string_view(form) != "none") Put(form);
    Learn(fixture_.build_id);
    Learn("");
    // Of an address that was not stored, another file of that path could tell anything.
    EXPECT_EQ(FirstFunction("", fixture_.in_run + 1), "") << form;
  }
}

TEST_F(StoredNamesTest, ADamagedCacheIsNone) {
  Put("dwarf5");
  Learn(fixture_.build_id);
  for (const auto& entry : fs::directory_iterator(folder_ + "/cache")) {
    std::ofstream(entry.path(), std::ios::trunc) << "damaged";
  }
  Learn(fixture_.build_id);
  fs::remove(path_);
  Learn(fixture_.build_id);  // written anew
}

TEST_F(StoredNamesTest, ACacheThatCannotBeWrittenIsNone) {
  Put("dwarf5");
  std::ofstream(folder_ + "/cache") << "a file";
  Learn(fixture_.build_id);
  Learn(fixture_.build_id);
}

}  // namespace
}  // namespace ollamatrace
