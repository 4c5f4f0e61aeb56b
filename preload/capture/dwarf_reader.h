#ifndef OLLAMATRACE_PRELOAD_CAPTURE_DWARF_READER_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_DWARF_READER_H_

// Reads the primitive encodings of DWARF call frame information from memory that nobody vouches
// for: no read ever leaves [begin, end), and after the first bad read ok() is false, every further
// read gives 0, and remaining() is 0.
//
// Encodings: DWARF 5, section 7.6 (LEB128); Linux Standard Base Core, "DWARF Exception Header
// Encoding" (DW_EH_PE_*).

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ollamatrace::capture {

// DW_EH_PE_*: the low nibble is the format, the next three bits what the value is relative to.
inline constexpr uint8_t kEhPeOmit = 0xff;
inline constexpr uint8_t kEhPeIndirect = 0x80;

class DwarfReader {
 public:
  DwarfReader(const uint8_t* begin, const uint8_t* end)
      : position_(begin), end_(begin <= end ? end : begin) {}

  bool ok() const { return ok_; }
  const uint8_t* position() const { return position_; }
  size_t remaining() const { return static_cast<size_t>(end_ - position_); }
  bool done() const { return position_ == end_; }

  void Fail() {
    ok_ = false;
    position_ = end_;
  }

  void Skip(uint64_t bytes) {
    if (bytes > remaining()) {
      Fail();
    } else {
      position_ += bytes;
    }
  }

  uint8_t U8() { return Fixed<uint8_t>(); }
  uint16_t U16() { return Fixed<uint16_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }

  uint64_t Uleb() {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const uint8_t byte = U8();
      if (!ok_) return 0;
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
      if (shift > 140) {  // padding has its limits
        Fail();
        return 0;
      }
    }
  }

  int64_t Sleb() {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const uint8_t byte = U8();
      if (!ok_) return 0;
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) {
        if ((byte & 0x40) != 0 && shift + 7 < 64) value |= ~uint64_t{0} << (shift + 7);
        return static_cast<int64_t>(value);
      }
      if (shift > 140) {
        Fail();
        return 0;
      }
    }
  }

  // A pointer in encoding `encoding`. `data_base` is the address that "datarel" means; "pcrel"
  // means the address of the value itself. An indirect pointer is not followed: what comes back is
  // the address of the real one.
  uintptr_t Encoded(uint8_t encoding, uintptr_t data_base) {
    if (encoding == kEhPeOmit) return 0;
    const auto here = reinterpret_cast<uintptr_t>(position_);
    uint64_t value = 0;
    switch (encoding & 0x0f) {
      case 0x00:  // absptr
        value = U64();
        break;
      case 0x01:
        value = Uleb();
        break;
      case 0x02:
        value = U16();
        break;
      case 0x03:
        value = U32();
        break;
      case 0x04:
      case 0x0c:
        value = U64();
        break;
      case 0x09:
        value = static_cast<uint64_t>(Sleb());
        break;
      case 0x0a:
        value = static_cast<uint64_t>(int64_t{static_cast<int16_t>(U16())});
        break;
      case 0x0b:
        value = static_cast<uint64_t>(int64_t{static_cast<int32_t>(U32())});
        break;
      default:
        Fail();
        return 0;
    }
    if (!ok_) return 0;
    switch (encoding & 0x70) {
      case 0x00:
        return value;
      case 0x10:  // pcrel
        return value + here;
      case 0x30:  // datarel
        return value + data_base;
      default:  // textrel, funcrel, aligned: not used on the platforms at hand
        Fail();
        return 0;
    }
  }

 private:
  template <typename T>
  T Fixed() {
    T value = 0;
    if (remaining() < sizeof(T)) {
      Fail();
      return 0;
    }
    std::memcpy(&value, position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  const uint8_t* position_;
  const uint8_t* end_;
  bool ok_ = true;
};

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_DWARF_READER_H_
