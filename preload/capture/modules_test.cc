// The list of modules, where something happens behind its back.

#include "preload/capture/modules.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_test_support.h"

namespace ollamatrace {
namespace {

int g_records;
int g_files_wanted_calls;

class Library {
 public:
  explicit Library(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {}
  ~Library() { Close(); }
  void Close() {
    if (handle_ != nullptr) dlclose(handle_);
    handle_ = nullptr;
  }
  uintptr_t code() const { return reinterpret_cast<uintptr_t>(dlsym(handle_, "PluginCall")); }

 private:
  void* handle_;
};

class ModulesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(capture::InitUnwinder("own"));
    InitModules([](const uint8_t*, size_t) { ++g_records; }, [] { ++g_files_wanted_calls; });
    RefreshModules();
    ReadModuleFiles();
  }
};

TEST_F(ModulesTest, AnUnloadThatNobodySawIsNoticed) {
  int same_address = 0;
  for (int i = 0; i < 5; ++i) {
    Library first(DEBUG_FRAME_PLUGIN_A);
    const uintptr_t code = first.code();
    ASSERT_NE(code, 0u) << dlerror();
    const ModuleId first_id = FindModuleId(code);
    ASSERT_NE(first_id, ModuleId{});
    NoticeUnloads();
    EXPECT_EQ(FindModuleId(code), first_id);  // it is still there
    first.Close();                            // past any hook

    // Another library of the same layout, in the same place.
    Library second(DEBUG_FRAME_PLUGIN_A_TWIN);
    if (second.code() != code) continue;
    ++same_address;
    EXPECT_EQ(FindModuleId(code), first_id) << "noticed at once: then say so in UNWINDER.md";
    const uint32_t generation = ModulesGeneration();
    const uint32_t times = TimesUnloaded(code);
    NoticeUnloads();
    EXPECT_GT(TimesUnloaded(code), times);
    EXPECT_NE(ModulesGeneration(), generation);
    const int records = g_records;
    const ModuleId second_id = FindModuleId(code);
    EXPECT_NE(second_id, first_id);
    EXPECT_NE(second_id, ModuleId{});
    EXPECT_GE(g_records, records + 2);  // the one's end, the other's beginning
    EXPECT_EQ(FindModuleId(code), second_id);
    const uint32_t times_then = TimesUnloaded(code);
    second.Close();
    RefreshModules();
    EXPECT_GT(TimesUnloaded(code), times_then);
  }
  EXPECT_GT(same_address, 0) << "the libraries never had the same address: nothing was tested";
}

TEST_F(ModulesTest, AModuleThatIsGoneIsNoticed) {
  Library library(DEBUG_FRAME_PLUGIN_A);
  const uintptr_t code = library.code();
  const ModuleId id = FindModuleId(code);
  ASSERT_NE(id, ModuleId{});
  const uint32_t times = TimesUnloaded(code);
  library.Close();
  NoticeUnloads();
  EXPECT_GT(TimesUnloaded(code), times);
  EXPECT_EQ(FindModuleId(code), ModuleId{});
}

TEST_F(ModulesTest, FilesAreReadWhenSomebodyAsksForIt) {
  const int calls = g_files_wanted_calls;
  Library library(DEBUG_FRAME_PLUGIN_A);
  const uintptr_t code = library.code();
  ASSERT_NE(FindModuleId(code), ModuleId{});
  EXPECT_EQ(g_files_wanted_calls, calls + 1);
  capture::ModuleTables tables;
  ASSERT_EQ(capture::FindModule(code, &tables), capture::ModuleLookup::kFound);
  EXPECT_EQ(tables.debug_frame, nullptr);
  const uint32_t generation = capture::ModuleGeneration();
  ReadModuleFiles();
  ASSERT_EQ(capture::FindModule(code, &tables), capture::ModuleLookup::kFound);
#if defined(__x86_64__)
  EXPECT_NE(tables.debug_frame, nullptr);
  EXPECT_NE(capture::ModuleGeneration(), generation);  // what was learnt without it is void
#endif
  RedefineModules();  // as in a child of fork: nothing is read again
  ASSERT_EQ(capture::FindModule(code, &tables), capture::ModuleLookup::kFound);
#if defined(__x86_64__)
  EXPECT_NE(tables.debug_frame, nullptr);
#endif
  library.Close();
  RefreshModules();
  EXPECT_EQ(capture::FindModule(code, &tables), capture::ModuleLookup::kUnknown);
}

}  // namespace
}  // namespace ollamatrace
