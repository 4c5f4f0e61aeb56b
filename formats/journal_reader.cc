#include "formats/journal_reader.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "formats/event_order.h"

namespace ollamatrace {
namespace {

uint8_t TagOf(const std::string& record) { return static_cast<uint8_t>(record[0]); }

// Module, Thread and GpuPlace records come before what refers to them, all others after it.
bool Defines(const std::string& record) {
  return TagOf(record) == static_cast<uint8_t>(Tag::kModule) ||
         TagOf(record) == static_cast<uint8_t>(Tag::kThread) ||
         TagOf(record) == static_cast<uint8_t>(Tag::kGpuPlace);
}

class Delivery {
 public:
  Delivery(const JournalSnapshot& snapshot, RecordDecoder& decoder, TraceVisitor& visitor,
           ReadSummary& summary)
      : snapshot_(snapshot),
        decoder_(decoder),
        visitor_(visitor),
        summary_(summary),
        scale_(snapshot.anchors),
        ring_by_number_(kMaxRings, nullptr) {
    for (const JournalSnapshot::Ring& ring : snapshot.rings) ring_by_number_[ring.number] = &ring;
  }

  void Run() {
    Header();
    Definitions(/*defining=*/true);
    Nodes();
    decoder_.StartChunk();
    Decode(snapshot_.staged, "the records staged in the journal");
    Blocks();
    Mappings();
    Events();
    Counters();
    Definitions(/*defining=*/false);
    Losses();
  }

 private:
  void Decode(absl::string_view records, absl::string_view what) {
    const absl::Status status = decoder_.Decode(records);
    if (!status.ok()) {
      summary_.AddNote(
          absl::StrCat(what, " are damaged, the rest was skipped: ", status.message()));
    }
  }

  void Header() {
    const bool is_header = !snapshot_.identity.empty() &&
                           TagOf(snapshot_.identity) == static_cast<uint8_t>(Tag::kHeader);
    if (is_header && !decoder_.header_seen()) Decode(snapshot_.identity, "the journal's identity");
  }

  void Definitions(bool defining) {
    for (const std::string& record : snapshot_.definitions) {
      if (Defines(record) != defining) continue;
      if (TagOf(record) < static_cast<uint8_t>(Tag::kLengthPrefixed)) {
        summary_.AddNote("a definition in the journal is damaged: skipped");
        continue;
      }
      Decode(record, "definitions in the journal");
    }
  }

  void Nodes() {
    for (size_t id = 1; id < snapshot_.nodes.size(); ++id) {
      const StackNode& node = snapshot_.nodes[id];
      if (node.address == 0) continue;
      visitor_.OnNode(NodeRecord{StackId{static_cast<uint32_t>(id)}, StackId{node.parent},
                                 ModuleId{node.module & ~kNodeExact}, node.address,
                                 static_cast<uint8_t>((node.module & kNodeExact) != 0)});
    }
  }

  static AllocRecord AllocOf(const BlockEntry& block) {
    return {block.time_ns,
            ThreadId{block.thread},
            static_cast<Domain>(EventAttributes(block.packed)),
            static_cast<AllocFunction>(block.packed >> 48 & 15),
            StackId{block.stack},
            block.address ^ uint64_t{EventAttributes(block.packed)} << 56,
            EventSize(block.packed)};
  }

  // Blocks in limbo first, then what became of them, then the others: one of these may have the
  // address that a realloc gave up.
  void Blocks() {
    for (const BlockEntry& block : snapshot_.blocks) {
      if (InTrace(block) || (block.packed & kBlockLimbo) == 0) continue;
      visitor_.OnAlloc(AllocOf(block));
    }
    for (const JournalSnapshot::Ring& ring : snapshot_.rings) {
      if (ring.limbo_address == 0 || Failed(ring, 0, EventKind::kReallocFailed, ring.limbo_address))
        continue;
      visitor_.OnFree(FreeRecord{ring.limbo_ns, ThreadId{ring.thread},
                                 static_cast<Domain>(ring.limbo_domain & 0xff),
                                 ring.limbo_address});
    }
    for (const BlockEntry& block : snapshot_.blocks) {
      if (InTrace(block) || (block.packed & kBlockLimbo) != 0) continue;
      visitor_.OnAlloc(AllocOf(block));
    }
  }

  static bool InTrace(const BlockEntry& block) { return (block.packed & kBlockUnknown) != 0; }

  // Whether event `index` of the ring says that the call before it failed.
  static bool Failed(const JournalSnapshot::Ring& ring, size_t index, EventKind outcome,
                     uint64_t address) {
    return index < ring.events.size() && EventKindOf(ring.events[index].packed) == outcome &&
           ring.events[index].address == address;
  }

  // Young mappings and unmaps without outcome, by time: a map takes its time after the call, an
  // unmap before it, so that of two with a common address the later one has the later time.
  void Mappings() {
    struct Change {
      uint64_t time_ns;
      const MappingEntry* map;
      const PendingUnmap* unmap;
    };
    std::vector<Change> changes;
    for (const MappingEntry& map : snapshot_.mappings) changes.push_back({map.time_ns, &map, {}});
    for (const PendingUnmap& unmap : snapshot_.pending_unmaps) {
      const JournalSnapshot::Ring* ring =
          unmap.ring < kMaxRings ? ring_by_number_[unmap.ring] : nullptr;
      if (ring != nullptr && Failed(*ring, 0, EventKind::kUnmapFailed, unmap.address)) continue;
      changes.push_back({unmap.time_ns, {}, &unmap});
    }
    std::stable_sort(changes.begin(), changes.end(),
                     [](const Change& a, const Change& b) { return a.time_ns < b.time_ns; });
    for (const Change& change : changes) {
      if (change.map != nullptr) {
        const MappingEntry& map = *change.map;
        visitor_.OnMap(MapRecord{map.time_ns, ThreadId{map.thread},
                                 static_cast<AllocFunction>(map.function), StackId{map.stack},
                                 map.address, map.length, static_cast<uint8_t>(map.protection),
                                 static_cast<uint8_t>(map.kind)});
      } else {
        const PendingUnmap& unmap = *change.unmap;
        visitor_.OnUnmap(
            UnmapRecord{unmap.time_ns, ThreadId{unmap.thread}, unmap.address, unmap.length});
      }
    }
  }

  void Events() {
    const uint64_t contradictions = ForEachEventInOrder(
        snapshot_.rings,
        [this](size_t ring, size_t index) { OneEvent(snapshot_.rings[ring], index); });
    if (contradictions != 0) {
      summary_.AddNote(absl::StrCat("the journal's order of events is damaged in ", contradictions,
                                    " places: single blocks may be wrong"));
    }
  }

  void OneEvent(const JournalSnapshot::Ring& ring, size_t index) {
    const Event& event = ring.events[index];
    const uint64_t time_ns = scale_.ToNs(event.ticks);
    const ThreadId thread{ring.thread};
    const uint8_t attributes = EventAttributes(event.packed);
    const uint64_t size = EventSize(event.packed);
    switch (EventKindOf(event.packed)) {
      case EventKind::kAlloc:
      case EventKind::kReallocDone:
        visitor_.OnAlloc(AllocRecord{time_ns, thread, static_cast<Domain>(attributes),
                                     EventFunction(event.packed), StackId{event.stack},
                                     event.address, size});
        break;
      case EventKind::kReallocFree:
        if (Failed(ring, index + 1, EventKind::kReallocFailed, event.address)) break;
        [[fallthrough]];
      case EventKind::kFree:
        visitor_.OnFree(
            FreeRecord{time_ns, thread, static_cast<Domain>(attributes), event.address});
        break;
      case EventKind::kMap:
        visitor_.OnMap(MapRecord{time_ns, thread, EventFunction(event.packed), StackId{event.stack},
                                 event.address, size, static_cast<uint8_t>(attributes & 7),
                                 static_cast<uint8_t>(attributes >> 4)});
        break;
      case EventKind::kUnmap:
        if (Failed(ring, index + 1, EventKind::kUnmapFailed, event.address)) break;
        visitor_.OnUnmap(UnmapRecord{time_ns, thread, event.address, size});
        break;
      case EventKind::kReallocFailed:
      case EventKind::kReallocFreed:
      case EventKind::kUnmapFailed:
      case EventKind::kNothing:
        break;
    }
  }

  void Counters() {
    for (const CounterSlot& slot : snapshot_.counters) {
      if ((slot.domain & kWeightSlot) != 0) {
        WeightSlot weights;
        memcpy(&weights, &slot, sizeof weights);
        visitor_.OnWeights(WeightsRecord{
            StackId{slot.stack}, static_cast<Domain>(slot.domain & ~kWeightSlot), weights.blocks,
            weights.bytes, weights.blocks_variance, weights.bytes_variance});
        continue;
      }
      visitor_.OnCounters(CountersRecord{StackId{slot.stack}, static_cast<Domain>(slot.domain),
                                         slot.pairs, slot.bytes, slot.lifetime_ns, slot.peak_bytes,
                                         slot.first_ns, slot.last_ns});
    }
  }

  void Losses() {
    for (size_t kind = 0; kind < snapshot_.losses.size(); ++kind) {
      if (snapshot_.losses[kind] == 0) continue;
      visitor_.OnLoss(
          LossRecord{snapshot_.anchors.ns1, static_cast<LossKind>(kind), snapshot_.losses[kind]});
    }
  }

  const JournalSnapshot& snapshot_;
  RecordDecoder& decoder_;
  TraceVisitor& visitor_;
  ReadSummary& summary_;
  const TickScale scale_;
  std::vector<const JournalSnapshot::Ring*> ring_by_number_;
};

}  // namespace

void DeliverJournal(const JournalSnapshot& snapshot, RecordDecoder& decoder, TraceVisitor& visitor,
                    ReadSummary& summary) {
  for (const std::string& note : snapshot.notes) summary.AddNote(note);
  Delivery(snapshot, decoder, visitor, summary).Run();
}

}  // namespace ollamatrace
