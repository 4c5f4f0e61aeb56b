// A library to load and unload: one function, whose frame has another size in each of the two
// builds, at the same address.

extern "C" __attribute__((visibility("default"), noinline)) int PluginCall(int (*function)(void*),
                                                                           void* argument) {
  volatile char frame[PLUGIN_FRAME_BYTES];
  frame[0] = 1;
  const int result = function(argument);
  return result + frame[0];
}
