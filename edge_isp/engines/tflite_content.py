"""Sizes that a `.tflite` states within itself, changed without any package that knows the format.

A transposed convolution reads the shape of its output from a constant. The interpreter resizes every other tensor with
the input, and then refuses the model.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

# Places of what is read here among the fields of their tables, in the schema of TensorFlow Lite.
_MODEL_SUBGRAPHS, _MODEL_BUFFERS, _SUBGRAPH_TENSORS, _TENSOR_BUFFER, _BUFFER_DATA = 2, 4, 0, 2, 0


def with_shapes(content: bytes, shapes: Mapping[int, Sequence[int]]) -> bytes:
    """A model with other values in constants that state shapes.

    Args:
        content: of a `.tflite` that an interpreter has read without an error.
        shapes: the values for each constant, by the index of its tensor in the first graph; as many as it holds.
    """
    changed = bytearray(content)
    model = _follow(content, 0)
    tensors = _entry(content, _vector(content, model, _MODEL_SUBGRAPHS), 0)
    for index, shape in shapes.items():
        tensor = _entry(content, _vector(content, tensors, _SUBGRAPH_TENSORS), index)
        (buffer,) = struct.unpack_from("<I", content, _field(content, tensor, _TENSOR_BUFFER))
        data = _vector(content, _entry(content, _vector(content, model, _MODEL_BUFFERS), buffer), _BUFFER_DATA)
        struct.pack_into(f"<{len(shape)}i", changed, data + 4, *shape)
    return bytes(changed)


def _follow(content: bytes, position: int) -> int:
    """Where an offset leads, which counts from its own position."""
    return position + int(struct.unpack_from("<I", content, position)[0])


def _field(content: bytes, table: int, place: int) -> int:
    """Position of a field that the table has; a table begins with the way back to the list of its fields."""
    fields = table - struct.unpack_from("<i", content, table)[0]
    return table + int(struct.unpack_from("<H", content, fields + 4 + 2 * place)[0])


def _vector(content: bytes, table: int, place: int) -> int:
    """Position of the vector that a field names: its length, and then its entries."""
    return _follow(content, _field(content, table, place))


def _entry(content: bytes, vector: int, index: int) -> int:
    """Position of a table in a vector of tables."""
    return _follow(content, vector + 4 + 4 * index)
