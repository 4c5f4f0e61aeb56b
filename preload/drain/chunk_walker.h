#ifndef OLLAMATRACE_PRELOAD_DRAIN_CHUNK_WALKER_H_
#define OLLAMATRACE_PRELOAD_DRAIN_CHUNK_WALKER_H_

// Goes through a chunk of the drain's own, records or columns, some events at a time.

#include <cstddef>
#include <cstdint>

#include "formats/chunk_index.h"
#include "formats/column_reader.h"
#include "formats/record_walker.h"

namespace ollamatrace {

// Plain data, zeroed: at the end of a chunk.
class ChunkWalker {
 public:
  // Any memory will do.
  void Init(ColumnReader* columns) { columns_ = columns; }

  // raw[0, size) has to stay until the last Next.
  void Start(uint16_t kind, const uint8_t* raw, size_t size) {
    event_ = events_ = 0;
    in_columns_ = kind == static_cast<uint16_t>(ChunkKind::kColumns);
    records_.Start(raw, in_columns_ ? 0 : size);
    if (in_columns_) columns_->Start(raw, size);
  }

  // As RecordWalker::Next, but for nodes of columns: the journal has them.
  template <typename Sink>
  WalkResult Next(Sink* sink) {
    while (in_columns_ && records_.left() == 0) {
      while (event_ < events_) {
        if (Deliver(columns_->events()[event_++], sink)) return WalkResult::kMore;
      }
      event_ = events_ = 0;
      switch (columns_->Next()) {
        case ColumnReader::Got::kNodes:
          break;
        case ColumnReader::Got::kEvents:
          events_ = columns_->count();
          break;
        case ColumnReader::Got::kRecords:
          records_.Start(columns_->records(), columns_->record_bytes());
          break;
        case ColumnReader::Got::kEnd:
          return WalkResult::kEnd;
        case ColumnReader::Got::kBad:
          return WalkResult::kBad;
      }
    }
    return records_.Next(sink);
  }

 private:
  template <typename Sink>
  bool Deliver(const ColumnEvent& event, Sink* sink) const {
    switch (event.kind) {
      case ColumnEvent::Kind::kAlloc: {
        const ColumnEntry& entry = columns_->entry(event.entry);
        sink->OnAlloc(AllocRecord{event.time_ns, ThreadId{event.thread}, Domain::kHeap,
                                  static_cast<AllocFunction>(entry.function), StackId{entry.stack},
                                  event.address, event.size});
        return true;
      }
      case ColumnEvent::Kind::kFree:
        sink->OnFree(
            FreeRecord{event.time_ns, ThreadId{event.thread}, Domain::kHeap, event.address});
        return true;
      case ColumnEvent::Kind::kReplaced:
        break;  // the alloc at its address, which is next, says as much
    }
    return false;
  }

  RecordWalker records_;
  ColumnReader* columns_ = nullptr;
  uint32_t event_ = 0, events_ = 0;  // of the batch
  bool in_columns_ = false;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_CHUNK_WALKER_H_
