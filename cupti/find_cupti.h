#ifndef OLLAMATRACE_CUPTI_FIND_CUPTI_H_
#define OLLAMATRACE_CUPTI_FIND_CUPTI_H_

// Where a libcupti is: it comes with the CUDA toolkit, with Python wheels and with distributions,
// not with the driver and not with Ollama.

#include <cstddef>

namespace ollamatrace::cupti {

inline constexpr size_t kMaxPath = 4096;

struct FoundCupti {
  void* handle = nullptr;    // dlopen's; nullptr: none
  char path[kMaxPath] = {};  // what was loaded
  char tried[2048] = {};     // folders and names that had none, and why a file could not be loaded
};

// `wanted`: the path that OLLAMATRACE_CUPTI gives, nullptr or "auto" for a search: one that is in
// the process already, beside this library (`own_folder`, with a slash at its end), where the
// dynamic linker looks, in the folders of the toolkit ($CUDA_HOME, $CUDA_PATH, /usr/local/cuda,
// /opt/cuda), beside the CUDA runtime that the process has loaded (also as the wheels lie).
// `driver` is cuDriverGetVersion's (13000 for 13.0; 0: not known): nothing of a greater major
// version is loaded.
void FindCupti(const char* wanted, const char* own_folder, int driver, FoundCupti* found);

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_FIND_CUPTI_H_
