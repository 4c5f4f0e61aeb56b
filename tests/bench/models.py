"""Random llama models in GGUF, of two sizes; what they say is nonsense, what it costs depends on their shape alone."""

import os
import sys


def _generator(bench):
    folder = os.path.join(bench.source, "examples", "tiny_model")
    if folder not in sys.path:
        sys.path.append(folder)
    import make_tiny_gguf
    return make_tiny_gguf


def _written(bench, name, **shape):
    """The path of a model below the build folder, made when it is not there yet."""
    path = os.path.join(bench.build, name)
    if not os.path.exists(path):
        generator = _generator(bench)
        usual = {key: getattr(generator, key) for key in shape}
        for key, value in shape.items():
            setattr(generator, key, value)
        try:
            content = generator.make()
        finally:
            for key, value in usual.items():
                setattr(generator, key, value)
        with open(path + ".new", "wb") as file:
            file.write(content)
        os.replace(path + ".new", path)
    return path


def tiny(bench):
    """Half a megabyte, as the integration tests': nearly all of a completion is llama.cpp's bookkeeping."""
    return _written(bench, "bench-tiny.gguf")


def small(bench):
    """5 million parameters, 20 MB: the smallest that people run for more than a test."""
    return _written(bench, "bench-small.gguf", WIDTH=256, BLOCKS=6, HEADS=8, FEED_FORWARD=768)
