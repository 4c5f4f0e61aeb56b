"""make_tiny_gguf.py: parses what it wrote with a reader of its own, as llama.cpp would."""

import os
import struct
import sys
import unittest

import tracing

SIZES = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


class Reader:
    """Reads GGUF v3 with every step checked."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        value = struct.unpack_from(layout, self.data, self.at)[0]
        self.at += struct.calcsize(layout)
        return value

    def text(self):
        size = self.take("<Q")
        raw = self.data[self.at:self.at + size]
        assert len(raw) == size
        self.at += size
        return raw.decode("utf-8")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            item = self.take("<I")
            return [self.value(item) for _ in range(self.take("<Q"))]
        return self.take(SIZES[kind])

    def parse(self):
        assert self.data[:4] == b"GGUF"
        self.at = 4
        assert self.take("<I") == 3
        tensors, pairs = self.take("<Q"), self.take("<Q")
        metadata = {}
        for _ in range(pairs):
            key = self.text()
            assert key not in metadata
            metadata[key] = self.value(self.take("<I"))
        table = {}
        for _ in range(tensors):
            name = self.text()
            shape = [self.take("<Q") for _ in range(self.take("<I"))]
            table[name] = (shape, self.take("<I"), self.take("<Q"))
        start = -(-self.at // metadata["general.alignment"]) * metadata["general.alignment"]
        return metadata, table, start


class TinyModelTest(tracing.TestCase):

    def make(self, *options):
        path = os.path.join(self.folder(), "tiny.gguf")
        done = tracing.run([sys.executable, tracing.TINY_MODEL, path, *options])
        self.assertEqual(done, (0, b"", b""))
        with open(path, "rb") as file:
            return file.read()

    def test_parses_and_is_complete(self):
        data = self.make()
        metadata, table, start = Reader(data).parse()
        self.assertEqual(metadata["general.architecture"], "llama")
        tokens = metadata["tokenizer.ggml.tokens"]
        self.assertEqual(tokens[:3], ["<unk>", "<s>", "</s>"])
        self.assertEqual(len(tokens), len(set(tokens)))
        self.assertEqual(len(tokens), len(metadata["tokenizer.ggml.scores"]))
        self.assertEqual(len(tokens), len(metadata["tokenizer.ggml.token_type"]))
        self.assertEqual([t for t in tokens if t.startswith("<0x")], [f"<0x{b:02X}>" for b in range(256)])
        self.assertNotIn("llama.pooling_type", metadata)

        width, feed_forward = metadata["llama.embedding_length"], metadata["llama.feed_forward_length"]
        wanted = {"token_embd.weight": [width, len(tokens)], "output.weight": [width, len(tokens)],
                  "output_norm.weight": [width]}
        for block in range(metadata["llama.block_count"]):
            for name, shape in (("attn_norm", [width]), ("attn_q", [width, width]), ("attn_k", [width, width]),
                                ("attn_v", [width, width]), ("attn_output", [width, width]), ("ffn_norm", [width]),
                                ("ffn_gate", [width, feed_forward]), ("ffn_up", [width, feed_forward]),
                                ("ffn_down", [feed_forward, width])):
                wanted[f"blk.{block}.{name}.weight"] = shape
        self.assertEqual({name: shape for name, (shape, _, _) in table.items()}, wanted)

        end = 0
        for name, (shape, kind, offset) in table.items():
            self.assertEqual(kind, 0, name)  # F32
            self.assertEqual(offset % 32, 0, name)
            self.assertGreaterEqual(offset, end, name)
            count = 1
            for dimension in shape:
                count *= dimension
            end = offset + 4 * count
            values = struct.unpack_from(f"<{count}f", data, start + offset)
            self.assertTrue(all(-4 <= v <= 1 for v in values), name)
        self.assertEqual(start + end + (-end % 32), len(data))

    def test_same_seed_same_file(self):
        self.assertEqual(self.make(), self.make("--seed", "1"))
        self.assertNotEqual(self.make(), self.make("--seed", "2"))

    def test_unwritable_path_is_one_line(self):
        done = tracing.run([sys.executable, tracing.TINY_MODEL, "/dev/null/tiny.gguf"])
        self.assertEqual(done.status, 1)
        self.assertEqual(done.stderr.count(b"\n"), 1)


if __name__ == "__main__":
    # Needs neither the library nor the analyzer.
    unittest.main(verbosity=2)
