// Reads a chunk of columns. Runs on both sides of the file: no allocation, no exceptions.
#ifndef OLLAMATRACE_FORMATS_COLUMN_READER_H_
#define OLLAMATRACE_FORMATS_COLUMN_READER_H_

#include <cstddef>
#include <cstdint>

#include "formats/column_model.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// An event of the heap.
struct ColumnEvent {
  enum class Kind : uint8_t {
    kAlloc,     // of `block`
    kFree,      // of `block`; when it is 0, of the one at `address`, not from this chunk
    kReplaced,  // `block`, whose free was lost, is gone: the next event is an alloc at its address
  };
  uint64_t time_ns;  // not of kReplaced
  uint64_t address;
  uint64_t size;    // not of a free of block 0
  uint32_t block;   // counted from 1 in the chunk
  uint32_t entry;   // of the block; 0 when that is 0
  uint32_t thread;  // not of kReplaced
  Kind kind;
  // An alloc at an address where a block of an earlier chunk may still be live, when its free was
  // lost. At the other allocs' addresses something was freed within this chunk.
  bool fresh;
};

// Believes nothing: any bytes give events, nodes and records, or kBad. Any memory will do; 5 MiB,
// of which what the chunk needs is touched. Not thread-safe.
class ColumnReader {
 public:
  static constexpr uint32_t kBatchEvents = 1024;
  static constexpr uint32_t kBatchNodes = 256;

  enum class Got { kNodes, kEvents, kRecords, kEnd, kBad };

  // columns[0, size) has to stay until the last Next.
  void Start(const uint8_t* columns, size_t size);
  // What comes next in the chunk, in its order. kNodes: nodes()[0, count()). kEvents:
  // events()[0, count()). kRecords: encoded records, records()[0, record_bytes()), whose delta
  // state starts afresh. After kEnd and kBad the same comes again.
  Got Next();

  uint32_t count() const { return count_; }
  const NodeRecord* nodes() const { return node_batch_; }
  const ColumnEvent* events() const { return event_batch_; }
  const uint8_t* records() const { return records_; }
  size_t record_bytes() const { return record_bytes_; }
  // The stack and the function of a block, by ColumnEvent::entry; below entries() + 1. Those of a
  // batch are there when it is.
  uint32_t entries() const { return blocks_.entries(); }
  const ColumnEntry& entry(uint32_t index) const { return blocks_.entry(index); }
  // Blocks so far, numbered from 1: a block's address and size.
  const ColumnBlock& block(uint32_t index) const { return blocks_.block(index); }
  uint32_t blocks() const { return blocks_.blocks(); }

 private:
  struct Bytes {
    const uint8_t* next;
    const uint8_t* end;
  };

  Got Bad();
  bool StartStretch();
  Got Nodes();
  Got Events();
  bool Event(ColumnKind kind, ColumnEvent* event);
  bool Alloc(uint32_t entry, ColumnEvent* event);
  bool OtherFree(ColumnEvent* event);
  bool Moment(ColumnEvent* event);
  bool Run();

  Bytes& In(Column column) { return in_[static_cast<uint32_t>(column)]; }
  bool Byte(Column column, uint8_t* value);
  bool Number(Column column, uint64_t* value);
  bool Number32(Column column, uint32_t* value);
  bool Delta32(Column column, uint32_t base, uint32_t* value);

  Bytes in_[kColumnCount];
  bool bad_;
  uint32_t time_shift_;
  uint64_t time_;
  uint32_t thread_;
  uint32_t events_;  // so far
  uint64_t nodes_;   // to come, in this stretch
  bool run_next_;    // a run of records ends the stretch

  uint32_t count_;
  const uint8_t* records_;
  size_t record_bytes_;
  NodeRecord node_batch_[kBatchNodes];
  ColumnEvent event_batch_[kBatchEvents];

  SymbolHistory history_;
  NodePlaces places_;
  ColumnBlocks blocks_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_COLUMN_READER_H_
