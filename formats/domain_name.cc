#include "formats/trace_format.h"

namespace ollamatrace {

const char* DomainName(Domain domain) {
  switch (domain) {
    case Domain::kHeap:
      return "heap";
    case Domain::kMapping:
      return "mapping";
    case Domain::kBreak:
      return "break";
    case Domain::kDevice:
      return "device";
    case Domain::kManaged:
      return "managed";
    case Domain::kPinned:
      return "pinned";
    case Domain::kPool:
      return "pool";
    case Domain::kVirtual:
      return "virtual";
    case Domain::kGraph:
      return "graph";
  }
  return "unknown";
}

}  // namespace ollamatrace
