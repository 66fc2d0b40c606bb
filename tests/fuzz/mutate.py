"""Damaged versions of good inputs: bytes turned, parts left out, repeated and exchanged, numbers that hurt."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

# What has broken parsers before.
NUMBERS = (
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e309",
    "1e-320",
    "0.001",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "0x" + "f" * 300,
    "9" * 5000,
    "1" + "0" * 40,
    "true",
    '""',
    "[]",
    "{}",
    "null",
    "NaN",
    "1979-05-27T07:32:00Z",
)
FRAGMENTS = (
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"[" * 2000,
    b"{" * 2000,
    b'"' * 50,
    b"[[frame]]\n",
    b"frame = []\n",
    b"\\u0000",
    b"\\ud800",
    b"#",
    b"=",
    b",",
    b",,",
    b":",
    b"..",
    b"\n",
    b"\r",
    b"'''",
    b'"""',
    "é".encode(),
    b"a.b.c = 1\n",
    b"a." * 3000 + b"a = 1\n",
    b"__proto__",
)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")


def mutate(rng: random.Random, seeds: Sequence[bytes], *, text: bool) -> bytes:
    """One damaged input.

    Args:
        rng: decides.
        seeds: good inputs of the parser.
        text: whether they are text, whose numbers are exchanged as they stand; else they are replaced by whole numbers
            of 1, 2, 4 or 8 bytes.
    """
    content = bytearray(rng.choice(seeds))
    for _ in range(1 + int(rng.expovariate(0.7))):
        content = bytearray(_mutated(rng, content, seeds, text=text))
    return bytes(content)


def _mutated(rng: random.Random, content: bytearray, seeds: Sequence[bytes], *, text: bool) -> bytes | bytearray:
    if not content:
        return rng.choice(seeds)
    start = rng.randrange(len(content))
    end = min(len(content), start + 1 + int(rng.expovariate(0.05)))
    match rng.randrange(8 if text else 6):
        case 0:
            content[start] ^= 1 << rng.randrange(8)
        case 1:
            del content[start:end]
        case 2:
            content[start:start] = content[start:end] * rng.choice((1, 2, 50))
        case 3:
            other = rng.choice(seeds)
            begin = rng.randrange(len(other))
            content[start:end] = other[begin : begin + end - start]
        case 4:
            del content[start:]
        case 5 if not text:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.getrandbits(64)))
            content[start : start + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
        case 5:
            content[start:start] = rng.choice(FRAGMENTS)
        case _:
            numbers = list(_NUMBER.finditer(content))
            if numbers:
                found = rng.choice(numbers)
                content[found.start() : found.end()] = rng.choice(NUMBERS).encode()
    return content
