// What a process's memory is made of, down to what nobody can say.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_ACCOUNTING_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_ACCOUNTING_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analyzer/replay/process_history.h"

namespace ollamatrace {

enum class Evidence : uint8_t {
  kMeasured,   // the kernel's pages under exact addresses
  kComputed,   // from these and the allocator's known layout
  kEstimated,  // an even share of a mapping whose pages are not known, or a guess that is said
};

struct AccountPart {
  std::string name;       // empty where `key` says it
  uint32_t key = kNoKey;  // of ProcessHistory::layout_keys
  uint64_t bytes = 0;
};

struct AccountRow {
  std::string id;    // stable, for machines: "live_heap", "overhead", "retained", ...
  std::string name;  // for people
  uint64_t bytes = 0;
  Evidence how = Evidence::kMeasured;
  std::vector<AccountPart> parts;  // of `bytes`, greatest first
};

struct AccountFile {
  std::string path;
  uint64_t rss = 0;     // file pages in memory, whoever else uses them
  uint64_t shared = 0;  // of these: other processes have them mapped, too
  bool shmem = false;   // memory behind a path: /dev/shm, memfd
};

// Bytes in memory or in swap.
struct Accounting {
  uint64_t time_ns = 0;
  uint64_t total = 0;            // RssAnon + VmSwap, by its pages: the sum of the rows
  std::vector<AccountRow> rows;  // only those with bytes, but always the unknown
  uint64_t retained = 0;
  uint64_t mapped = 0;  // anonymous mappings of the program's
  uint64_t unknown = 0;
  std::vector<AccountFile> files;  // greatest first
};

// Of a key of ProcessHistory::layout_keys: whether Go's runtime mapped this memory for its heap,
// which only the names of its stack tell.
using IsGoHeap = std::function<bool(uint32_t key)>;

// `history.layout` is there.
Accounting AccountMemory(const ProcessHistory& history, const IsGoHeap& is_go_heap = nullptr);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_ACCOUNTING_H_
