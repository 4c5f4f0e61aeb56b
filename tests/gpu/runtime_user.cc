// A library that is linked with CUDA's runtime, as ggml-cuda is, and is loaded for one program
// alone (RTLD_LOCAL). Its functions are the frames that the tests look for.

#include <cstddef>
#include <cstdint>

struct cudaChannelFormatDesc {
  int x, y, z, w, kind;
};

extern "C" {

int cudaMalloc(void** p, size_t size);
int cudaMallocPitch(void** p, size_t* pitch, size_t width, size_t height);
int cudaFree(void* p);
int cudaMallocManaged(void** p, size_t size, unsigned flags);
int cudaMallocHost(void** p, size_t size);
int cudaFreeHost(void* p);
int cudaMallocAsync(void** p, size_t size, void* stream);
int cudaFreeAsync(void* p, void* stream);
int cudaMallocArray(void** array, const cudaChannelFormatDesc* channels, size_t width,
                    size_t height, unsigned flags);
int cudaFreeArray(void* array);
int cudaGraphInstantiate(void** exec, void* graph, unsigned long long flags);
int cudaGraphExecDestroy(void* exec);
int cudaDeviceReset();

#define DO(call)           \
  const int result = call; \
  return result
#define USER(name) __attribute__((noinline)) int name(void** value, uint64_t a, uint64_t b)

USER(UserMalloc) { DO((static_cast<void>(b), cudaMalloc(value, a))); }
USER(UserMallocPitch) {
  size_t pitch;
  DO(cudaMallocPitch(value, &pitch, a, b));
}
USER(UserFree) { DO((static_cast<void>(a + b), cudaFree(*value))); }
USER(UserManaged) { DO((static_cast<void>(b), cudaMallocManaged(value, a, 1))); }
USER(UserMallocHost) { DO((static_cast<void>(b), cudaMallocHost(value, a))); }
USER(UserFreeHost) { DO((static_cast<void>(a + b), cudaFreeHost(*value))); }
USER(UserMallocAsync) { DO(cudaMallocAsync(value, a, reinterpret_cast<void*>(b))); }
USER(UserFreeAsync) {
  DO((static_cast<void>(a), cudaFreeAsync(*value, reinterpret_cast<void*>(b))));
}
USER(UserMallocArray) {
  const cudaChannelFormatDesc channels = {32, 32, 0, 0, 2};
  DO(cudaMallocArray(value, &channels, a, b, 0));
}
USER(UserFreeArray) { DO((static_cast<void>(a + b), cudaFreeArray(*value))); }
USER(UserInstantiate) { DO((static_cast<void>(a + b), cudaGraphInstantiate(value, nullptr, 0))); }
USER(UserExecDestroy) { DO((static_cast<void>(a + b), cudaGraphExecDestroy(*value))); }
USER(UserReset) { DO((static_cast<void>(value), static_cast<void>(a + b), cudaDeviceReset())); }

}  // extern "C"
