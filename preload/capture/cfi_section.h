#ifndef OLLAMATRACE_PRELOAD_CAPTURE_CFI_SECTION_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_CFI_SECTION_H_

// Finds the frame description entry (FDE) of a program counter in a module's .eh_frame, or in the
// .debug_frame of its file.
//
// Formats: Linux Standard Base Core, "Exception Frames" (.eh_frame, .eh_frame_hdr); DWARF 5,
// section 6.4.1 (.debug_frame). Nothing is trusted: a malformed section answers "not found" and is
// never read outside the bounds given.

#include <cstddef>
#include <cstdint>

namespace ollamatrace::capture {

// Where a module's unwind tables lie in memory. Addresses in the tables are relative to themselves,
// so no load bias is needed.
struct CfiSection {
  const uint8_t* header = nullptr;  // .eh_frame_hdr (PT_GNU_EH_FRAME)
  const uint8_t* header_end = nullptr;
  const uint8_t* begin = nullptr;  // what may be read of the segment that holds .eh_frame
  const uint8_t* end = nullptr;

  bool empty() const { return header == nullptr || header >= header_end || begin >= end; }
};

struct CfiRange {
  const uint8_t* begin = nullptr;
  const uint8_t* end = nullptr;
};

struct CommonInfo {  // a CIE
  uint64_t code_alignment = 1;
  int64_t data_alignment = 1;
  uint64_t return_address_register = 0;
  uint8_t pointer_encoding = 0;
  bool augmented = false;     // 'z': each FDE has augmentation data
  bool signal_frame = false;  // 'S'
  CfiRange instructions;
};

struct FrameInfo {  // an FDE
  uintptr_t pc_begin = 0;
  uintptr_t pc_end = 0;
  CommonInfo common;
  CfiRange instructions;
};

// A module's .debug_frame, which lies in no loaded segment: a copy. Addresses in it are those of
// the file, without the load bias. It has no search table: `entries` is one that was made for it.
struct DebugFrame {
  struct Entry {
    uint32_t pc;      // where the function begins, counted from `base`
    uint32_t record;  // offset of its FDE in the section
  };

  const uint8_t* begin = nullptr;  // the section
  const uint8_t* end = nullptr;
  uintptr_t base = 0;
  const Entry* entries = nullptr;  // sorted by pc
  size_t count = 0;
};

// The address of .eh_frame as .eh_frame_hdr gives it, 0 when the header is unusable. Only header
// and header_end of `section` are looked at.
uintptr_t EhFrameAddress(const CfiSection& section);

// The entry that covers `pc`. False when there is none.
bool FindFrameInfo(const CfiSection& section, uintptr_t pc, FrameInfo* info);
// The same in a .debug_frame; `pc` and what is in `info` are addresses of the file.
bool FindFrameInfo(const DebugFrame& section, uintptr_t pc, FrameInfo* info);

// The most entries that a .debug_frame of `bytes` can have.
size_t MaxDebugFrameEntries(size_t bytes);

// Makes the search table of `section` (begin, end and base are set): the functions that begin in
// [base, code_end) and that `loaded`, at load bias `bias`, does not know. Answers how many there
// are. `entries` has room for MaxDebugFrameEntries.
size_t IndexDebugFrame(const DebugFrame& section, uintptr_t code_end, const CfiSection& loaded,
                       uintptr_t bias, DebugFrame::Entry* entries);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_CFI_SECTION_H_
