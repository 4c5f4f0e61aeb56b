#!/usr/bin/env python3
"""Writes a tiny random llama model in GGUF v3: half a megabyte that loads, and generates nonsense of letters and words.

  make_tiny_gguf.py tiny.gguf
  printf 'FROM ./tiny.gguf\\n' > Modelfile && ollama create tiny -f Modelfile

The same seed gives the same file, byte for byte. Needs nothing but Python. The layout is that of the GGUF
specification (ggml/docs/gguf.md): header, metadata, tensor table, padding, tensor data.
"""

import argparse
import array
import random
import struct
import sys

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32

# Metadata value types.
UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9
# Tensor type.
F32 = 0
# Token types of the "llama" tokenizer (sentencepiece).
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

WIDTH = 64
BLOCKS = 2
HEADS = 4
FEED_FORWARD = 128
CONTEXT = 2048
# The first number of every token's embedding is 1 and passes through all blocks as a large constant; times this weight
# in output.weight it rules out the tokens that are no text (bytes would make invalid UTF-8, </s> an early end).
NEVER = -4.0
SPACE = "\u2581"  # sentencepiece writes a space so


def vocabulary():
    """The tokens with their scores and types: three control tokens, the 256 bytes, letters, some words."""
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    pieces = [SPACE] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces += [SPACE + word for word in ("the", "leak", "is", "in", "a", "cache", "of", "memory", "why", "sky")]
    # The higher the score, the earlier a piece is merged: longer pieces win.
    tokens += [(piece, float(len(piece) - 100), NORMAL) for piece in pieces]
    return tokens


def string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def value(kind, content):
    if kind == STRING:
        return string(content)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f"}[kind], content)


def pair(key, kind, content):
    return string(key) + struct.pack("<I", kind) + value(kind, content)


def array_pair(key, kind, contents):
    items = b"".join(value(kind, content) for content in contents)
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(contents)) + items


def metadata():
    tokens = vocabulary()
    return [
        pair("general.architecture", STRING, "llama"),
        pair("general.name", STRING, "tiny random llama"),
        pair("general.alignment", UINT32, ALIGNMENT),
        pair("llama.context_length", UINT32, CONTEXT),
        pair("llama.embedding_length", UINT32, WIDTH),
        pair("llama.block_count", UINT32, BLOCKS),
        pair("llama.feed_forward_length", UINT32, FEED_FORWARD),
        pair("llama.attention.head_count", UINT32, HEADS),
        pair("llama.attention.head_count_kv", UINT32, HEADS),
        pair("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        pair("llama.rope.dimension_count", UINT32, WIDTH // HEADS),
        pair("llama.vocab_size", UINT32, len(tokens)),
        pair("tokenizer.ggml.model", STRING, "llama"),
        array_pair("tokenizer.ggml.tokens", STRING, [token for token, _, _ in tokens]),
        array_pair("tokenizer.ggml.scores", FLOAT32, [score for _, score, _ in tokens]),
        array_pair("tokenizer.ggml.token_type", INT32, [kind for _, _, kind in tokens]),
        pair("tokenizer.ggml.unknown_token_id", UINT32, 0),
        pair("tokenizer.ggml.bos_token_id", UINT32, 1),
        pair("tokenizer.ggml.eos_token_id", UINT32, 2),
    ]


def tensors():
    """(name, shape) with the fastest dimension first, as GGUF counts."""
    tokens = len(vocabulary())
    table = [("token_embd.weight", (WIDTH, tokens))]
    for block in range(BLOCKS):
        prefix = f"blk.{block}."
        table.append((prefix + "attn_norm.weight", (WIDTH,)))
        table += [(prefix + f"attn_{part}.weight", (WIDTH, WIDTH)) for part in ("q", "k", "v", "output")]
        table.append((prefix + "ffn_norm.weight", (WIDTH,)))
        table += [(prefix + f"ffn_{part}.weight", (WIDTH, FEED_FORWARD)) for part in ("gate", "up")]
        table.append((prefix + "ffn_down.weight", (FEED_FORWARD, WIDTH)))
    table.append(("output_norm.weight", (WIDTH,)))
    table.append(("output.weight", (WIDTH, tokens)))
    return table


def elements(shape):
    count = 1
    for dimension in shape:
        count *= dimension
    return count


def padding(size):
    return b"\0" * (-size % ALIGNMENT)


def tensor_data(name, shape, generator):
    if name.endswith("norm.weight"):
        numbers = array.array("f", [1.0] * elements(shape))
    else:
        numbers = array.array("f", (generator.uniform(-0.1, 0.1) for _ in range(elements(shape))))
    for token, (_, _, kind) in enumerate(vocabulary()):
        if name == "token_embd.weight":
            numbers[token * WIDTH] = 1.0
        elif name == "output.weight" and kind != NORMAL:
            numbers[token * WIDTH] = NEVER
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def make(seed=1):
    """The whole file's bytes."""
    generator = random.Random(seed)
    pairs, table = metadata(), tensors()
    infos, data = b"", bytearray()
    for name, shape in table:
        infos += string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        infos += struct.pack("<IQ", F32, len(data))
        content = tensor_data(name, shape, generator)
        data += content + padding(len(content))
    head = MAGIC + struct.pack("<IQQ", VERSION, len(table), len(pairs)) + b"".join(pairs) + infos
    return head + padding(len(head)) + bytes(data)


def main():
    parser = argparse.ArgumentParser(description="Write a tiny random llama model (GGUF).",
                                     epilog="example: make_tiny_gguf.py tiny.gguf")
    parser.add_argument("path", help="the file to write")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another model (default 1)")
    options = parser.parse_args()
    try:
        with open(options.path, "wb") as file:
            file.write(make(options.seed))
    except OSError as error:
        print(f"make_tiny_gguf.py: {options.path}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
