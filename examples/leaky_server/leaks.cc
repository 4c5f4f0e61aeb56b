#include "examples/leaky_server/leaks.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace leaky {
namespace {

constexpr struct {
  std::string_view name;
  unsigned leak;
} kNames[] = {{"request", kRequestLeak}, {"cache", kCacheLeak},     {"once", kOnceLeak},
              {"plugin", kPluginLeak},   {"mapping", kMappingLeak}, {"runner", kRunnerLeak},
              {"all", kAllLeaks},        {"none", kNoLeak}};

// The compiler may drop an allocation that nobody looks at; this looks at it.
inline void Touch(void* block) { asm volatile("" : : "r"(block) : "memory"); }

// Always inlined: a report that knows no inlined frames blames LeakPrompt instead.
[[gnu::always_inline]] inline int CopyPrompt(const char* prompt) {
  if (prompt == kWhere) return __LINE__ + 1;
  char* copy = static_cast<char*>(malloc(kRequestBytes));
  if (copy == nullptr) return 0;
  snprintf(copy, kRequestBytes, "%s", prompt);
  Touch(copy);
  return 1;
}

struct Plugin {
  std::mutex mutex;
  void* handle = nullptr;
  int (*transform)(const char* prompt) = nullptr;
};

// Never destroyed: a worker may still be in a request while the process exits.
Plugin& ThePlugin() {
  static Plugin& plugin = *new Plugin;
  return plugin;
}

void AppendExpected(std::string* json, const char* leak, const char* function, const char* file,
                    int line, const char* domain, const char* process, const char* module,
                    size_t bytes, unsigned every) {
  char text[512];
  snprintf(text, sizeof text,
           "%s  {\"leak\": \"%s\", \"function\": \"%s\", \"file\": \"%s\", \"line\": %d, "
           "\"domain\": \"%s\", \"process\": \"%s\", \"module\": \"%s\", \"bytes\": %zu, "
           "\"every\": %u}",
           json->empty() ? "[\n" : ",\n", leak, function, file, line, domain, process, module,
           bytes, every);
  json->append(text);
}

}  // namespace

bool ParseLeaks(std::string_view text, unsigned* leaks) {
  unsigned found = kNoLeak;
  while (!text.empty()) {
    const std::string_view name = text.substr(0, text.find(','));
    text.remove_prefix(name.size() == text.size() ? name.size() : name.size() + 1);
    bool known = false;
    for (const auto& candidate : kNames) {
      if (candidate.name != name) continue;
      found |= candidate.leak;
      known = true;
    }
    if (!known) return false;
  }
  *leaks = found;
  return true;
}

[[gnu::noinline]] int LeakPrompt(const char* prompt) {
  const int line = CopyPrompt(prompt);
  Touch(nullptr);
  return line;
}

[[gnu::noinline]] int CachePrompt(const char* prompt) {
  static std::mutex& mutex = *new std::mutex;
  static char* entries[kCacheEntries];
  static size_t next = 0;
  if (prompt == kWhere) return __LINE__ + 1;
  char* entry = new char[kCacheEntryBytes];
  snprintf(entry, kCacheEntryBytes, "%s", prompt);
  const std::lock_guard<std::mutex> lock(mutex);
  delete[] entries[next];  // the oldest makes room once the cache is full
  entries[next] = entry;
  next = (next + 1) % kCacheEntries;
  return 1;
}

[[gnu::noinline]] int MakeTableOnce(const char* prompt) {
  static std::atomic<char*> table{nullptr};
  static std::atomic<bool> made{false};
  if (prompt != kWhere && made.exchange(true)) return 1;
  if (prompt == kWhere) return __LINE__ + 1;
  char* fresh = static_cast<char*>(malloc(kOnceBytes));
  if (fresh != nullptr) memset(fresh, 1, kOnceBytes);
  table.store(fresh);
  return 1;
}

[[gnu::noinline]] int LeakMapping(const char* prompt) {
  static std::atomic<unsigned> requests{0};
  constexpr int kAccess = PROT_READ | PROT_WRITE;
  constexpr int kKind = MAP_PRIVATE | MAP_ANONYMOUS;
  if (prompt != kWhere && requests.fetch_add(1) % kMappingEvery != 0) return 1;
  if (prompt == kWhere) return __LINE__ + 1;
  void* pages = mmap(nullptr, kMappingBytes, kAccess, kKind, -1, 0);
  if (pages != MAP_FAILED) memset(pages, 1, kMappingBytes);
  return 1;
}

[[gnu::noinline]] int LeakInRunner(const char* prompt) {
  if (prompt == kWhere) return __LINE__ + 1;
  char* context = static_cast<char*>(malloc(kRunnerBytes));
  if (context == nullptr) return 0;
  snprintf(context, kRunnerBytes, "%s", prompt);
  Touch(context);
  return 1;
}

bool RunPlugin(const std::string& path, const char* prompt, int* line, std::string* error) {
  Plugin& plugin = ThePlugin();
  // Held during the call: nobody may unload code that is running.
  const std::lock_guard<std::mutex> lock(plugin.mutex);
  if (plugin.handle == nullptr) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* transform = handle == nullptr ? nullptr : dlsym(handle, "leaky_plugin_transform");
    if (transform == nullptr) {
      const char* reason = dlerror();
      *error = reason != nullptr ? reason : path + ": no leaky_plugin_transform";
      if (handle != nullptr) dlclose(handle);
      return false;
    }
    plugin.handle = handle;
    plugin.transform = reinterpret_cast<int (*)(const char*)>(transform);
  }
  *line = plugin.transform(prompt);
  return true;
}

void UnloadPlugin() {
  Plugin& plugin = ThePlugin();
  const std::lock_guard<std::mutex> lock(plugin.mutex);
  if (plugin.handle != nullptr) dlclose(plugin.handle);
  plugin.handle = nullptr;
  plugin.transform = nullptr;
}

bool ExpectedLeaks(const std::string& plugin_path, std::string* json, std::string* error) {
  int plugin_line = 0;
  if (!RunPlugin(plugin_path, kWhere, &plugin_line, error)) return false;
  UnloadPlugin();
  constexpr char kHere[] = "examples/leaky_server/leaks.cc";
  constexpr char kThere[] = "examples/leaky_server/plugin.cc";
  constexpr char kServer[] = "leaky_server";
  json->clear();
  AppendExpected(json, "request", "CopyPrompt", kHere, LeakPrompt(kWhere), "heap", "server",
                 kServer, kRequestBytes, 1);
  AppendExpected(json, "cache", "CachePrompt", kHere, CachePrompt(kWhere), "heap", "server",
                 kServer, kCacheEntryBytes, 1);
  AppendExpected(json, "once", "MakeTableOnce", kHere, MakeTableOnce(kWhere), "heap", "server",
                 kServer, kOnceBytes, 0);
  AppendExpected(json, "plugin", "Tokenize", kThere, plugin_line, "heap", "server",
                 "leaky_plugin.so", kPluginBytes, kPluginEvery);
  AppendExpected(json, "mapping", "LeakMapping", kHere, LeakMapping(kWhere), "mapping", "server",
                 kServer, kMappingBytes, kMappingEvery);
  AppendExpected(json, "runner", "LeakInRunner", kHere, LeakInRunner(kWhere), "heap", "runner",
                 kServer, kRunnerBytes, 1);
  json->append("\n]\n");
  return true;
}

}  // namespace leaky
