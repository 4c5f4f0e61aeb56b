// What is read from a module's file, and walks that need it.

#include "preload/capture/module_file.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "preload/capture/cfi_program.h"
#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_test_support.h"

namespace ollamatrace::capture {
namespace {

std::vector<char> Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Write(const std::string& path, const std::vector<char>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// --- Go's version

std::vector<uint8_t> GoBuildInfo(const std::string& version) {
  std::vector<uint8_t> data(32, 0);
  std::memcpy(data.data(), "\xff Go buildinf:", 14);
  data[14] = 8;
  data[15] = 2;
  data.push_back(static_cast<uint8_t>(version.size()));
  data.insert(data.end(), version.begin(), version.end());
  data.push_back(0);
  return data;
}

bool IsKnown(const std::vector<uint8_t>& data) { return IsKnownGo(data.data(), data.size()); }

TEST(GoVersionTest, FromGo119ToGo126) {
  for (const char* version :
       {"go1.19", "go1.19.13", "go1.20.14", "go1.21rc2", "go1.22.3 X:boringcrypto", "go1.25.5",
        "go1.26", "go1.26.8", "go1.26-custom"}) {
    EXPECT_TRUE(IsKnown(GoBuildInfo(version))) << version;
  }
  for (const char* version :
       {"go1.18.10", "go1.27", "go1.27.1", "go9.99", "go9.99.8", "go1.190", "go1.2", "go1.", "go1",
        "go2.20", "devel go1.24-8a2b", "unknown", ""}) {
    EXPECT_FALSE(IsKnown(GoBuildInfo(version))) << version;
  }
}

TEST(GoVersionTest, NothingElseIsAVersion) {
  const std::vector<uint8_t> good = GoBuildInfo("go1.22.3");
  ASSERT_TRUE(IsKnown(good));
  for (size_t size = 0; size < 32 + 1 + 5; ++size) {
    EXPECT_FALSE(IsKnownGo(good.data(), size)) << size;
  }
  std::vector<uint8_t> bad = good;
  bad[0] = 0xfe;
  EXPECT_FALSE(IsKnown(bad));
  bad = good;
  bad[15] = 0;  // before Go 1.18: pointers to the strings
  EXPECT_FALSE(IsKnown(bad));
  bad = good;
  bad[32] = 0xff;  // a length of more than one byte
  EXPECT_FALSE(IsKnown(bad));
}

#if defined(__x86_64__)

// --- .debug_frame

struct Loaded {
  uintptr_t bias = 0;
  std::vector<ElfW(Phdr)> headers;
  ModuleIdentity identity;
};

Loaded Describe(uintptr_t address) {
  struct Wanted {
    uintptr_t address;
    Loaded loaded;
  } wanted = {address, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* argument) {
        auto* const w = static_cast<Wanted*>(argument);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
          if (info->dlpi_phdr[i].p_type == PT_LOAD && w->address >= begin &&
              w->address < begin + info->dlpi_phdr[i].p_memsz) {
            w->loaded.bias = info->dlpi_addr;
            w->loaded.headers.assign(info->dlpi_phdr, info->dlpi_phdr + info->dlpi_phnum);
          }
        }
        return 0;
      },
      &wanted);
  Loaded& loaded = wanted.loaded;
  loaded.identity.headers_hash = HashProgramHeaders(loaded.headers.data(), loaded.headers.size());
  for (const ElfW(Phdr) & header : loaded.headers) {
    size_t size;
    if (header.p_type != PT_NOTE) continue;
    const uint8_t* const id =
        FindBuildId(reinterpret_cast<const uint8_t*>(loaded.bias + header.p_vaddr), header.p_memsz,
                    header.p_align, &size);
    if (id == nullptr) continue;
    std::memcpy(loaded.identity.build_id, id, size);
    loaded.identity.build_id_size = size;
  }
  return loaded;
}

class Plugin {
 public:
  explicit Plugin(const char* path) : path_(path), library_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) return;
    call_ = reinterpret_cast<int (*)(int (*)(void*), void*)>(dlsym(library_, "PluginCall"));
    loaded_ = Describe(address());
    RegisterModule({loaded_.bias, loaded_.headers.data(), static_cast<int>(loaded_.headers.size()),
                    /*hidden=*/false});
  }
  ~Plugin() {
    if (library_ == nullptr) return;
    const uintptr_t gone = loaded_.bias;
    dlclose(library_);
    UnregisterModule(gone);
  }
  bool ok() const { return call_ != nullptr; }
  uintptr_t address() const { return reinterpret_cast<uintptr_t>(call_); }
  const Loaded& loaded() const { return loaded_; }
  const std::string& path() const { return path_; }
  ModuleFile ReadFile() const { return ReadModuleFile(path_.c_str(), loaded_.identity); }
  void AddFile() const {
    const ModuleFile file = ReadFile();
    AddToModule(loaded_.bias, file.debug_frame, file.known_go);
  }

  __attribute__((noinline)) Stack Walk(ThreadUnwindCache* cache) const {
    struct Arguments {
      ThreadUnwindCache* cache;
      Stack stack;
    } arguments = {cache, {}};
    call_(
        [](void* argument) {
          auto* a = static_cast<Arguments*>(argument);
          a->stack = StackHere(a->cache);
          return 1;
        },
        &arguments);
    return arguments.stack;
  }

 private:
  const std::string path_;
  void* library_;
  int (*call_)(int (*)(void*), void*) = nullptr;
  Loaded loaded_;
};

constexpr int kPluginFrames = 4;  // Walk, PluginCall, Inner, the function that they call

class DebugFrameTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(InitUnwinder("own"));
    UnregisterAllModules();
    RegisterLoadedModules();
  }
  ThreadUnwindCache* cache() const { return cache_.get(); }

 private:
  OwnedUnwindCache cache_;
};

TEST_F(DebugFrameTest, IsAllThatLeadsThroughTheLibrary) {
  const Plugin plugin(DEBUG_FRAME_PLUGIN_A);
  ASSERT_TRUE(plugin.ok()) << dlerror();
  const Stack outer = StackHere(cache());
  EXPECT_EQ(FramesAbove(plugin.Walk(cache()), outer), -1);  // its frames cannot be found otherwise
  plugin.AddFile();
  for (int walk = 0; walk < 3; ++walk) {
    EXPECT_EQ(FramesAbove(plugin.Walk(cache()), outer), kPluginFrames);
  }
}

TEST_F(DebugFrameTest, IsKeptForTheNextTimeButNotForAnotherLibrary) {
  int same_address = 0;
  uintptr_t last = 0;
  const DebugFrame* kept[2] = {};
  const Stack outer = StackHere(cache());
  for (int i = 0; i < 10; ++i) {
    const Plugin plugin(i % 2 == 0 ? DEBUG_FRAME_PLUGIN_A : DEBUG_FRAME_PLUGIN_B);
    ASSERT_TRUE(plugin.ok()) << dlerror();
    if (plugin.loaded().bias == last) ++same_address;
    last = plugin.loaded().bias;
    const DebugFrame* const frames = plugin.ReadFile().debug_frame;
    ASSERT_NE(frames, nullptr);
    if (i >= 2) {
      EXPECT_EQ(frames, kept[i % 2]);
    }
    kept[i % 2] = frames;
    plugin.AddFile();
    for (int walk = 0; walk < 2; ++walk) {
      EXPECT_EQ(FramesAbove(plugin.Walk(cache()), outer), kPluginFrames) << i;
    }
  }
  EXPECT_NE(kept[0], kept[1]);
  EXPECT_GT(same_address, 0) << "the libraries never had the same address: nothing was tested";
}

TEST_F(DebugFrameTest, HoldsWhatEhFrameDoesNotDescribe) {
  const Plugin plugin(DEBUG_FRAME_PLUGIN_A);
  ASSERT_TRUE(plugin.ok()) << dlerror();
  const DebugFrame* const frames = plugin.ReadFile().debug_frame;
  ASSERT_NE(frames, nullptr);
  EXPECT_EQ(frames->count, 2u);  // PluginCall and Inner
  FrameInfo info;
  EXPECT_TRUE(FindFrameInfo(*frames, plugin.address() - plugin.loaded().bias, &info));
  EXPECT_EQ(info.pc_begin, plugin.address() - plugin.loaded().bias);
  EXPECT_FALSE(FindFrameInfo(*frames, 0, &info));
  EXPECT_FALSE(FindFrameInfo(*frames, ~uintptr_t{0}, &info));
  // Ordinary libraries keep nothing.
  const Plugin other(UNWINDER_TEST_PLUGIN_A);
  ASSERT_TRUE(other.ok()) << dlerror();
  EXPECT_TRUE(other.ReadFile().tells_nothing());
}

TEST_F(DebugFrameTest, OnlyOfTheFileThatWasLoaded) {
  const Plugin plugin(DEBUG_FRAME_PLUGIN_A);
  const Plugin other(DEBUG_FRAME_PLUGIN_B);
  ASSERT_TRUE(plugin.ok() && other.ok()) << dlerror();
  ASSERT_EQ(plugin.loaded().identity.build_id_size, 20u);
  const char* const path = plugin.path().c_str();
  EXPECT_FALSE(ReadModuleFile(path, plugin.loaded().identity).tells_nothing());
  ModuleIdentity identity = plugin.loaded().identity;
  identity.build_id[19] ^= 1;
  EXPECT_TRUE(ReadModuleFile(path, identity).tells_nothing());
  identity = plugin.loaded().identity;
  identity.headers_hash ^= 1;
  EXPECT_TRUE(ReadModuleFile(path, identity).tells_nothing());
  EXPECT_TRUE(ReadModuleFile(path, other.loaded().identity).tells_nothing());
  EXPECT_TRUE(ReadModuleFile("/nowhere/at/all", plugin.loaded().identity).tells_nothing());
  EXPECT_TRUE(ReadModuleFile("/", plugin.loaded().identity).tells_nothing());
  EXPECT_TRUE(ReadModuleFile("/dev/zero", plugin.loaded().identity).tells_nothing());
  identity = plugin.loaded().identity;
  identity.build_id_size = 0;  // where there is none, the program headers must do
  EXPECT_FALSE(ReadModuleFile(path, identity).tells_nothing());
}

TEST_F(DebugFrameTest, CompressedSectionsAreNotRead) {
  const Plugin plugin(DEBUG_FRAME_PLUGIN_COMPRESSED);
  ASSERT_TRUE(plugin.ok()) << dlerror();
  EXPECT_TRUE(plugin.ReadFile().tells_nothing());
}

TEST_F(DebugFrameTest, FilesThatAreCutOrDamagedDoNoHarm) {
  const Plugin plugin(DEBUG_FRAME_PLUGIN_A);
  ASSERT_TRUE(plugin.ok()) << dlerror();
  const std::vector<char> whole = Contents(plugin.path());
  const std::string path = testing::TempDir() + "/module_file_test.so";
  std::mt19937 random(4);
  int told = 0;
  // Fewer than are kept: damaged files fill that room.
  for (int round = 0; round < 150; ++round) {
    std::vector<char> bytes = whole;
    if (round % 3 == 0) {
      bytes.resize(random() % bytes.size());
    } else {
      // The headers, or anything.
      const size_t end = round % 3 == 1 ? bytes.size() : 512;
      const size_t begin = round % 6 == 5 ? bytes.size() - 64 * 40 : 0;
      for (int i = 0; i < 30; ++i) {
        bytes[begin + random() % end % (bytes.size() - begin)] ^=
            static_cast<char>(1 << random() % 8);
      }
    }
    Write(path, bytes);
    told += !ReadModuleFile(path.c_str(), plugin.loaded().identity).tells_nothing();
  }
  std::printf("%d of them told something\n", told);
  EXPECT_GT(told, 0);
}

TEST_F(DebugFrameTest, DamagedSectionsAreNeverReadBeyondTheirEnd) {
  const Plugin plugin(DEBUG_FRAME_PLUGIN_A);
  ASSERT_TRUE(plugin.ok()) << dlerror();
  const DebugFrame* const original = plugin.ReadFile().debug_frame;
  ASSERT_NE(original, nullptr);
  const auto size = static_cast<size_t>(original->end - original->begin);
  constexpr size_t kPage = 4096;
  ASSERT_LT(size, kPage);
  auto* const memory = static_cast<uint8_t*>(
      mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory + kPage, kPage, PROT_NONE), 0);
  std::vector<DebugFrame::Entry> entries(MaxDebugFrameEntries(kPage));
  const auto rows = std::make_unique<CfiRows>();
  std::mt19937 random(5);
  long found = 0;
  for (int round = 0; round < 50'000; ++round) {
    const size_t cut = round % 2 == 0 ? 0 : random() % size;
    uint8_t* const begin = memory + kPage - (size - cut);
    std::memcpy(begin, original->begin, size - cut);
    for (int i = 0; i < 5; ++i) begin[random() % (size - cut)] ^= 1u << random() % 8;
    DebugFrame section = {begin, memory + kPage, original->base, entries.data(), 0};
    const size_t count = IndexDebugFrame(section, original->base + 0x10000, {}, 0, entries.data());
    ASSERT_LE(count, MaxDebugFrameEntries(size));
    section.count = count;
    for (int i = 0; i < 4; ++i) {
      FrameInfo info;
      const uintptr_t pc = original->base + random() % 0x200;
      if (FindFrameInfo(section, pc, &info) && RunCfiProgram(info, pc, rows.get())) ++found;
    }
  }
  EXPECT_GT(found, 1000);
  munmap(memory, 2 * kPage);
}

TEST_F(DebugFrameTest, EntriesAreSortedWhateverTheirOrder) {
  // A CIE, and FDEs for functions of 16 bytes from the last to the first, one that was left out by
  // the linker and one in 64-bit DWARF among them.
  std::vector<uint8_t> bytes;
  const auto put = [&bytes](uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
  };
  put(16, 4);
  put(0xffffffff, 4);
  for (const int byte : {1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1, 0, 0}) {
    put(static_cast<uint64_t>(byte), 1);
  }
  constexpr int kFunctions = 1000;
  for (int i = kFunctions - 1; i >= 0; --i) {
    put(20, 4);
    put(0, 4);
    put(i == 500 ? 0 : 0x1000 + static_cast<uint64_t>(i) * 16, 8);
    put(16, 8);
  }
  put(0xffffffff, 4);
  put(24, 8);
  put(0, 8);
  put(0x1000 + kFunctions * 16, 8);
  put(16, 8);
  DebugFrame section = {bytes.data(), bytes.data() + bytes.size(), 0x1000, nullptr, 0};
  std::vector<DebugFrame::Entry> entries(MaxDebugFrameEntries(bytes.size()));
  section.count = IndexDebugFrame(section, 0x100000, {}, 0, entries.data());
  section.entries = entries.data();
  EXPECT_EQ(section.count, size_t{kFunctions});
  for (uintptr_t i = 0; i <= kFunctions; ++i) {
    FrameInfo info;
    ASSERT_EQ(FindFrameInfo(section, 0x1000 + i * 16 + 7, &info), i != 500) << i;
    if (i != 500) {
      EXPECT_EQ(info.pc_begin, 0x1000 + i * 16);
    }
  }
}

#endif  // __x86_64__

}  // namespace
}  // namespace ollamatrace::capture
