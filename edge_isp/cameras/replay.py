"""A recording as a camera: `.raw` files with their sidecars, DNG files, or a folder of either."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.dng import read_dng
from edge_isp.cameras.base import CameraBase, ControlLimits
from edge_isp.cameras.broadcom_header import read_header
from edge_isp.cameras.libcamera_files import read_description, with_metadata
from edge_isp.cameras.sidecar import Sidecar, read_sidecar
from edge_isp.corrections import Origins
from edge_isp.errors import CameraError, FormatError, MissingDependencyError
from edge_isp.files import files_of
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame, RecordedFrame
from edge_isp.kernels.pack import pack

_SUFFIXES = (".raw", ".dng")

_log = logging.getLogger(__name__)


class ReplayCamera(CameraBase):
    """Delivers the frames of a recording in order, as fast as they are read.

    All files are checked when the camera is made.

    Args:
        path: a `.raw` file, a `.dng` file, or a folder whose `.raw` and `.dng` files follow each other by
            name. `sequence` counts the frames of each file; `timestamp_ns` is the time of reading.

    Raises:
        CameraError: there is no such file or folder, or nothing in it.
        FormatError: a file's size is not a whole number of frames, its sidecar is wrong, or a DNG's tags are.
        MissingDependencyError: a DNG is to be read, and rawpy or tifffile is not installed.
    """

    live = False
    settable_hint = "a recording's exposure, gain and white balance are those it was taken with"

    def __init__(self, path: str | Path) -> None:
        super().__init__(str(path))
        self._recordings = [_open_recording(file) for file in _files(Path(path))]
        self._frames: Iterator[RecordedFrame] = (
            frame for recording in self._recordings for frame in recording.frames()
        )

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
    def frames(self) -> Iterator[RecordedFrame]: ...


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = files_of(path, _SUFFIXES)
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
        path: of the `.raw` file; see `describe` for what describes it.

    Raises:
        FormatError: the file's size is not a whole number of frames, or its sidecar is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sidecar = describe(path)
        self.count = _whole_frames(path, self.sidecar)
        self._checked_depth = self.sidecar.format.packing is not Packing.U16

    def frames(self) -> Iterator[RecordedFrame]:
        """Each frame in a buffer of its own.

        Raises:
            FormatError: the file has become shorter.
        """
        layout = self.sidecar.format
        with self.path.open("rb", buffering=0) as file:
            for index in range(self.count):
                data = np.empty((layout.height, layout.stride), np.uint8)
                timestamp_ns = time.monotonic_ns()
                file.seek(self.sidecar.offset + index * self.sidecar.frame_bytes)
                found = file.readinto(data.data.cast("B"))
                if found != layout.frame_bytes:
                    raise FormatError(
                        f"{self.path}: frame {index} is truncated: expected {layout.frame_bytes} bytes, found {found}"
                    )
                self._check_depth(data)
                yield self._frame(index, data, timestamp_ns)

    def _check_depth(self, data: NDArray[np.uint8]) -> None:
        """Warns of codes beyond the bit depth in the first frame: they are left-aligned, or have more bits."""
        if self._checked_depth:
            return
        self._checked_depth = True
        layout = self.sidecar.format
        highest = int(data[:, : layout.row_bytes].view("<u2").max())
        if highest < 1 << layout.bit_depth:
            return
        _log.warning(
            "%s: codes exceed the bit depth: the highest is %d, %d bits hold %d at most; where the sensor's bits are "
            'the upper ones of each 16, write packing = "u16-left" into %s, else the right bit_depth',
            self.path,
            highest,
            layout.bit_depth,
            (1 << layout.bit_depth) - 1,
            self.path.with_suffix(".toml").name,
        )

    def _frame(self, index: int, data: NDArray[np.uint8], timestamp_ns: int) -> RecordedFrame:
        every = self.sidecar.conditions  # one for all frames, or one per frame
        conditions = every[index % len(every)]
        return RecordedFrame(
            data=data,
            format=self.sidecar.format,
            source=str(self.path),
            sequence=index,
            timestamp_ns=timestamp_ns if conditions.timestamp_ns is None else conditions.timestamp_ns,
            black_level=self.sidecar.black_level,
            white_level=self.sidecar.white_level,
            sensor=self.sidecar.sensor,
            exposure_ns=conditions.exposure_ns,
            taken_at=conditions.taken_at,
            analogue_gain=conditions.analogue_gain,
            digital_gain=conditions.digital_gain,
            colour_matrix=conditions.colour_matrix,
            noise_profile=conditions.noise_profile,
            baseline_exposure_ev=conditions.baseline_exposure_ev,
            orientation=conditions.orientation or 1,
            colour_gains=conditions.colour_gains,
            colour_temperature_k=conditions.colour_temperature_k,
            window=self.sidecar.window,
            lens_shading=self.sidecar.lens_shading,
            origins=self.sidecar.origins,
        )


def describe(path: Path) -> Sidecar:
    """What is known of a `.raw` file: from its sidecar, from libcamera's JSON beside it, or from its own header.

    Args:
        path: of the `.raw` file.

    Raises:
        FormatError: there is none of these, or it is wrong.
    """
    toml, metadata = path.with_suffix(".toml"), path.with_suffix(".json")
    if toml.exists():
        sidecar = read_sidecar(toml)
        return with_metadata(metadata, sidecar) if metadata.exists() else sidecar
    if metadata.exists():
        return read_description(metadata)
    return read_header(path) or read_sidecar(toml)


def _whole_frames(path: Path, sidecar: Sidecar) -> int:
    """How many frames the file holds; what a driver adds to the last one may be missing."""
    size, frame, layout = path.stat().st_size, sidecar.frame_bytes, sidecar.format
    added = frame - layout.frame_bytes
    count, rest = divmod(size - sidecar.offset + added, frame)
    if size < sidecar.offset or count < 1 or rest not in (0, added):
        raise FormatError(_size_error(path, size, sidecar))
    if len(sidecar.conditions) > 1 and len(sidecar.conditions) != count:
        raise FormatError(
            f"{path}: holds {count} frames, but its sidecar has {len(sidecar.conditions)} [[frame]] tables"
        )
    return count


def _size_error(path: Path, size: int, sidecar: Sidecar) -> str:
    layout = sidecar.format
    before = f"{sidecar.offset} bytes and then " if sidecar.offset else ""
    count, rest = divmod(max(size - sidecar.offset, 0), sidecar.frame_bytes)
    message = (
        f"{path}: truncated frame: expected {before}a whole number of frames of {sidecar.frame_bytes} bytes "
        f"({layout}, stride {layout.stride}), found {size} bytes: {count} frames and {rest} bytes"
    )
    if count and rest:
        message += (
            f"; if {rest} bytes stand before the first frame, write offset = {rest} into "
            f"{path.with_suffix('.toml').name}; if something stands between the frames, frame_bytes"
        )
    return message


class DngFile:
    """A DNG file: one frame. What its tags say is read when it is opened, its codes by rawpy when they are needed.

    Args:
        path: of the file.

    Raises:
        FormatError: it is no DNG of a Bayer sensor, or one of its tags is out of range.
        MissingDependencyError: rawpy or tifffile is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import rawpy  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingDependencyError(f"{path}: reading a DNG", "rawpy", "dng") from error
        self.path = path
        self._dng = read_dng(path)

    def frames(self) -> Iterator[RecordedFrame]:
        """The one frame.

        Raises:
            FormatError: LibRaw cannot read its codes.
        """
        timestamp_ns = time.monotonic_ns()
        codes = self._dng.crop_codes(self._stored_codes())
        dng = self._dng
        bit_depth = max(8, int(max(dng.white_level, int(codes.max()))).bit_length())
        layout = RawFormat(codes.shape[1], codes.shape[0], Cfa(dng.cfa), bit_depth, Packing.U16)
        yield RecordedFrame(
            data=pack(codes, packing=layout.packing, bit_depth=bit_depth),
            format=layout,
            source=str(self.path),
            sequence=0,
            timestamp_ns=timestamp_ns,
            black_level=dng.black_level,
            white_level=dng.white_level,
            exposure_ns=dng.exposure_ns,
            taken_at=dng.taken_at,
            analogue_gain=dng.analogue_gain,
            colour_gains=dng.colour_gains,
            colour_matrix=dng.colour_matrix,
            window=dng.window,
            orientation=dng.orientation,
            # A fit may give a slightly negative variance of the dark.
            noise_profile=dng.noise_profile and (dng.noise_profile[0], max(dng.noise_profile[1], 0.0)),
            baseline_exposure_ev=dng.baseline_exposure_ev,
            origins=Origins("file"),
        )

    def _stored_codes(self) -> NDArray[np.uint16]:
        """Codes of the whole stored picture; LibRaw decompresses them and applies the LinearizationTable."""
        import rawpy

        try:
            with rawpy.imread(str(self.path)) as raw:
                codes = raw.raw_image
                found = None if codes is None else codes.shape
                if codes is None or found != (self._dng.height, self._dng.width):
                    raise FormatError(
                        f"{self.path}: expected a mosaic of {self._dng.width}x{self._dng.height} codes, as its tags "
                        f"say, found {'none' if not found else 'x'.join(str(n) for n in reversed(found))}"
                    )
                return np.array(codes)
        except rawpy.LibRawError as error:
            raise FormatError(f"{self.path}: LibRaw cannot read it: {_text(error)}") from error


def _text(error: Exception) -> str:
    """LibRaw's errors hold bytes."""
    reason = next(iter(error.args), "")
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
