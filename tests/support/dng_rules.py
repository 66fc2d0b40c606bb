"""Checks a DNG file against the rules of Adobe's specification (1.4), without any code of the writer."""

from __future__ import annotations

import struct
from typing import Any

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8, 12: 8}
_FORMATS = {3: "H", 4: "I", 12: "d"}

Directory = dict[int, tuple[int, list[Any]]]

# Number: allowed types, and the count (None for any).
_CAMERA = {
    271: ((2,), None),
    272: ((2,), None),
    274: ((3,), 1),
    50706: ((1,), 4),
    50707: ((1,), 4),
    50708: ((2,), None),
    50721: ((10,), 9),
    50722: ((10,), 9),
    50728: ((3, 5), 3),
    50730: ((10,), 1),
    50778: ((3,), 1),
    50779: ((3,), 1),
    50964: ((10,), 9),
    50965: ((10,), 9),
}
_MOSAIC = {
    256: ((3, 4), 1),
    257: ((3, 4), 1),
    258: ((3,), 1),
    262: ((3,), 1),
    277: ((3,), 1),
    33421: ((3,), 2),
    33422: ((1,), 4),
    50710: ((1,), 3),
    50711: ((3,), 1),
    50713: ((3,), 2),
    50714: ((3, 4, 5), 4),
    50717: ((3, 4), 1),
    50718: ((5,), 2),
    50719: ((3, 4, 5), 2),
    50720: ((3, 4, 5), 2),
    50829: ((3, 4), 4),
    51009: ((7,), None),
    51041: ((12,), 2),
}
_REQUIRED_CAMERA = {271, 272, 274, 50706, 50707, 50708, 50721, 50778}
_REQUIRED_MOSAIC = {254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 33421, 33422, 50717}


def read_directories(content: bytes) -> tuple[Directory, Directory, Directory]:
    """The first directory, that of the mosaic (the same where there is no thumbnail) and EXIF's; asserts TIFF's rules.

    Args:
        content: of the file.
    """
    order, magic, begin = struct.unpack_from("<2sHI", content)
    assert (order, magic) == (b"II", 42)
    first = _directory(content, begin)
    mosaic = _directory(content, first[330][1][0]) if 330 in first else first
    return first, mosaic, _directory(content, first[34665][1][0])


def check_dng(content: bytes) -> None:
    """Asserts that a file keeps the specification's rules.

    Args:
        content: of the file.
    """
    first, mosaic, exif = read_directories(content)
    assert first.keys() >= _REQUIRED_CAMERA
    assert mosaic.keys() >= _REQUIRED_MOSAIC
    for rules, directory in ((_CAMERA, first), (_MOSAIC, mosaic)):
        for number, (kinds, count) in rules.items():
            if number in directory:
                kind, values = directory[number]
                assert kind in kinds, f"type of {number}"
                assert count in (None, len(values)), f"count of {number}"
    assert mosaic[254][1] == [0]
    assert mosaic[262][1] == [32803]
    if first is not mosaic:
        assert first[254][1] == [1]  # a reduced picture
        assert max(first[256][1][0], first[257][1][0]) <= 256
    width, height = mosaic[256][1][0], mosaic[257][1][0]
    assert mosaic[279][1] == [2 * width * height]
    assert mosaic[273][1][0] + mosaic[279][1][0] <= len(content)
    assert sorted(mosaic[33422][1]) == [0, 1, 1, 2]
    white = mosaic[50717][1][0]
    assert all(0 <= black < white < 1 << mosaic[258][1][0] for black in mosaic[50714][1])
    top, left, bottom, right = mosaic[50829][1]
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
    assert (50722 in first) == (50779 in first)
    assert (50964 in first, 50965 in first) in ((True, 50722 in first), (False, False))
    if 50728 in first:
        assert all(0 < value <= 1 for value in first[50728][1])
    for number in (50964, 50965):
        if number in first:  # white in the camera is the white of D50
            rows = [sum(first[number][1][3 * i : 3 * i + 3]) for i in range(3)]
            assert all(abs(a - b) < 1e-3 for a, b in zip(rows, (0.9642, 1.0, 0.8251), strict=True))
    assert exif[36864][0] == 7


def _directory(content: bytes, begin: int) -> Directory:
    assert begin % 2 == 0
    (count,) = struct.unpack_from("<H", content, begin)
    found: Directory = {}
    last = 0
    for index in range(count):
        number, kind, values = struct.unpack_from("<HHI", content, begin + 2 + 12 * index)
        assert number > last, "tags are in rising order"
        last = number
        place = begin + 2 + 12 * index + 8
        size = values * _SIZES[kind]
        if size > 4:
            (place,) = struct.unpack_from("<I", content, place)
            assert place % 2 == 0
        assert place + size <= len(content)
        found[number] = kind, _values(content[place : place + size], kind)
    return found


def _values(stored: bytes, kind: int) -> list[Any]:
    if kind == 2:
        assert stored.endswith(b"\0")
        return list(stored)
    if kind in (1, 7):
        return list(stored)
    if kind in (5, 10):
        flat = struct.unpack(f"<{len(stored) // 4}{'I' if kind == 5 else 'i'}", stored)
        assert all(flat[1::2]), "a denominator is 0"
        return [top / bottom for top, bottom in zip(flat[0::2], flat[1::2], strict=True)]
    return list(struct.unpack(f"<{len(stored) // _SIZES[kind]}{_FORMATS[kind]}", stored))
