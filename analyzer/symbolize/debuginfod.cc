#include "analyzer/symbolize/debuginfod.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

// elfutils/debuginfod.h. Loaded and not linked: the library brings an HTTP client with it, which
// few need.
using BeginFunction = void* (*)();
using EndFunction = void (*)(void*);
using FindFunction = int (*)(void*, const unsigned char* build_id, int length, char** path);
using ProgressFunction = int (*)(void*, long done, long in_all);
using SetProgressFunction = void (*)(void*, ProgressFunction);
using SetUserDataFunction = void (*)(void*, void*);
using GetUserDataFunction = void* (*)(void*);

GetUserDataFunction get_user_data = nullptr;

template <typename Function>
Function Symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

}  // namespace

Debuginfod::~Debuginfod() {
  if (client_ != nullptr) Symbol<EndFunction>(library_, "debuginfod_end")(client_);
  // The library stays loaded: its HTTP client has exit handlers.
}

bool Debuginfod::Start() {
  if (started_) return client_ != nullptr;
  started_ = true;
  const char* servers = std::getenv("DEBUGINFOD_URLS");
  if (servers == nullptr || *servers == '\0') return false;
  library_ = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) {
    trouble_ =
        "DEBUGINFOD_URLS is set, and libdebuginfod.so.1 (package libdebuginfod1) is not there";
    return false;
  }
  const auto begin = Symbol<BeginFunction>(library_, "debuginfod_begin");
  const auto set_progress = Symbol<SetProgressFunction>(library_, "debuginfod_set_progressfn");
  const auto set_user_data = Symbol<SetUserDataFunction>(library_, "debuginfod_set_user_data");
  get_user_data = Symbol<GetUserDataFunction>(library_, "debuginfod_get_user_data");
  if (begin == nullptr || set_progress == nullptr || set_user_data == nullptr ||
      get_user_data == nullptr || Symbol<EndFunction>(library_, "debuginfod_end") == nullptr ||
      Symbol<FindFunction>(library_, "debuginfod_find_executable") == nullptr ||
      Symbol<FindFunction>(library_, "debuginfod_find_debuginfo") == nullptr) {
    trouble_ = "libdebuginfod.so.1 is too old: elfutils 0.180 or later is needed";
    return false;
  }
  client_ = begin();
  if (client_ == nullptr) {
    trouble_ = "debuginfod: the client cannot be started";
    return false;
  }
  set_user_data(client_, this);
  set_progress(client_, [](void* client, long done, long in_all) {
    const auto* self = static_cast<const Debuginfod*>(get_user_data(client));
    if (self->progress_) {
      self->progress_(self->name_, static_cast<uint64_t>(std::max(done, 0L)),
                      static_cast<uint64_t>(std::max(in_all, 0L)));
    }
    return 0;  // go on
  });
  return true;
}

std::string Debuginfod::Find(Kind kind, const std::string& build_id, std::string_view name) {
  if (build_id.empty() || !Start()) return "";
  name_ = absl::StrCat("fetching ", absl::string_view(name.data(), name.size()));
  const auto find =
      Symbol<FindFunction>(library_, kind == Kind::kExecutable ? "debuginfod_find_executable"
                                                               : "debuginfod_find_debuginfo");
  char* path = nullptr;
  const int result = find(client_, reinterpret_cast<const unsigned char*>(build_id.data()),
                          static_cast<int>(build_id.size()), &path);
  if (result >= 0) {
    close(result);
    std::string found = path == nullptr ? "" : path;
    std::free(path);
    return found;
  }
  // No server has it. Whatever else went wrong goes wrong again, after the same wait.
  if (result != -ENOENT) {
    trouble_ = absl::StrCat("debuginfod: ", std::strerror(-result),
                            "; the servers of DEBUGINFOD_URLS are asked no more");
    Symbol<EndFunction>(library_, "debuginfod_end")(std::exchange(client_, nullptr));
  }
  return "";
}

std::string Debuginfod::TakeTrouble() { return std::exchange(trouble_, ""); }

}  // namespace ollamatrace
