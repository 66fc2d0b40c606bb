"""Real pairs for the detector: DNG files, whose embedded previews the teacher looks at."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import FormatError
from edge_isp.files import files_of
from edge_isp.frame import RawFrame
from edge_isp.kernels.tables import encoding_table
from edge_isp.metering.meter import complete_frame
from edge_isp.tasks.encoding import normalised_gains, upright_window
from edge_isp.training.detector.data import NO_OBJECTS, Pair, encode_bytes, picture
from edge_isp.training.simulation.samples import INPUT_CURVE, INPUT_SCALE, INPUT_ZERO_POINT

# By how much the proportions of a preview may differ from the frame's: some are cropped to whole blocks.
_PROPORTIONS_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Recording:
    """A RAW frame, and the picture that the camera made of it.

    Attributes:
        frame: with bytes of its own.
        preview: uint8 (height, width, 3), of the frame's proportions.
        tables: that encode the frame, see `kernels.tables`.
    """

    frame: RawFrame
    preview: NDArray[np.uint8]
    tables: NDArray[np.int8]

    def pair(self, rng: np.random.Generator, size: int) -> Pair:
        """A random part of the frame as the teacher and as the student see it; never enlarged.

        Args:
            rng: that chooses the part.
            size: side of the networks' inputs in pixels.
        """
        layout = self.frame.format
        smallest = size / max(layout.width, layout.height)
        if smallest > 1:
            raise FormatError(
                f"{self.frame.source}: is smaller than the network's input: expected {size} pixels, "
                f"found {layout.width} x {layout.height}"
            )
        share = rng.uniform(max(0.5, smallest), 1)
        height, width = (int(n * share - 2) // 4 * 4 for n in (layout.height, layout.width))
        top, left = (
            int(rng.integers(max(0, n - m - 2) // 2 + 1)) * 2
            for n, m in ((layout.height, height), (layout.width, width))
        )
        window = upright_window(layout)
        mosaic = encode_bytes(
            self.frame.data[window.first_row :],
            self.tables,
            size,
            replace(window.layout, width=width, height=height, left=left, top=top),
            second_column=bool(window.first_column),
        )
        # Of a window that begins at its second column, the last is left out as well.
        column, width = left + window.first_column, width - 2 * window.first_column
        seen = self._preview_of(top + window.first_row, column, height, width)
        return Pair(mosaic, picture(seen, size), np.empty((0, NO_OBJECTS.shape[1] + 1), np.float32))

    def _preview_of(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """A window of the frame, out of the preview, in the window's size."""
        y, x = self.preview.shape[0] / self.frame.format.height, self.preview.shape[1] / self.frame.format.width
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        resized = Image.fromarray(self.preview).resize((width, height), Image.Resampling.BILINEAR, box)
        return np.asarray(resized)


def load_recordings(folder: Path) -> list[Recording]:
    """The DNG files of a folder.

    Args:
        folder: of DNG files.

    Raises:
        FormatError: there are none, or one has no preview of its proportions.
        MissingDependencyError: rawpy is not installed.
    """
    paths = files_of(folder, (".dng",))
    if not paths:
        raise FormatError(f"{folder}: expected DNG files, found none")
    return [load_recording(path) for path in paths]


def load_recording(path: Path) -> Recording:
    """A DNG file with its preview.

    Args:
        path: of the DNG file.

    Raises:
        FormatError: it cannot be read, or has no preview of its proportions.
        MissingDependencyError: rawpy is not installed.
    """
    with ReplayCamera(path) as camera:
        frame = camera.read()
    assert frame is not None
    frame = complete_frame(frame)
    preview = _preview(path)
    layout = frame.format
    proportions = preview.shape[1] * layout.height / (preview.shape[0] * layout.width)
    if abs(proportions - 1) > _PROPORTIONS_TOLERANCE:
        raise FormatError(
            f"{path}: its preview shows another part of the scene: expected the proportions of the frame, "
            f"{layout.width} x {layout.height}, found {preview.shape[1]} x {preview.shape[0]}"
        )
    tables = encoding_table(
        bit_depth=layout.bit_depth,
        black_level=frame.black_level,
        white_level=frame.white_level,
        gains=normalised_gains(frame),
        curve=INPUT_CURVE,
        scale=INPUT_SCALE,
        zero_point=INPUT_ZERO_POINT,
    )
    return Recording(frame, preview, tables)


def _preview(path: Path) -> NDArray[np.uint8]:
    import rawpy

    try:
        with rawpy.imread(str(path)) as raw:
            found = raw.extract_thumb()
    except rawpy.LibRawError as error:
        raise FormatError(f"{path}: expected an embedded preview, which the teacher looks at: {error}") from error
    if found.format == rawpy.ThumbFormat.JPEG:
        with Image.open(io.BytesIO(bytes(found.data))) as image:
            return np.asarray(image.convert("RGB"))
    return np.asarray(found.data, np.uint8)
