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
    case Domain::kArray:
      return "array";
    case Domain::kAddressSpace:
      return "address-space";
    case Domain::kMapped:
      return "mapped";
    case Domain::kRegistered:
      return "registered";
    case Domain::kGraphExec:
      return "graph-exec";
    case Domain::kImported:
      return "imported";
  }
  return "unknown";
}

}  // namespace ollamatrace
