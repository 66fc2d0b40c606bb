"""Frames and disks for tests of recordings."""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_isp.corrections import Origins
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.kernels.layout import Flips
from edge_isp.recording.mcap_file import Bytes, FileOutput
from edge_isp.sensor_window import SensorWindow

PACKINGS = [
    (Packing.U8, 8),
    (Packing.U16, 10),
    (Packing.U16, 16),
    (Packing.U16_LEFT, 12),
    (Packing.CSI2P, 8),
    (Packing.CSI2P, 10),
    (Packing.CSI2P, 12),
    (Packing.CSI2P, 14),
    (Packing.PISP_COMP1, 16),
]

# Of the board's own ISP; frames may lend a part of a larger buffer.
PICTURE = np.random.default_rng(1).integers(0, 256, (6, 10, 3), np.uint8)

# What drivers report: usable, absent, and what counts as absent.
METADATA: list[dict[str, Any]] = [
    {},
    {"exposure_ns": 12_345_678, "analogue_gain": 2.5, "colour_gains": (1.75, 1.43), "sensor": "imx219"},
    {"exposure_ns": 0, "analogue_gain": math.nan, "colour_gains": (0.0, math.inf), "orientation": 0},
    {"exposure_ns": 2**64, "digital_gain": -1.0, "colour_temperature_k": math.nan, "orientation": 6},
    {"exposure_ns": 12_345.5, "analogue_gain": math.inf},
    {"exposure_ns": math.nan, "colour_matrix": (0.1,) * 9, "noise_profile": (2.0, -1.0), "sensor": ""},
    {"window": SensorWindow(2, 4, 64, 32, (3280, 2464), Flips(vertical=True, horizontal=False)), "lens_shading": False},
    {"window": SensorWindow(0, 0, 64, 32), "baseline_exposure_ev": 1e300, "white_level": 0.5},
    {"auto_brightness": 1.5, "origins": Origins("file", {"black_level": "profile 'imx219'"})},
    {"status": FrameStatus.GAP | FrameStatus.TRUNCATED, "source": "caméra\n☃", "timestamp_ns": -5},
    {"timestamp_ns": 2**63 - 1, "sequence": -3, "black_level": (math.nan, -1.0, 1e300, 0.0)},
    {"metadata": {"SensorTemperature": 31.5, "AfState": "Focused", "ScalerCrop": [0, 4, 3280, 2464], "Locked": True}},
    {"metadata": {"Lux": math.nan, "Far": [math.inf, -math.inf], "caméra ☃": "\u0000", "Nested": [[1, 2.0], []]}},
    {"isp_picture": PICTURE, "metadata": {"FrameDuration": 2**62}},
    {"isp_picture": PICTURE[:4, 2:6]},
]


def frame(
    number: int, packing: Packing = Packing.CSI2P, bit_depth: int = 10, size: tuple[int, int] = (32, 16)
) -> RawFrame:
    """A frame of random bytes, padding included, with one of `METADATA`."""
    width, height = size
    layout = RawFormat(width, height, list(Cfa)[number % 4], bit_depth, packing)
    layout = replace(layout, stride=layout.row_bytes + number % 3)
    data = np.random.default_rng(number).integers(0, 256, (height, layout.stride), np.uint8)
    plain = RawFrame(
        data=data,
        format=layout,
        source="camera",
        sequence=number,
        timestamp_ns=1_000_000_000 + 33_333_333 * number,
        black_level=(64.0, 64.25, 63.75, 64.0),
        white_level=1023.0,
    )
    return replace(plain, **METADATA[number % len(METADATA)])


def plain_frame(number: int, size: tuple[int, int] = (32, 16)) -> RawFrame:
    """A frame whose metadata can be used; the first bytes say its number."""
    found = frame(0, size=size)
    data = np.full_like(found.data, number % 251)
    return replace(found, data=data, sequence=number, timestamp_ns=1_000_000_000 + 33_333_333 * number)


def assert_identical(found: RawFrame, expected: RawFrame) -> None:
    """Every field is the same, NaN included, and every byte."""
    for each in fields(RawFrame):
        if each.name in ("on_release", "_released"):
            continue
        a, b = getattr(found, each.name), getattr(expected, each.name)
        if isinstance(b, np.ndarray):
            assert isinstance(a, np.ndarray)
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
        else:
            assert _same(a, b), f"{each.name}: {a!r} is not {b!r}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple) and not isinstance(a, Flips):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(_same(a[name], b[name]) for name in b)
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


class FaultyDisk:
    """Files in memory, on a disk that can be full, hang, be gone, or lose what was not synced.

    Attributes:
        contents: of each file.
        synced: bytes of each file that a power cut leaves.
        room: bytes that can still be written; None is unlimited.
        gone: whether everything fails.
        sync_fails: whether only putting what was written onto the disk does.
        passes: cleared where writes hang.
        open_outputs: files that were opened and not closed.
    """

    def __init__(self) -> None:
        self.contents: dict[Path, bytearray] = {}
        self.synced: dict[Path, int] = {}
        self.room: int | None = None
        self.gone = self.sync_fails = False
        self.passes = threading.Event()
        self.passes.set()
        self.hangs = threading.Event()
        self.open_outputs = 0

    def open(self, path: Path) -> _FaultyOutput:
        """See `Recorder`."""
        self.check()
        self.contents[path], self.synced[path] = bytearray(), 0
        self.open_outputs += 1
        return _FaultyOutput(self, path)

    def check(self) -> None:
        """Fails where the disk is gone."""
        if self.gone:
            raise OSError(errno.EIO, "Input/output error")

    def is_synced(self) -> bool:
        """Whether a power cut would cost nothing."""
        return all(self.synced[path] == len(content) for path, content in self.contents.items())

    def save(self, folder: Path) -> list[Path]:
        """Puts what is on the disk into real files."""
        found = []
        for path, content in self.contents.items():
            (folder / path.name).write_bytes(bytes(content))
            found.append(folder / path.name)
        return found


class _FaultyOutput:
    def __init__(self, disk: FaultyDisk, path: Path) -> None:
        self._disk, self._path = disk, path

    def write(self, parts: Sequence[Bytes]) -> None:
        for part in parts:
            if not self._disk.passes.is_set():
                self._disk.hangs.set()
                self._disk.passes.wait(20)
            self._disk.check()
            content = bytes(part)
            room = self._disk.room
            if room is not None:
                fits = content[: max(room, 0)]
                self._disk.contents[self._path] += fits
                self._disk.room = room - len(fits)
                if len(fits) < len(content):
                    raise OSError(errno.ENOSPC, "No space left on device")
            else:
                self._disk.contents[self._path] += content

    def truncate(self, size: int) -> None:
        self._disk.check()
        content = self._disk.contents[self._path]
        if self._disk.room is not None:
            self._disk.room += len(content) - size
        del content[size:]

    def sync(self) -> None:
        self._disk.check()
        if self._disk.sync_fails:
            raise OSError(errno.EIO, "Input/output error")
        self._disk.synced[self._path] = len(self._disk.contents[self._path])

    def close(self) -> None:
        self._disk.open_outputs -= 1


class ThrottledOutput:
    """A file on a disk of so many bytes a second. It sleeps, as such a disk makes its writer sleep.

    Args:
        path: of the file.
        rate: bytes per second.
        waits: `threading.Event.wait` of an event that ends the waiting.
    """

    def __init__(self, path: Path, rate: float, ends: threading.Event) -> None:
        self._output, self._rate, self._ends = FileOutput(path), rate, ends

    def write(self, parts: Sequence[Bytes]) -> None:
        self._ends.wait(sum(len(part) for part in parts) / self._rate)
        self._output.write(parts)

    def truncate(self, size: int) -> None:
        self._output.truncate(size)

    def sync(self) -> None:
        self._output.sync()

    def close(self) -> None:
        self._output.close()


def numbers(frames: Iterator[tuple[int, RawFrame]]) -> list[int]:
    """Of the frames."""
    return [found.sequence for _, found in frames]
