// A library whose code has no .eh_frame, only .debug_frame, and keeps no frame pointer: rbp holds
// something else while it calls back. PLUGIN_FRAME_BYTES and PLUGIN_NUMBER differ between builds.

namespace {

template <typename T>
__attribute__((noinline)) int Inner(int (*function)(void*), T* argument) {
  volatile char frame[PLUGIN_FRAME_BYTES];
  frame[0] = 1;
  __asm__ volatile("mov $0x12345678, %%ebp" : : : "rbp");
  const int result = function(argument);
  return result + frame[0];
}

}  // namespace

extern "C" __attribute__((visibility("default"), noinline)) int PluginCall(int (*function)(void*),
                                                                           void* argument) {
  const int result = Inner(function, argument);
  __asm__ volatile("mov $0x12345678, %%ebp" : : : "rbp");
  return result + PLUGIN_NUMBER;
}
