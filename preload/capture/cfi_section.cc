#include "preload/capture/cfi_section.h"

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

// One entry of .eh_frame, its length field taken off.
struct Record {
  const uint8_t* id = nullptr;  // address of the CIE id / CIE pointer field
  const uint8_t* body = nullptr;
  const uint8_t* end = nullptr;
  uint64_t cie_delta = 0;  // 0 for a CIE
  bool terminator = false;
};

bool ReadRecord(const uint8_t* at, const uint8_t* limit, Record* record) {
  DwarfReader reader(at, limit);
  uint64_t length = reader.U32();
  const bool wide = length == 0xffffffff;
  if (wide) length = reader.U64();
  if (!reader.ok()) return false;
  record->terminator = length == 0;
  if (record->terminator) {
    record->end = reader.position();
    return true;
  }
  if (length > reader.remaining()) return false;
  record->id = reader.position();
  record->end = record->id + length;
  DwarfReader body(record->id, record->end);
  // In .eh_frame the id field has 4 bytes even after a 64-bit length in what GNU as writes; LSB
  // says 4.
  record->cie_delta = body.U32();
  if (!body.ok()) return false;
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
    if (augmentation_length != 0) return false;  // an unknown layout
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

bool ParseFrame(const CfiSection& section, const Record& record, FrameInfo* info) {
  // The CIE lies cie_delta bytes before the field that holds the delta.
  if (record.cie_delta > static_cast<uint64_t>(record.id - section.begin)) return false;
  Record cie;
  if (!ReadRecord(record.id - record.cie_delta, section.end, &cie) || cie.terminator ||
      cie.cie_delta != 0 || !ParseCommon(cie, &info->common)) {
    return false;
  }
  if ((info->common.pointer_encoding & kEhPeIndirect) != 0 ||
      info->common.pointer_encoding == kEhPeOmit) {
    return false;
  }
  DwarfReader reader(record.body, record.end);
  info->pc_begin = reader.Encoded(info->common.pointer_encoding, Address(section.header));
  // The length has the same format, but is never relative.
  const uint64_t length = reader.Encoded(info->common.pointer_encoding & 0x0f, 0);
  if (info->common.augmented) reader.Skip(reader.Uleb());
  if (!reader.ok()) return false;
  info->pc_end = info->pc_begin + length;
  if (info->pc_end < info->pc_begin) return false;
  info->instructions = {reader.position(), record.end};
  return true;
}

bool FrameAt(const CfiSection& section, const uint8_t* at, uintptr_t pc, FrameInfo* info) {
  Record record;
  return ReadRecord(at, section.end, &record) && !record.terminator && record.cie_delta != 0 &&
         ParseFrame(section, record, info) && pc >= info->pc_begin && pc < info->pc_end;
}

bool FindByScan(const CfiSection& section, uintptr_t eh_frame, uintptr_t pc, FrameInfo* info) {
  if (eh_frame < Address(section.begin) || eh_frame >= Address(section.end)) return false;
  const uint8_t* at = section.begin + (eh_frame - Address(section.begin));
  Record record;
  while (at < section.end && ReadRecord(at, section.end, &record) && !record.terminator) {
    if (record.cie_delta != 0 && ParseFrame(section, record, info) && pc >= info->pc_begin &&
        pc < info->pc_end) {
      return true;
    }
    at = record.end;
  }
  return false;
}

}  // namespace

uintptr_t EhFrameAddress(const CfiSection& section) {
  Header header;
  return ParseHeader(section, &header) ? header.eh_frame : 0;
}

bool FindFrameInfo(const CfiSection& section, uintptr_t pc, FrameInfo* info) {
  Header header;
  if (section.empty() || !ParseHeader(section, &header)) return false;
  if (header.table == nullptr) return FindByScan(section, header.eh_frame, pc, info);

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
  if (low == 0) return false;
  int32_t offset;
  std::memcpy(&offset, header.table + (low - 1) * kTableEntryBytes + 4, sizeof(offset));
  const uintptr_t fde = base + static_cast<uintptr_t>(intptr_t{offset});
  if (fde < Address(section.begin) || fde >= Address(section.end)) return false;
  return FrameAt(section, section.begin + (fde - Address(section.begin)), pc, info);
}

}  // namespace ollamatrace::capture
