#include "cupti/find_cupti.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

#include <initializer_list>

#include "preload/base/sys.h"
#include "preload/base/text.h"

namespace ollamatrace::cupti {
namespace {

constexpr int kMajors[] = {13, 12};

class Search {
 public:
  Search(int driver, FoundCupti* found)
      : driver_major_(driver / 1000), found_(found), tried_(found->tried, sizeof found->tried) {}

  // `loads` is RTLD_NOLOAD, or 0.
  bool Name(const char* name, int loads) {
    void* const handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | loads);
    if (handle == nullptr) return false;
    found_->handle = handle;
    const link_map* map = nullptr;
    const bool known = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0';
    TextWriter(found_->path, sizeof found_->path).Put(known ? map->l_name : name);
    return true;
  }

  // A file that is to be there.
  bool File(const char* path) {
    if (Name(path, 0)) return true;
    const char* const why = dlerror();
    Tried(why != nullptr ? why : path);
    return false;
  }

  // `folder` + `below` + libcupti.so.MAJOR, the newest first. `below` may hold one '%' in the place
  // of the major version.
  bool Folder(const char* folder, const char* below) {
    if (folder == nullptr || folder[0] == '\0') return false;
    for (const int major : kMajors) {
      if (!MayBe(major)) continue;
      char path[kMaxPath];
      TextWriter text(path, sizeof path);
      text.Put(folder);
      for (const char* c = below; *c != '\0'; ++c) {
        if (*c == '%') {
          text.Number(static_cast<uint64_t>(major));
        } else {
          text.Put(*c);
        }
      }
      text.Put("libcupti.so.").Number(static_cast<uint64_t>(major));
      if (text.cut()) continue;
      if (!sys::Failed(sys::Call(__NR_faccessat, AT_FDCWD, sys::Arg(path), 4 /* R_OK */)) &&
          File(path)) {
        return true;
      }
    }
    char place[kMaxPath];
    TextWriter text(place, sizeof place);
    Tried(text.Put(folder).Put(below).cut() ? folder : place);
    return false;
  }

  bool ByLinker(int loads) {
    for (const int major : kMajors) {
      char name[32];
      TextWriter(name, sizeof name).Put("libcupti.so.").Number(static_cast<uint64_t>(major));
      if (MayBe(major) && Name(name, loads)) return true;
    }
    return false;
  }

  void Tried(const char* what) {
    if (tried_.size() > 0) tried_.Put(", ");
    tried_.Put(what);
  }

 private:
  bool MayBe(int major) const { return driver_major_ == 0 || major <= driver_major_; }

  const int driver_major_;
  FoundCupti* const found_;
  TextWriter tried_;
};

// The folder of the CUDA runtime that is loaded, with a slash at its end.
int FindRuntime(dl_phdr_info* info, size_t, void* folder) {
  const char* const name = BaseName(info->dlpi_name);
  constexpr char kRuntime[] = "libcudart.so";
  for (size_t i = 0; i + 1 < sizeof kRuntime; ++i) {
    if (name[i] != kRuntime[i]) return 0;
  }
  TextWriter(static_cast<char*>(folder), kMaxPath)
      .Put(info->dlpi_name, static_cast<size_t>(name - info->dlpi_name));
  return 1;
}

}  // namespace

void FindCupti(const char* wanted, const char* own_folder, int driver, FoundCupti* found) {
  Search search(driver, found);
  if (wanted != nullptr && wanted[0] == '/') {
    search.File(wanted);
    return;
  }
  if (search.ByLinker(RTLD_NOLOAD) || search.Folder(own_folder, "") || search.ByLinker(0)) return;
  search.Tried("the dynamic linker's folders");
  constexpr const char* kToolkit = "/extras/CUPTI/lib64/";
  for (const char* const variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (search.Folder(getenv(variable), kToolkit)) return;
  }
  for (const char* const toolkit : {"/usr/local/cuda", "/usr/local/cuda-%", "/opt/cuda"}) {
    char below[64];
    TextWriter(below, sizeof below).Put(toolkit + 1).Put(kToolkit);
    if (search.Folder("/", below)) return;
  }
  char runtime[kMaxPath] = "";
  dl_iterate_phdr(FindRuntime, runtime);
  // The toolkit's and CUDA 13's wheels; CUDA 12's wheels.
  for (const char* const below : {"", "../extras/CUPTI/lib64/", "../../cuda_cupti/lib/"}) {
    if (search.Folder(runtime, below)) return;
  }
}

}  // namespace ollamatrace::cupti
