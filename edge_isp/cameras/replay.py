"""A recording as a camera: `.raw` files with their sidecars, DNG files, or a folder of either."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_isp.cameras.base import CameraBase, ControlLimits
from edge_isp.cameras.sidecar import Sidecar, read_sidecar
from edge_isp.errors import CameraError, FormatError, MissingDependencyError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack

_SUFFIXES = (".raw", ".dng")

# Linear sRGB to XYZ (IEC 61966-2-1).
_XYZ_OF_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


class ReplayCamera(CameraBase):
    """Delivers the frames of a recording in order, as fast as they are read.

    All files are checked when the camera is made.

    Args:
        path: a `.raw` file, a `.dng` file, or a folder whose `.raw` and `.dng` files follow each other by
            name. `sequence` counts the frames of each file; `timestamp_ns` is the time of reading.

    Raises:
        CameraError: there is no such file or folder, or nothing in it.
        FormatError: a file's size is not a whole number of frames, or its sidecar is wrong.
        MissingDependencyError: a DNG is to be read and rawpy is not installed.
    """

    live = False
    settable_hint = "a recording's exposure, gain and white balance are those it was taken with"

    def __init__(self, path: str | Path) -> None:
        super().__init__(str(path))
        self._recordings = [_open_recording(file) for file in _files(Path(path))]
        self._frames: Iterator[RawFrame] = (frame for recording in self._recordings for frame in recording.frames())

    @property
    def limits(self) -> ControlLimits:
        """A recording has none.

        Raises:
            CameraError: always.
        """
        raise CameraError(f"{self.source}: the exposure and gain of a recording cannot be set")

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """Returns the next frame, or None after the last; see `Camera.read`.

        Args:
            timeout_s: ignored, since a file does not keep its reader waiting.

        Raises:
            FormatError: a file has become shorter, or cannot be read.
        """
        return None if self.closed.is_set() else next(self._frames, None)


class _Recording(Protocol):
    def frames(self) -> Iterator[RawFrame]: ...


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise CameraError(f"{path}: no .raw or .dng file in this folder")
        return files
    if not path.is_file():
        raise CameraError(f"{path}: no such file or folder")
    if path.suffix.lower() not in _SUFFIXES:
        raise CameraError(f"{path}: cannot be replayed; expected {' or '.join(_SUFFIXES)}, or a folder of them")
    return [path]


def _open_recording(path: Path) -> _Recording:
    return DngFile(path) if path.suffix.lower() == ".dng" else RawFile(path)


class RawFile:
    """A `.raw` file: frames one after the other, described by its sidecar.

    Args:
        path: of the `.raw` file; its sidecar has the same name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sidecar = read_sidecar(path.with_suffix(".toml"))
        self.count = _whole_frames(path, self.sidecar)

    def frames(self) -> Iterator[RawFrame]:
        """Each frame in a buffer of its own.

        Raises:
            FormatError: the file has become shorter.
        """
        layout = self.sidecar.format
        with self.path.open("rb", buffering=0) as file:
            for index in range(self.count):
                data = np.empty((layout.height, layout.stride), np.uint8)
                timestamp_ns = time.monotonic_ns()
                found = file.readinto(data.data.cast("B"))
                if found != layout.frame_bytes:
                    raise FormatError(
                        f"{self.path}: frame {index} is truncated: expected {layout.frame_bytes} bytes, found {found}"
                    )
                yield self._frame(index, data, timestamp_ns)

    def _frame(self, index: int, data: NDArray[np.uint8], timestamp_ns: int) -> RawFrame:
        every = self.sidecar.conditions  # one for all frames, or one per frame
        conditions = every[index % len(every)]
        return RawFrame(
            data=data,
            format=self.sidecar.format,
            source=str(self.path),
            sequence=index,
            timestamp_ns=timestamp_ns,
            black_level=self.sidecar.black_level,
            white_level=self.sidecar.white_level,
            sensor=self.sidecar.sensor,
            exposure_ns=conditions.exposure_ns,
            analogue_gain=conditions.analogue_gain,
            colour_gains=conditions.colour_gains,
            colour_temperature_k=conditions.colour_temperature_k,
        )


def _whole_frames(path: Path, sidecar: Sidecar) -> int:
    size, frame = path.stat().st_size, sidecar.format.frame_bytes
    count, rest = divmod(size, frame)
    if rest or not count:
        raise FormatError(
            f"{path}: truncated frame: expected a whole number of frames of {frame} bytes "
            f"({sidecar.format}, stride {sidecar.format.stride}), found {size} bytes: {count} frames and {rest} bytes"
        )
    if len(sidecar.conditions) > 1 and len(sidecar.conditions) != count:
        raise FormatError(
            f"{path}: holds {count} frames, but its sidecar has {len(sidecar.conditions)} [[frame]] tables"
        )
    return count


@dataclass(frozen=True, slots=True)
class DngFile:
    """A DNG file: one frame, read by rawpy. White balance is the camera's own (AsShotNeutral).

    Attributes:
        path: of the file.

    Raises:
        MissingDependencyError: rawpy is not installed.
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            import rawpy  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingDependencyError(f"{self.path}: reading a DNG", "rawpy", "dng") from error

    def frames(self) -> Iterator[RawFrame]:
        """The one frame.

        Raises:
            FormatError: rawpy cannot read it, or it is no Bayer mosaic.
        """
        import rawpy

        timestamp_ns = time.monotonic_ns()
        try:
            with rawpy.imread(str(self.path)) as raw:
                yield self._frame(raw, timestamp_ns)
        except rawpy.LibRawError as error:
            raise FormatError(f"{self.path}: LibRaw cannot read it: {error}") from error

    def _frame(self, raw: Any, timestamp_ns: int) -> RawFrame:
        codes = raw.raw_image_visible
        if (
            codes is None
            or codes.ndim != 2
            or raw.num_colors != 3
            or raw.raw_pattern is None
            or raw.raw_pattern.shape != (2, 2)
        ):
            raise FormatError(f"{self.path}: not a Bayer mosaic of three colours")
        colours = raw.raw_colors_visible[:2, :2]
        letters = "".join(chr(raw.color_desc[i]) for i in colours.ravel())
        codes = codes[: codes.shape[0] // 2 * 2, : codes.shape[1] // 2 * 2]
        white = int(raw.white_level)
        bit_depth = max(8, int(max(white, int(codes.max()))).bit_length())
        layout = RawFormat(codes.shape[1], codes.shape[0], Cfa(letters), bit_depth, Packing.U16)
        # rawpy's channels are R, G, B and the second green, each with its black level.
        level = dict(zip("RGB", raw.black_level_per_channel, strict=False))
        red, green, blue = (float(level[c]) for c in "RGB")
        second_green = float(raw.black_level_per_channel[3])
        first_row = [int(i) for i in colours[0 if "R" in letters[:2] else 1]]
        green_red, green_blue = (second_green, green) if 3 in first_row else (green, second_green)
        return RawFrame(
            data=pack(codes, packing=layout.packing, bit_depth=bit_depth),
            format=layout,
            source=str(self.path),
            sequence=0,
            timestamp_ns=timestamp_ns,
            black_level=(red, green_red, green_blue, blue),
            white_level=float(white),
            colour_gains=_camera_gains(raw.camera_whitebalance),
            colour_matrix=_colour_matrix(np.asarray(raw.rgb_xyz_matrix, np.float64)[:3]),
        )


def _colour_matrix(camera_of_xyz: NDArray[np.float64]) -> tuple[float, ...] | None:
    """Balanced camera colour to linear sRGB of a DNG's matrix (XYZ to camera), scaled so that white stays white, as
    dcraw and LibRaw have it; None where there is none."""
    camera_of_srgb = camera_of_xyz @ _XYZ_OF_SRGB
    white = camera_of_srgb.sum(1)
    if not np.all(white > 0) or abs(np.linalg.det(camera_of_srgb)) < 1e-6:
        return None
    return tuple(np.linalg.inv(camera_of_srgb / white[:, None]).ravel().tolist())


def _camera_gains(multipliers: list[float]) -> tuple[float, float] | None:
    red, green, blue = multipliers[:3]
    if min(red, green, blue) <= 0:
        return None
    return red / green, blue / green
