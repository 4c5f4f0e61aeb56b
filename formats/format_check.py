#!/usr/bin/env python3
"""A second reader of traces, written from FORMAT.md alone: proof that it is complete.

    formats/format_check.py TRACE.zst            totals: records by kind, what is live by domain
    formats/format_check.py --lines TRACE.zst    every record as a line, like ollamatrace-dump

Needs Python's standard library and the `zstd` command. Reads traces, not journals. Exit code 0; 3 when it is no trace.
"""

import argparse
import bisect
import collections
import re
import struct
import subprocess
import sys
import zlib

VERSION = 2
INDEX_MAGIC = struct.pack("<I", 0x184D2A57)
INDEX = struct.Struct("<II4sHHIIIIQQII")
MAX_RAW = 4 << 20
MAX_FRAME = 4210688
DOMAINS = {0: "heap", 1: "mapping", 2: "break", 8: "device", 9: "managed", 10: "pinned", 11: "pool", 12: "virtual",
           13: "graph", 14: "array", 15: "address-space", 16: "mapped", 17: "registered", 18: "graph-exec", 19: "imported"}
GAUGES = ("rss_anon", "rss_file", "rss_shmem", "swap", "arena", "mmapped", "in_use", "retained", "trimmable",
          "open_files", "sockets", "threads", "pooled_bytes", "pooled_blocks", "pooled_peak_bytes", "tracer_cpu_ns",
          "tracer_bytes", "written_bytes", "mapped_bytes")

# Records with a length: name and fields. n: varint, w: varint32, b: one byte, t: text, x: bytes as hex, a: address,
# g: varint, one more than a gauge, d: varint32, one more than a device.
RECORDS = {
    0x80: ("header", "version:w pid:w ppid:w start_ns:n wall_ns:n process_start:n mode:b sample_bytes:n page_bytes:w "
                     "segment:w born_by_fork:b exe:t argv:t library:t architecture:t segment_ns:n"),
    0x81: ("module", "id:w t:n bias:a begin:a end:a build_id:x path:t"),
    0x82: ("module_unload", "id:w t:n"),
    0x83: ("thread", "id:w t:n tid:w name:t"),
    0x84: ("thread_end", "id:w t:n"),
    0x85: ("node", "id:w parent:w module:w address:a exact:b"),
    0x86: ("counters", "stack:w domain:b pairs:n bytes:n lifetime_ns:n peak_bytes:n first_ns:n last_ns:n"),
    0x87: ("sample", "t:n " + " ".join(name + ":g" for name in GAUGES)),
    0x88: ("loss", "t:n kind:b events:n"),
    0x89: ("message", "t:n text:t"),
    0x8A: ("end", "t:n kind:b"),
    0x8B: ("dropped", "stack:w domain:b pairs:n bytes:n lifetime_ns:n first_ns:n last_ns:n weight_blocks:n "
                      "weight_bytes:n weight_blocks_variance:n weight_bytes_variance:n"),
    0x8C: ("weights", "stack:w domain:b blocks:n bytes:n blocks_variance:n bytes_variance:n"),
    0x90: ("memory_map", "t:n body:x"),
    0xA0: ("gpu_place", "id:w device:d context:w stream:n function:t"),
    0xA1: ("gpu_capture", "t:n state:b reason:t where:t"),
    0xA2: ("gpu_failure", "t:n kind:b domain:b status:w size:n stack:w"),
    0xA3: ("gpu_implicit", "t:n context:w domain:b stack:w blocks:n bytes:n"),
    0xA4: ("gpu_ledger", "t:n device:d domain:b live_bytes:n live_blocks:n peak_bytes:n"),
    0xA5: ("gpu_sample", "t:n device:d process_bytes:g used_bytes:g total_bytes:g contexts:n modules:n module_bytes:n"),
}
RECORDS = {tag: (name, [tuple(field.split(":")) for field in fields.split()])
           for tag, (name, fields) in RECORDS.items()}
SHAPES = {name: dict(fields) for name, fields in RECORDS.values()}


class BadRecord(Exception):
    pass


class NoTrace(Exception):
    pass


class Bytes:
    """Takes fields from the front of some bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def done(self):
        return self.at >= len(self.data)

    def take(self, size):
        if size > len(self.data) - self.at:
            raise BadRecord("cut")
        self.at += size
        return self.data[self.at - size:self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    raise BadRecord("a varint of more than 64 bits")
                return value
        raise BadRecord("a varint of more than ten bytes")

    def varint32(self):
        value = self.varint()
        if value >> 32:
            raise BadRecord("a number of more than 32 bits")
        return value

    def delta(self, base):
        zigzag = self.varint()
        return (base + ((zigzag >> 1) ^ -(zigzag & 1))) % (1 << 64)

    def delta32(self, base):
        value = self.delta(base)
        if value >> 32:
            raise BadRecord("a number of more than 32 bits")
        return value

    def text(self):
        return self.take(self.varint())


def records_of(data):
    """The records of a chunk as (kind, {field: value}); kind None is one that is not known."""
    source = Bytes(data)
    time = thread = address = stack = 0
    while not source.done():
        tag = source.byte()
        if tag == 0x01:
            time, thread = source.delta(time), source.varint32()
        elif tag == 0x06:
            time = thread = address = stack = 0
        elif tag == 0x02:
            domain, function = source.byte(), source.byte()
            address = source.delta(address)
            size = source.varint()
            stack = source.delta32(stack)
            yield "alloc", {"t": time, "thread": thread, "domain": domain, "function": function, "stack": stack,
                            "address": address, "size": size}
        elif tag == 0x03:
            domain = source.byte()
            address = source.delta(address)
            yield "free", {"t": time, "thread": thread, "domain": domain, "address": address}
        elif tag == 0x04:
            function, protection, kind = source.byte(), source.byte(), source.byte()
            address = source.delta(address)
            length = source.varint()
            stack = source.delta32(stack)
            yield "map", {"t": time, "thread": thread, "function": function, "stack": stack, "address": address,
                          "length": length, "protection": protection, "kind": kind}
        elif tag == 0x05:
            address = source.delta(address)
            yield "unmap", {"t": time, "thread": thread, "address": address, "length": source.varint()}
        elif tag < 0x80:
            raise BadRecord(f"an event of unknown kind {tag:#x}")
        else:
            payload = Bytes(source.text())
            if tag not in RECORDS:
                yield None, {}
                continue
            name, fields = RECORDS[tag]
            if name == "header" and payload.take(8) != b"ollamtrc":
                raise BadRecord("a header without its magic")
            record = {}
            for field, kind in fields:
                if kind in "nag":
                    record[field] = payload.varint()
                elif kind in "wd":
                    record[field] = payload.varint32()
                elif kind == "b":
                    record[field] = payload.byte()
                else:
                    record[field] = payload.text()
            yield name, record


COLUMNS = ("kinds entry_low entry_high new_stacks new_functions sizes places addresses depths other_frees times threads "
           "node_counts node_flags node_ids node_parents node_addresses node_modules records").split()
MASK = (1 << 64) - 1
FACTOR = 0x9E3779B97F4A7C15
MAX_EVENTS = 1 << 17


def unzigzag(value):
    return (value >> 1) ^ -(value & 1)


def size_class(size):
    units = (max(size, 24) + 8 + 15) // 16
    return units if units < 96 else 96 + units.bit_length() - 7


class History:
    """Which symbol followed which ones."""

    def __init__(self):
        self.after, self.last = ({}, {}, {}), (0, 0, 0)

    def places(self):
        value = 0
        for symbol in self.last:
            value = (value + symbol + 1) * FACTOR & MASK
            yield value >> 51

    def likely(self, order):
        return self.after[order - 1].get(list(self.places())[order - 1])

    def add(self, coded, symbol):
        for after, place in zip(self.after, self.places()):
            after[place] = coded
        self.last = (symbol, *self.last[:2])


class Freed:
    """The last 16 addresses freed in each class, the last one first."""

    def __init__(self):
        self.lists = collections.defaultdict(list)

    def push(self, number, address):
        self.lists[number] = [address, *self.lists[number]][:16]

    def take(self, number, rank):
        if rank >= len(self.lists[number]):
            raise BadRecord("a place that is not there")
        return self.lists[number].pop(rank)


def nodes_of(column, count, state):
    """`count` nodes; `state` lives as long as the chunk."""
    for _ in range(count):
        flags = column["node_flags"].byte()
        number = None
        node = state["last"] + 1
        if flags >= 64:
            raise BadRecord("node flags")
        if flags & 1:
            node = column["node_ids"].delta32(state["last"])
        node %= 1 << 32
        parent = state["last"]
        if flags & 2:
            parent = (node - unzigzag(column["node_parents"].varint())) % (1 << 64)
            if parent >> 32:
                raise BadRecord("a number of more than 32 bits")
        known, known_number = state["known"].get(parent % 8192, (0, 0))
        context = parent << 1 | 1
        if parent and known == parent and known_number is not None:
            context = known_number << 1
        context = ((context + 1) * FACTOR & MASK) >> 51
        if flags & 8:
            if flags & 4:
                raise BadRecord("node flags")
            state["address"] = column["node_addresses"].delta(state["address"])
            if flags & 16:
                state["module"] = column["node_modules"].varint32()
            place = state["address"], state["module"], flags >> 5 & 1
            if len(state["places"]) < 1 << 14:
                number = len(state["places"])
                state["places"].append(place)
        else:
            if flags & 48:
                raise BadRecord("node flags")
            number = column["node_addresses"].varint32() if flags & 4 else state["likely"].get(context)
            if number is None or number >= len(state["places"]):
                raise BadRecord("a place that is not there")
            place = state["places"][number]
        state["likely"][context] = number
        state["known"][node % 8192] = node, number
        state["last"] = node
        address, module, exact = place
        yield "node", {"id": node, "parent": parent, "module": module, "address": address, "exact": exact}


def columns_of(data):
    """The records of a chunk of columns, like records_of."""
    source = Bytes(data)
    shift = source.byte()
    sizes = [source.varint() for _ in COLUMNS]
    if shift > 20 or sum(sizes) != len(data) - source.at:
        raise BadRecord("columns that do not add up")
    column = {name: Bytes(source.take(size)) for name, size in zip(COLUMNS, sizes)}
    nodes = {"last": 0, "known": {}, "likely": {}, "places": [], "address": 0, "module": 0}
    yield from nodes_of(column, column["node_counts"].varint(), nodes)
    history, freed = History(), Freed()
    entries = [None]  # [stack, function, live blocks, last size, last address]
    blocks = [None]  # [address, size, entry]; entry 0: freed
    time = thread = events = next_address = last_address = last_freed = last_other = 0

    def block_back(back):
        if back >= len(blocks) - 1 or blocks[len(blocks) - 1 - back][2] == 0:
            raise BadRecord("a block that is not there")
        return len(blocks) - 1 - back

    while not column["kinds"].done():
        kind = column["kinds"].byte()
        if kind == 7:
            yield from records_of(column["records"].text())
            yield from nodes_of(column, column["node_counts"].varint(), nodes)
            continue
        if kind == 8:
            thread = column["threads"].varint32()
            continue
        if kind == 9:
            block = block_back(column["other_frees"].varint())
            entries[blocks[block][2]][2].remove(block)
            blocks[block][2] = 0
            continue
        if events == MAX_EVENTS:
            raise BadRecord("too many events")
        events += 1
        if kind <= 2:
            coded = history.likely(3 - kind)
            if coded is None:
                raise BadRecord("nothing is likely")
        elif kind in (3, 4):
            coded = kind - 3
        elif kind in (5, 6):
            low, high = column["entry_low"].byte(), column["entry_high"].varint()
            if high > MAX_EVENTS >> 8 or low + high == 0:
                raise BadRecord("an entry that is not there")
            coded = 2 * (high << 8 | low) + kind - 5
        else:
            raise BadRecord(f"an event of unknown kind {kind}")
        if coded == 1:
            stack = column["new_stacks"].delta32(entries[-1][0] if len(entries) > 1 else 0)
            entries.append([stack, column["new_functions"].byte(), [], 0, 0])
            symbol = 2 * (len(entries) - 1) + 1
        else:
            symbol = coded
        history.add(coded, symbol)
        time = column["times"].delta(time)
        moment = {"t": (time << shift) & MASK, "thread": thread}
        if symbol == 0:
            number = column["other_frees"].varint()
            if number & 1:
                block = block_back(number >> 1)
                address, size, entry = blocks[block]
                entries[entry][2].remove(block)
                blocks[block][2] = 0
                freed.push(size_class(size), address)
            else:
                rest = column["other_frees"].byte() if number & 2 else 0
                if rest > 15:
                    raise BadRecord("an address")
                address = last_other = (last_other + (unzigzag(number >> 2) << 4) + rest) & MASK
                freed.push(0, address)
            last_freed = address
            yield "free", {**moment, "domain": 0, "address": address}
            continue
        if symbol // 2 >= len(entries):
            raise BadRecord("an entry that is not there")
        entry = entries[symbol // 2]
        if symbol % 2 == 0:
            depth = column["depths"].byte()
            if depth >= 32 or depth >= len(entry[2]):
                raise BadRecord("a block that is not there")
            block = entry[2].pop(-1 - depth)
            last_freed, size, _ = blocks[block]
            blocks[block][2] = 0
            freed.push(size_class(size), last_freed)
            yield "free", {**moment, "domain": 0, "address": last_freed}
            continue
        size = column["sizes"].varint()
        if size > 1 << 60:
            raise BadRecord("a size")
        size = size - 1 if size else entry[3]
        place = column["places"].byte()
        if place == 1:
            address = next_address
        elif place == 2:
            address = freed.take(0, 0)
        elif place == 3:
            address = entry[4]
        elif place == 4:
            address = last_freed
        elif place == 5:
            number = column["addresses"].varint()
            rest = column["addresses"].byte() if number & 1 else 0
            if rest > 15:
                raise BadRecord("an address")
            address = (last_address + (unzigzag(number >> 1) << 4) + rest) & MASK
        elif place < 17:
            address = freed.take(size_class(size), place - 5 if place else 0)
        else:
            raise BadRecord("a place that is not there")
        blocks.append([address, size, symbol // 2])
        entry[2].append(len(blocks) - 1)
        entry[3], entry[4], last_address = size, address, address
        next_address = (address + (max(size, 24) + 23) // 16 * 16) & MASK
        yield "alloc", {**moment, "domain": 0, "function": entry[1], "stack": entry[0], "address": address,
                        "size": size}
    if not all(source.done() for source in column.values()):
        raise BadRecord("columns that are too long")


def index_at(data, offset):
    """(index fields, offset of the frame), or None."""
    if len(data) - offset < INDEX.size:
        return None
    fields = INDEX.unpack_from(data, offset)
    if fields[0] != 0x184D2A57 or not 48 <= fields[1] <= 4096 or fields[2] != b"otck":
        return None
    if fields[12] != zlib.crc32(data[offset + 8:offset + 52]) or fields[3] == 0:
        return None
    return fields, offset + 8 + fields[1]


def next_index(data, offset):
    for match in re.finditer(re.escape(INDEX_MAGIC), data[offset:]):
        if index_at(data, offset + match.start()):
            return offset + match.start()
    return len(data)


def unpacked(frame, raw_bytes):
    """The frame's records, or None."""
    # RFC 8878, 3.1.1.1.1: the descriptor's bit 2 is the checksum's.
    if len(frame) < 6 or frame[:4] != b"\x28\xb5\x2f\xfd" or not frame[4] & 4:
        return None
    done = subprocess.run(["zstd", "-dcq"], input=frame, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 and len(done.stdout) == raw_bytes else None


def chunks_of(data, summary):
    """The records of each chunk."""
    offset, found = 0, False
    while offset < len(data):
        index = index_at(data, offset)
        following = None
        if index:
            found = True
            (_, _, _, version, kind, _, raw_bytes, frame_bytes, *_), frame = index
            if version > VERSION:
                raise NoTrace(f"format version {version} is newer than this reader's {VERSION}")
            good = 0 < raw_bytes <= MAX_RAW and 0 < frame_bytes <= MAX_FRAME and frame + frame_bytes <= len(data)
            if good and kind > 1:
                following = frame + frame_bytes
            elif good:
                records = unpacked(data[frame:frame + frame_bytes], raw_bytes)
                if records is not None:
                    following = frame + frame_bytes
                    summary["chunks"] += 1
                    yield (records_of, columns_of)[kind](records)
        if following is None:
            following = next_index(data, offset + (4 if index else 1))
            summary["dropped_bytes"] += following - offset
        offset = following
    if not found:
        raise NoTrace("no trace")


class Mappings:
    """What is mapped: disjoint ranges, by address."""

    def __init__(self):
        self.begins, self.ranges = [], []  # ranges: (begin, end, domain)

    def unmap(self, begin, end):
        first = bisect.bisect_right(self.begins, begin)
        if first > 0 and self.ranges[first - 1][1] > begin:
            first -= 1
        last = first
        left = []
        while last < len(self.ranges) and self.ranges[last][0] < end:
            old_begin, old_end, domain = self.ranges[last]
            if old_begin < begin:
                left.append((old_begin, begin, domain))
            if old_end > end:
                left.append((end, old_end, domain))
            last += 1
        self.ranges[first:last] = left
        self.begins[first:last] = [entry[0] for entry in left]

    def map(self, begin, end, domain):
        self.unmap(begin, end)
        at = bisect.bisect_left(self.begins, begin)
        self.ranges.insert(at, (begin, end, domain))
        self.begins.insert(at, begin)


class Totals:
    def __init__(self):
        self.kinds = collections.Counter()
        self.blocks = {}
        self.mappings = Mappings()

    def add(self, kind, record):
        self.kinds[kind or "unknown"] += 1
        if kind == "alloc":
            self.blocks[record["domain"], record["address"]] = record["size"]
        elif kind == "free":
            self.blocks.pop((record["domain"], record["address"]), None)
        elif kind in ("map", "unmap"):
            begin = record["address"]
            end = min(begin + record["length"], 1 << 64)
            if kind == "unmap":
                self.mappings.unmap(begin, end)
            elif end > begin:
                self.mappings.map(begin, end, 2 if record["function"] == 6 else 1)

    def lines(self):
        for kind in sorted(self.kinds):
            yield f"{kind} {self.kinds[kind]}"
        live = collections.defaultdict(lambda: [0, 0])
        for (domain, _), size in self.blocks.items():
            live[domain][0] += 1
            live[domain][1] += size
        for begin, end, domain in self.mappings.ranges:
            live[domain][0] += 1
            live[domain][1] += end - begin
        for domain, (blocks, size) in sorted(live.items()):
            yield f"live {DOMAINS.get(domain, 'unknown')} blocks={blocks} bytes={size}"


def quoted(text):
    result, hex_before = "", False
    for byte in text:
        char = chr(byte)
        escape = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "'": "\\'", "\\": "\\\\"}.get(char)
        hex_now = escape is None and (not 32 <= byte < 127 or (hex_before and char in "0123456789abcdefABCDEF"))
        if hex_now:
            escape = f"\\x{byte:02x}"
        result += escape or char
        hex_before = hex_now
    return f'"{result}"'


def line_of(kind, record):
    shapes = SHAPES.get(kind, {})
    words = [kind]
    for field, value in record.items():
        shape = shapes.get(field, "a" if field == "address" else "n")
        if shape == "a":
            words.append(f"{field}=0x{value:x}")
        elif shape in "gd":
            words.append(f"{field}={'?' if value == 0 else value - 1}")
        elif shape == "x":
            words.append(f"{field}={value.hex()}")
        elif shape == "t":
            words.append(f"{field}={quoted(value)}")
        else:
            words.append(f"{field}={value}")
    return " ".join(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", action="store_true", help="print every record")
    parser.add_argument("trace")
    options = parser.parse_args()
    try:
        with open(options.trace, "rb") as file:
            data = file.read()
    except OSError as error:
        print(f"format_check: {options.trace}: {error.strerror}", file=sys.stderr)
        return 3
    summary, totals = collections.Counter(), Totals()
    header_seen = False
    try:
        for records in chunks_of(data, summary):
            try:
                for kind, record in records:
                    if kind == "header":
                        if record["version"] > VERSION:
                            raise NoTrace(f"format version {record['version']} is newer than this reader's {VERSION}")
                        if header_seen:
                            continue
                        header_seen = True
                    totals.add(kind, record)
                    if options.lines and kind is not None:
                        print(line_of(kind, record))
            except BadRecord as error:
                summary["bad_records"] += 1
                print(f"format_check: {options.trace}: {error}", file=sys.stderr)
    except NoTrace as error:
        print(f"format_check: {options.trace}: {error}", file=sys.stderr)
        return 3
    if not options.lines:
        for line in totals.lines():
            print(line)
        print(f"chunks {summary['chunks']} dropped_bytes {summary['dropped_bytes']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
