// The leaks planted in leaky_server, each in a function of its own.
//
// A leaking function that is called with `kWhere` does nothing but answer the line of its
// allocation, so that `--expect` tells the truth about the very binary that prints it.
#ifndef OLLAMATRACE_EXAMPLES_LEAKY_SERVER_LEAKS_H_
#define OLLAMATRACE_EXAMPLES_LEAKY_SERVER_LEAKS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace leaky {

// What a request may leak; a set is the bitwise or.
enum Leak : unsigned {
  kNoLeak = 0,
  kRequestLeak = 1u << 0,  // a copy of each prompt is dropped
  kCacheLeak = 1u << 1,  // a cache that is full at kCacheEntries: no leak, though it looks like one
  kOnceLeak = 1u << 2,   // one table, made by the first request: no leak
  kPluginLeak = 1u << 3,   // the plug-in drops a buffer now and then; it is unloaded later
  kMappingLeak = 1u << 4,  // a mapping now and then, never unmapped
  kRunnerLeak = 1u << 5,  // the child process drops a buffer for each request, then dies by SIGKILL
  kAllLeaks = (1u << 6) - 1,
};

inline constexpr size_t kRequestBytes = 4096;
inline constexpr size_t kCacheEntryBytes = 8192;
inline constexpr size_t kCacheEntries = 64;
inline constexpr size_t kOnceBytes = 1 << 20;
inline constexpr size_t kMappingBytes = 256 << 10;
inline constexpr unsigned kMappingEvery = 4;
inline constexpr size_t kPluginBytes = 16 << 10;
inline constexpr unsigned kPluginEvery = 5;
inline constexpr size_t kRunnerBytes = 32 << 10;

// Reads "request,plugin", "all" or "none". False, and `leaks` unchanged, for anything else.
bool ParseLeaks(std::string_view text, unsigned* leaks);

// For a leaking function's `prompt`: leak nothing, answer the line of the allocation.
inline constexpr const char* kWhere = nullptr;

// Each returns the line of its allocation. `prompt` ends with a NUL. Thread safe.
int LeakPrompt(const char* prompt);
int CachePrompt(const char* prompt);
int MakeTableOnce(const char* prompt);
int LeakMapping(const char* prompt);
int LeakInRunner(const char* prompt);

// The plug-in (`leaky_plugin.so`), loaded by the first call and kept until UnloadPlugin.
// False when it cannot be loaded: `*error` says why.
bool RunPlugin(const std::string& path, const char* prompt, int* line, std::string* error);
void UnloadPlugin();

// The JSON list that `--expect` prints: one object for each planted leak.
bool ExpectedLeaks(const std::string& plugin_path, std::string* json, std::string* error);

}  // namespace leaky

#endif  // OLLAMATRACE_EXAMPLES_LEAKY_SERVER_LEAKS_H_
