"""scenarios.py NAME: scenarios of Python with C, whose truth stands in python.json."""

import collections
import ctypes
import os
import sys

import corpus_extension

library = ctypes.CDLL(corpus_extension.__file__)
kept = []
recent = collections.deque(maxlen=30)


def extension_leak(_):
    corpus_extension.leak(1500)


def extension_cache(_):
    corpus_extension.cache()


def lost_reference(_):
    corpus_extension.lose_reference()


def ctypes_leak(_):
    library.ctypes_keeps(800)


def list_never_emptied(number):
    kept.append(bytearray(2000 + number % 3))


def bounded_deque(number):
    recent.append(bytearray(4000 + number % 3))


scenario = globals()[sys.argv[1]]
for request in range(300):
    scenario(request)
    library.ctypes_answered()
# As a server ends: what it holds is not taken down object by object.
os._exit(0)
