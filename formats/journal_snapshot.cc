#include "formats/journal_snapshot.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "formats/encode.h"
#include "formats/journal_owner.h"

namespace ollamatrace {
namespace {

// A copy of [offset, offset + bytes.size()) of the journal.
struct Section {
  uint64_t offset = 0;
  std::vector<uint8_t> bytes;

  bool empty() const { return bytes.empty(); }
  template <typename T>
  T Get(uint64_t at) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    if (at + sizeof(T) <= bytes.size()) memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
  }
};

// A field of the journal's header, from a copy of its page.
#define JOURNAL_FIELD(page, type, name) (page).Get<type>(offsetof(JournalHeader, name))

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void SleepNs(long ns) {
  const timespec duration{0, ns};
  nanosleep(&duration, nullptr);
}

// Called before each piece of the journal is copied.
class PieceListener {
 public:
  virtual ~PieceListener() = default;
  virtual void OnPiece() {}
};

// Copies a journal once. Aligned words are copied whole: what pread copies lies in the page cache,
// where the owner's stores go, and the kernel copies in words and longer.
class Copier {
 public:
  Copier(ByteSource& source, PieceListener& listener, bool alive)
      : source_(source), listener_(listener), alive_(alive) {}

  // Copies what the drain changes, and what goes with it.
  absl::Status Copy();
  // Copies what only ever grows, as far as the copy above refers to it. Needs no pause.
  void CopyFixed();
  // Whether the drain changed nothing from the beginning of the copy to its end.
  bool unchanged() const { return unchanged_; }
  // Whether a batch was going on.
  bool in_batch() const { return in_batch_; }
  JournalSnapshot TakeSnapshot() { return std::move(snapshot_); }

 private:
  bool Read(uint64_t offset, uint64_t size, Section& section);
  bool ReadHeader(Section& page) { return Read(0, kJournalPage, page); }
  void Undo(Section& section) const;
  // The entries of a section below `before` and below `after` (the counts before and after the
  // undo), or what the limits allow of them.
  Section ReadEntries(absl::string_view name, uint64_t offset, uint64_t before, uint64_t after,
                      uint64_t limit, size_t entry_bytes);
  void ReadRings(const Section& sure, const Section& entries);
  void ReadDefinitions(uint64_t tail, uint64_t head);
  template <typename T, typename Wanted>
  void Keep(const Section& section, uint64_t count, std::vector<T>& out, Wanted wanted);
  void Note(std::string note) {
    if (snapshot_.notes.size() < 16) snapshot_.notes.push_back(std::move(note));
  }

  ByteSource& source_;
  PieceListener& listener_;
  const bool alive_;
  std::vector<uint64_t> undo_;
  bool unchanged_ = true;
  bool in_batch_ = false;
  uint32_t next_node_ = 0;
  uint32_t identity_bytes_ = 0;
  JournalSnapshot snapshot_;
};

bool Copier::Read(uint64_t offset, uint64_t size, Section& section) {
  constexpr uint64_t kPieceBytes = 4u << 20;
  section.offset = offset;
  section.bytes.resize(size);
  for (uint64_t done = 0; done < size;) {
    listener_.OnPiece();
    const uint64_t piece = std::min(kPieceBytes, size - done);
    if (!source_.ReadAll(offset + done, piece, section.bytes.data() + done)) {
      section.bytes.clear();
      return false;
    }
    done += piece;
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  return true;
}

void Copier::Undo(Section& section) const {
  // A stack: the old words, then one that says where they belong.
  size_t top = undo_.size();
  while (top != 0) {
    const uint64_t mark = undo_[top - 1];
    const uint64_t words = mark & 0xff;
    const uint64_t offset = mark >> 8;
    top -= words + 1;
    for (uint64_t i = 0; i < words; ++i) {
      const uint64_t at = offset + 8 * i;
      if (at >= section.offset && at + 8 - section.offset <= section.bytes.size()) {
        memcpy(&section.bytes[at - section.offset], &undo_[top + i], 8);
      }
    }
  }
}

// Whether `undo` is entries and nothing else, each within the file.
bool IsUndoLog(const std::vector<uint64_t>& undo) {
  size_t top = undo.size();
  while (top != 0) {
    const uint64_t mark = undo[top - 1];
    const uint64_t words = mark & 0xff;
    const uint64_t offset = mark >> 8;
    if (words == 0 || words + 1 > top || offset % 8 != 0 || offset + 8 * words > kJournalBytes) {
      return false;
    }
    top -= words + 1;
  }
  return true;
}

Section Copier::ReadEntries(absl::string_view name, uint64_t offset, uint64_t before,
                            uint64_t after, uint64_t limit, size_t entry_bytes) {
  Section section;
  uint64_t count = std::max(before, after);
  if (count > limit) {
    Note(absl::StrCat("the journal says ", count, " ", name, ", more than there can be: ignored"));
    return section;
  }
  const uint64_t there = source_.size() > offset ? (source_.size() - offset) / entry_bytes : 0;
  if (count > there) {
    Note(absl::StrCat("the journal is cut: ", count - there, " of ", count, " ", name,
                      " are missing"));
    count = there;
  }
  if (count != 0 && !Read(offset, count * entry_bytes, section)) {
    Note(absl::StrCat("the journal's ", name, " could not be read"));
  }
  return section;
}

template <typename T, typename Wanted>
void Copier::Keep(const Section& section, uint64_t count, std::vector<T>& out, Wanted wanted) {
  count = std::min<uint64_t>(count, section.bytes.size() / sizeof(T));
  for (uint64_t i = 0; i < count; ++i) {
    const T entry = section.Get<T>(i * sizeof(T));
    if (wanted(entry)) out.push_back(entry);
  }
}

void Copier::ReadRings(const Section& sure, const Section& entries) {
  const size_t count = entries.bytes.size() / sizeof(RingEntry);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t entry = i * sizeof(RingEntry);
    const auto tail = entries.Get<uint64_t>(entry + offsetof(RingEntry, tail));
    const auto head = entries.Get<uint64_t>(entry + offsetof(RingEntry, head));
    JournalSnapshot::Ring ring;
    ring.number = static_cast<uint32_t>(i);
    ring.thread = entries.Get<uint32_t>(entry + offsetof(RingEntry, thread));
    ring.limbo_address = entries.Get<uint64_t>(entry + offsetof(RingEntry, limbo_address));
    ring.limbo_ns = entries.Get<uint64_t>(entry + offsetof(RingEntry, limbo_ns));
    ring.limbo_domain = entries.Get<uint64_t>(entry + offsetof(RingEntry, limbo_domain));
    const uint32_t capacity = RingCapacity(ring.number);
    if (head - tail > capacity) {
      Note(absl::StrCat("ring ", i, " of the journal is damaged: its events are ignored"));
      continue;
    }
    ring.events.resize(head - tail);
    // In two parts when it wraps.
    for (size_t done = 0; done < ring.events.size();) {
      const uint64_t place = (tail + done) % capacity;
      const size_t part = std::min<uint64_t>(ring.events.size() - done, capacity - place);
      const uint64_t offset = RingDataOffset(ring.number) + place * sizeof(Event);
      if (!source_.ReadAll(offset, part * sizeof(Event), &ring.events[done])) {
        Note(absl::StrCat("the journal is cut: the events of ring ", i, " are missing"));
        ring.events.clear();
        break;
      }
      done += part;
    }
    ring.sure = ring.events.size();
    if (alive_) {
      // A ring that came after the first look has nothing sure.
      uint64_t first = tail;
      if (entry + sizeof(RingEntry) <= sure.bytes.size()) {
        first = sure.Get<uint64_t>(entry + offsetof(RingEntry, head));
      }
      ring.sure = std::min<uint64_t>(first - tail <= capacity ? first - tail : 0, ring.sure);
    }
    if (!ring.events.empty() || ring.limbo_address != 0) snapshot_.rings.push_back(std::move(ring));
  }
}

void Copier::ReadDefinitions(uint64_t tail, uint64_t head) {
  if (head - tail > kDefinitionsBytes) {
    Note("the journal's definitions are damaged: ignored");
    return;
  }
  std::string bytes(head - tail, '\0');
  for (size_t done = 0; done < bytes.size();) {
    const uint64_t place = (tail + done) % kDefinitionsBytes;
    const size_t part = std::min<uint64_t>(bytes.size() - done, kDefinitionsBytes - place);
    if (!source_.ReadAll(kDefinitionsOffset + place, part, &bytes[done])) {
      Note("the journal is cut: its definitions are missing");
      return;
    }
    done += part;
  }
  for (size_t at = 0; at < bytes.size();) {
    const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(bytes[at + i])}; };
    const size_t left = bytes.size() - at;
    const uint32_t size = left < 4 ? 0 : byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
    if (size == 0 || size > kMaxRecordBytes || size > left - 4) {
      Note(absl::StrCat("the last ", left, " bytes of the journal's definitions are damaged"));
      return;
    }
    snapshot_.definitions.push_back(bytes.substr(at + 4, size));
    at += 4 + size;
  }
}

absl::Status Copier::Copy() {
  Section current;
  if (!ReadHeader(current) ||
      memcmp(current.bytes.data(), kJournalMagic, sizeof(kJournalMagic)) != 0) {
    if (source_.error() != 0) {
      return absl::InternalError(absl::StrCat("reading failed: ", strerror(source_.error())));
    }
    return absl::InvalidArgumentError("not a journal");
  }
  const auto version = JOURNAL_FIELD(current, uint32_t, version);
  if (version != kJournalVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "journal version ", version, ", this reader knows version ", kJournalVersion, " only"));
  }
  const auto state = JOURNAL_FIELD(current, uint32_t, state);
  if (state > static_cast<uint32_t>(JournalState::kStopped)) {
    return absl::InvalidArgumentError("not a journal (its state is impossible)");
  }
  snapshot_.state = static_cast<JournalState>(state);
  snapshot_.pid = JOURNAL_FIELD(current, uint32_t, pid);
  snapshot_.process_start = JOURNAL_FIELD(current, uint64_t, process_start);
  if (snapshot_.state == JournalState::kUnborn || snapshot_.state == JournalState::kFinished) {
    return absl::OkStatus();
  }

  const auto sequence = JOURNAL_FIELD(current, uint64_t, commit_sequence);
  const auto undo_count = JOURNAL_FIELD(current, uint64_t, undo_count);
  in_batch_ = sequence % 2 != 0;
  Section undo;
  if (undo_count > kUndoWords) {
    Note("the journal's undo log is damaged: ignored; single blocks may be wrong");
  } else if (undo_count != 0) {
    if (Read(kUndoOffset, undo_count * 8, undo)) {
      undo_.resize(undo_count);
      memcpy(undo_.data(), undo.bytes.data(), undo.bytes.size());
    }
    if (!IsUndoLog(undo_)) {
      Note("the journal's undo log is damaged: ignored; single blocks may be wrong");
      undo_.clear();
    }
  }
  Section header = current;
  Undo(header);

  // Heads first, then what their events need: an event is published after all that it refers to.
  // And twice: a ring that is looked at later may hold the effects of events in a ring that was
  // looked at earlier, which came in between. See JournalSnapshot::Ring::sure.
  Section sure;
  if (alive_) {
    const auto rings = JOURNAL_FIELD(current, uint32_t, rings_used);
    sure = ReadEntries("rings", kRingsOffset, rings, rings, kMaxRings, sizeof(RingEntry));
    if (!ReadHeader(current)) return absl::InvalidArgumentError("the journal shrank");
  }
  const auto rings = JOURNAL_FIELD(current, uint32_t, rings_used);
  Section entries = ReadEntries("rings", kRingsOffset, rings, rings, kMaxRings, sizeof(RingEntry));
  Undo(entries);
  ReadRings(sure, entries);
  if (alive_ && !ReadHeader(current)) return absl::InvalidArgumentError("the journal shrank");
  ReadDefinitions(JOURNAL_FIELD(header, uint64_t, definitions_tail),
                  JOURNAL_FIELD(current, uint64_t, definitions_head));

  const auto staged_bytes = JOURNAL_FIELD(header, uint32_t, staged_bytes);
  const Section staged =
      ReadEntries("staged bytes", kStagingOffset, staged_bytes, staged_bytes, kStagingBytes, 1);
  snapshot_.staged.assign(staged.bytes.begin(), staged.bytes.end());

  const auto pool_used = JOURNAL_FIELD(header, uint32_t, pool_used);
  Section pool = ReadEntries("blocks", kPoolOffset, JOURNAL_FIELD(current, uint32_t, pool_used),
                             pool_used, kMaxBlocks, sizeof(BlockEntry));
  Undo(pool);
  Keep(pool, pool_used, snapshot_.blocks,
       [](const BlockEntry& block) { return block.address != 0; });

  const auto counters_used = JOURNAL_FIELD(header, uint32_t, counters_used);
  Section counters =
      ReadEntries("counters", kCountersOffset, JOURNAL_FIELD(current, uint32_t, counters_used),
                  counters_used, kMaxCounters, sizeof(CounterSlot));
  Undo(counters);
  Keep(counters, counters_used, snapshot_.counters,
       [](const CounterSlot& slot) { return slot.pairs != 0 || slot.peak_bytes != 0; });

  Section mappings = ReadEntries("mappings", kMappingsOffset, kMaxYoungMappings, kMaxYoungMappings,
                                 kMaxYoungMappings, sizeof(MappingEntry));
  Undo(mappings);
  Keep(mappings, kMaxYoungMappings, snapshot_.mappings,
       [](const MappingEntry& mapping) { return mapping.length != 0; });

  Section pending = ReadEntries("unmaps", kPendingOffset, kMaxPendingUnmaps, kMaxPendingUnmaps,
                                kMaxPendingUnmaps, sizeof(PendingUnmap));
  Undo(pending);
  Keep(pending, kMaxPendingUnmaps, snapshot_.pending_unmaps,
       [](const PendingUnmap& unmap) { return unmap.length != 0; });

  next_node_ = JOURNAL_FIELD(current, uint32_t, next_node);
  identity_bytes_ = JOURNAL_FIELD(current, uint32_t, identity_bytes);
  snapshot_.trace_end = JOURNAL_FIELD(header, uint64_t, trace_end);
  snapshot_.segment = JOURNAL_FIELD(header, uint32_t, segment);
  snapshot_.first_segment = JOURNAL_FIELD(header, uint32_t, first_segment);
  if (snapshot_.first_segment > snapshot_.segment) {
    Note("the journal's numbers of segments are damaged: those before the last are ignored");
    snapshot_.first_segment = snapshot_.segment;
  }
  snapshot_.anchors = JOURNAL_FIELD(header, TimeAnchors, anchors);
  for (int kind = 0; kind < kLossKinds; ++kind) {
    snapshot_.losses[static_cast<size_t>(kind)] = current.Get<uint64_t>(
        offsetof(JournalHeader, losses) + static_cast<size_t>(kind) * sizeof(uint64_t));
  }

  Section last;
  if (!ReadHeader(last)) return absl::InvalidArgumentError("the journal shrank");
  unchanged_ = JOURNAL_FIELD(last, uint64_t, commit_sequence) == sequence &&
               JOURNAL_FIELD(last, uint64_t, undo_count) == undo_count;
  const auto last_state = JOURNAL_FIELD(last, uint32_t, state);
  if (last_state == static_cast<uint32_t>(JournalState::kFinished)) {
    snapshot_.state = JournalState::kFinished;
  }
  return absl::OkStatus();
}

void Copier::CopyFixed() {
  const Section identity = ReadEntries("identity bytes", kIdentityOffset, identity_bytes_,
                                       identity_bytes_, kIdentityBytes, 1);
  snapshot_.identity.assign(identity.bytes.begin(), identity.bytes.end());
  const Section nodes = ReadEntries("stack nodes", kNodesOffset, next_node_, next_node_, kMaxNodes,
                                    sizeof(StackNode));
  Keep(nodes, kMaxNodes, snapshot_.nodes, [](const StackNode&) { return true; });
}

// Asks the drain of a living journal to stand still, for kPauseNs, and again while a long copy
// goes on.
class DrainPause : public PieceListener {
 public:
  explicit DrainPause(FileSource& journal) : journal_(journal) {}
  ~DrainPause() override {
    if (asked_ != 0) Store(0);
  }
  void Begin() {
    if (journal_.writable()) Ask();
  }
  void OnPiece() override {
    if (asked_ != 0 && asked_ < kMostAsks && NowNs() + kPauseNs / 2 > until_) Ask();
  }

 private:
  // A journal of the greatest size takes several pauses; nothing takes more than these.
  static constexpr int kMostAsks = 10;

  void Ask() {
    ++asked_;
    until_ = NowNs() + kPauseNs;
    Store(until_);
  }
  void Store(uint64_t value) {
    journal_.Write(offsetof(JournalHeader, pause_until), sizeof(value), &value);
  }

  FileSource& journal_;
  uint64_t until_ = 0;
  int asked_ = 0;
};

void AwaitEndOfBatch(ByteSource& source) {
  constexpr long kStepNs = 100'000;
  for (uint64_t waited = 0; waited < kPauseNs; waited += kStepNs) {
    uint64_t sequence = 0;
    if (!source.ReadAll(offsetof(JournalHeader, commit_sequence), sizeof(sequence), &sequence) ||
        sequence % 2 == 0) {
      return;
    }
    SleepNs(kStepNs);
  }
}

JournalOwner OwnerOf(FileSource& source, const std::string& path) {
  JournalOwner owner;
  Section page;
  page.bytes.resize(kJournalPage);
  if (!source.ReadAll(0, kJournalPage, page.bytes.data())) return owner;
  owner.pid = JOURNAL_FIELD(page, uint32_t, pid);
  owner.process_start = JOURNAL_FIELD(page, uint64_t, process_start);
  // A process that stopped recording may have unmapped its journal.
  if (JOURNAL_FIELD(page, uint32_t, state) != static_cast<uint32_t>(JournalState::kStopped)) {
    owner.device = source.device();
    owner.inode = source.inode();
    owner.file_name = path.substr(path.rfind('/') + 1);
  }
  return owner;
}

}  // namespace

absl::StatusOr<JournalSnapshot> ReadJournal(ByteSource& source) {
  PieceListener nobody;
  Copier copier(source, nobody, /*alive=*/false);
  absl::Status status = copier.Copy();
  if (!status.ok()) return status;
  copier.CopyFixed();
  return copier.TakeSnapshot();
}

absl::StatusOr<JournalSnapshot> TakeJournalSnapshot(const std::string& path) {
  absl::StatusOr<std::unique_ptr<FileSource>> opened = FileSource::Open(path, /*writable=*/true);
  if (!opened.ok()) return opened.status();
  FileSource& source = **opened;
  constexpr int kAttempts = 60;
  // Written to by somebody whom /proc does not show: the owner, in another pid namespace.
  bool unseen_owner = false;
  for (int attempt = 1;; ++attempt) {
    const bool alive = unseen_owner || OwnerAlive(OwnerOf(source, path));
    DrainPause pause(source);
    if (alive) {
      pause.Begin();
      AwaitEndOfBatch(source);
    }
    Copier copier(source, pause, alive);
    const absl::Status status = copier.Copy();
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
    }
    if (!alive && !copier.unchanged()) unseen_owner = true;
    // Within a batch that does not end (the owner was stopped by a signal) the undo log serves as
    // it does after a kill.
    const bool settled = !alive || !copier.in_batch() || attempt > kAttempts / 2;
    const bool good = copier.unchanged() && settled;
    if (!good && attempt < kAttempts) {
      continue;
    }
    copier.CopyFixed();
    JournalSnapshot snapshot = copier.TakeSnapshot();
    snapshot.owner_alive = alive;
    snapshot.consistent = good;
    return snapshot;
  }
}

}  // namespace ollamatrace
