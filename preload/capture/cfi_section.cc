#include "preload/capture/cfi_section.h"

#include <algorithm>
#include <cstring>

#include "preload/capture/dwarf_reader.h"

namespace ollamatrace::capture {
namespace {

constexpr uint8_t kTableEncoding =
    0x3b;  // DW_EH_PE_datarel | DW_EH_PE_sdata4: the only one linkers write
constexpr size_t kTableEntryBytes = 8;

uintptr_t Address(const uint8_t* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

struct Header {
  uintptr_t eh_frame = 0;
  const uint8_t* table = nullptr;  // null when there is no usable search table
  size_t count = 0;
};

bool ParseHeader(const CfiSection& section, Header* header) {
  if (section.header == nullptr) return false;
  DwarfReader reader(section.header, section.header_end);
  const uint8_t version = reader.U8();
  const uint8_t eh_frame_encoding = reader.U8();
  const uint8_t count_encoding = reader.U8();
  const uint8_t table_encoding = reader.U8();
  if (!reader.ok() || version != 1 || eh_frame_encoding == kEhPeOmit ||
      (eh_frame_encoding & kEhPeIndirect) != 0) {
    return false;
  }
  header->eh_frame = reader.Encoded(eh_frame_encoding, Address(section.header));
  if (!reader.ok()) return false;
  if (count_encoding == kEhPeOmit || table_encoding != kTableEncoding) return true;
  const uint64_t count = reader.Encoded(count_encoding, Address(section.header));
  if (!reader.ok()) return true;
  header->table = reader.position();
  const size_t room = reader.remaining() / kTableEntryBytes;
  header->count = count < room ? static_cast<size_t>(count) : room;
  return true;
}

enum class Kind { kEhFrame, kDebugFrame };

// What an entry of .eh_frame or .debug_frame lies in.
struct Bounds {
  Kind kind;
  const uint8_t* begin;
  const uint8_t* end;
  uintptr_t data_base;  // what DW_EH_PE_datarel is relative to
};

Bounds BoundsOf(const CfiSection& section) {
  return {Kind::kEhFrame, section.begin, section.end, Address(section.header)};
}
Bounds BoundsOf(const DebugFrame& section) {
  return {Kind::kDebugFrame, section.begin, section.end, 0};
}

// One entry, its length field and its CIE id or pointer taken off.
struct Record {
  const uint8_t* body = nullptr;
  const uint8_t* end = nullptr;
  const uint8_t* cie = nullptr;  // null for a CIE itself
  bool terminator = false;
};

bool ReadRecord(const Bounds& bounds, const uint8_t* at, Record* record) {
  DwarfReader reader(at, bounds.end);
  uint64_t length = reader.U32();
  const bool wide = length == 0xffffffff;
  if (wide) length = reader.U64();
  if (!reader.ok()) return false;
  record->terminator = length == 0;
  record->cie = nullptr;
  if (record->terminator) {
    record->end = reader.position();
    return true;
  }
  if (length > reader.remaining()) return false;
  const uint8_t* const id = reader.position();
  record->end = id + length;
  DwarfReader body(id, record->end);
  if (bounds.kind == Kind::kEhFrame) {
    // The id field has 4 bytes even after a 64-bit length in what GNU as writes; LSB says 4. The
    // CIE lies that many bytes before it.
    const uint64_t delta = body.U32();
    if (!body.ok() || delta > static_cast<uint64_t>(id - bounds.begin)) return false;
    if (delta != 0) record->cie = id - delta;
  } else {
    const uint64_t offset = wide ? body.U64() : body.U32();
    if (!body.ok()) return false;
    if (offset != (wide ? ~uint64_t{0} : 0xffffffff)) {
      if (offset >= static_cast<uint64_t>(bounds.end - bounds.begin)) return false;
      record->cie = bounds.begin + offset;
    }
  }
  record->body = body.position();
  return true;
}

bool ParseCommon(const Record& record, CommonInfo* common) {
  DwarfReader reader(record.body, record.end);
  const uint8_t version = reader.U8();
  if (version != 1 && version != 3 && version != 4) return false;
  const auto* augmentation = reinterpret_cast<const char*>(reader.position());
  const size_t augmentation_length = strnlen(augmentation, reader.remaining());
  reader.Skip(uint64_t{augmentation_length} + 1);
  if (!reader.ok()) return false;
  if (version == 4) {
    const uint8_t address_size = reader.U8();
    const uint8_t segment_size = reader.U8();
    if (address_size != sizeof(uintptr_t) || segment_size != 0) return false;
  }
  common->code_alignment = reader.Uleb();
  common->data_alignment = reader.Sleb();
  common->return_address_register = version == 1 ? reader.U8() : reader.Uleb();
  if (!reader.ok()) return false;
  common->pointer_encoding = 0;
  common->signal_frame = false;
  common->augmented = augmentation_length > 0 && augmentation[0] == 'z';
  if (!common->augmented) {
    // GNU as writes "S" into .debug_frame, without data. Anything else is an unknown layout.
    common->signal_frame = augmentation_length == 1 && augmentation[0] == 'S';
    if (augmentation_length != 0 && !common->signal_frame) return false;
    common->instructions = {reader.position(), record.end};
    return true;
  }
  const uint64_t data_length = reader.Uleb();
  if (!reader.ok() || data_length > reader.remaining()) return false;
  const uint8_t* data_end = reader.position() + data_length;
  DwarfReader data(reader.position(), data_end);
  for (size_t i = 1; i < augmentation_length; ++i) {
    bool known = true;
    switch (augmentation[i]) {
      case 'R':
        common->pointer_encoding = data.U8();
        break;
      case 'P': {
        const uint8_t encoding = data.U8();
        data.Encoded(encoding & static_cast<uint8_t>(~kEhPeIndirect), 0);
        break;
      }
      case 'L':
        data.U8();
        break;
      case 'S':
        common->signal_frame = true;
        break;
      case 'B':  // aarch64: return addresses are signed with the B key
        break;
      default:
        known = false;  // its data cannot be told apart, but data_length says where it ends
        break;
    }
    if (!known) break;
  }
  if (!data.ok()) return false;
  common->instructions = {data_end, record.end};
  return true;
}

bool ParseFrame(const Bounds& bounds, const Record& record, FrameInfo* info) {
  Record cie;
  if (!ReadRecord(bounds, record.cie, &cie) || cie.terminator || cie.cie != nullptr ||
      !ParseCommon(cie, &info->common)) {
    return false;
  }
  if ((info->common.pointer_encoding & kEhPeIndirect) != 0 ||
      info->common.pointer_encoding == kEhPeOmit) {
    return false;
  }
  DwarfReader reader(record.body, record.end);
  info->pc_begin = reader.Encoded(info->common.pointer_encoding, bounds.data_base);
  // The length has the same format, but is never relative.
  const uint64_t length = reader.Encoded(info->common.pointer_encoding & 0x0f, 0);
  if (info->common.augmented) reader.Skip(reader.Uleb());
  if (!reader.ok()) return false;
  info->pc_end = info->pc_begin + length;
  if (info->pc_end < info->pc_begin) return false;
  info->instructions = {reader.position(), record.end};
  return true;
}

bool FrameAt(const Bounds& bounds, const uint8_t* at, uintptr_t pc, FrameInfo* info) {
  Record record;
  return ReadRecord(bounds, at, &record) && record.cie != nullptr &&
         ParseFrame(bounds, record, info) && pc >= info->pc_begin && pc < info->pc_end;
}

// Not inlined, like what follows: small stacks.
__attribute__((noinline)) bool FindByScan(const Bounds& bounds, const uint8_t* at, uintptr_t pc,
                                          FrameInfo* info) {
  Record record;
  while (at < bounds.end && ReadRecord(bounds, at, &record) && !record.terminator) {
    if (record.cie != nullptr && ParseFrame(bounds, record, info) && pc >= info->pc_begin &&
        pc < info->pc_end) {
      return true;
    }
    at = record.end;
  }
  return false;
}

// The address of the one entry that may cover `pc`, by the search table; where there is none, of
// the first entry of all, and `sorted` is false. 0: nothing covers it.
__attribute__((noinline)) uintptr_t FirstCandidate(const CfiSection& section, uintptr_t pc,
                                                   bool* sorted) {
  Header header;
  if (!ParseHeader(section, &header)) return 0;
  *sorted = header.table != nullptr;
  if (!*sorted) return header.eh_frame;
  // The last entry whose function starts at or before pc.
  const uintptr_t base = Address(section.header);
  size_t low = 0;
  size_t high = header.count;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    int32_t start;
    std::memcpy(&start, header.table + middle * kTableEntryBytes, sizeof(start));
    if (base + static_cast<uintptr_t>(intptr_t{start}) <= pc) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return 0;
  int32_t offset;
  std::memcpy(&offset, header.table + (low - 1) * kTableEntryBytes + 4, sizeof(offset));
  return base + static_cast<uintptr_t>(intptr_t{offset});
}

}  // namespace

uintptr_t EhFrameAddress(const CfiSection& section) {
  Header header;
  return ParseHeader(section, &header) ? header.eh_frame : 0;
}

bool FindFrameInfo(const CfiSection& section, uintptr_t pc, FrameInfo* info) {
  bool sorted = true;
  const uintptr_t at = section.empty() ? 0 : FirstCandidate(section, pc, &sorted);
  if (at < Address(section.begin) || at >= Address(section.end)) return false;
  const uint8_t* const record = section.begin + (at - Address(section.begin));
  return sorted ? FrameAt(BoundsOf(section), record, pc, info)
                : FindByScan(BoundsOf(section), record, pc, info);
}

bool FindFrameInfo(const DebugFrame& section, uintptr_t pc, FrameInfo* info) {
  const DebugFrame::Entry* const end = section.entries + section.count;
  // The last entry whose function starts at or before pc.
  const DebugFrame::Entry* entry =
      std::upper_bound(section.entries, end, pc - section.base,
                       [](uintptr_t wanted, const DebugFrame::Entry& e) { return wanted < e.pc; });
  if (pc < section.base || entry == section.entries) return false;
  --entry;
  return entry->record < static_cast<size_t>(section.end - section.begin) &&
         FrameAt(BoundsOf(section), section.begin + entry->record, pc, info);
}

size_t MaxDebugFrameEntries(size_t bytes) {
  return bytes / (2 * sizeof(uint32_t) + 2 * sizeof(uintptr_t));  // length, CIE, begin, size
}

size_t IndexDebugFrame(const DebugFrame& section, uintptr_t code_end, const CfiSection& loaded,
                       uintptr_t bias, DebugFrame::Entry* entries) {
  const Bounds bounds = BoundsOf(section);
  size_t count = 0;
  const uint8_t* at = section.begin;
  Record record;
  for (; at < section.end && ReadRecord(bounds, at, &record); at = record.end) {
    FrameInfo info;
    FrameInfo known;
    // Functions that the linker left out begin at 0.
    if (record.cie == nullptr || !ParseFrame(bounds, record, &info) ||
        info.pc_begin < section.base || info.pc_begin >= code_end || info.pc_end == info.pc_begin ||
        info.pc_begin - section.base > UINT32_MAX ||
        FindFrameInfo(loaded, info.pc_begin + bias, &known)) {
      continue;
    }
    entries[count++] = {static_cast<uint32_t>(info.pc_begin - section.base),
                        static_cast<uint32_t>(at - section.begin)};
  }
  // In place, and without recursion: on whatever stack a library is loaded.
  const auto before = [](const DebugFrame::Entry& a, const DebugFrame::Entry& b) {
    return a.pc < b.pc;
  };
  if (!std::is_sorted(entries, entries + count, before)) {
    std::make_heap(entries, entries + count, before);
    std::sort_heap(entries, entries + count, before);
  }
  return count;
}

}  // namespace ollamatrace::capture
