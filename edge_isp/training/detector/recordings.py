"""Real pairs for the detector: recorded RAW frames, and pictures of the same moments that the teacher looks at."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import DatasetError, FormatError
from edge_isp.files import files_of
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.frame_check import check_frame
from edge_isp.kernels.layout import RawLayout, red_place
from edge_isp.kernels.resample import letterbox
from edge_isp.kernels.tables import encoding_table
from edge_isp.kernels.unpack import unpack
from edge_isp.metering.meter import complete_frame
from edge_isp.orientation import upright_picture, upright_steps
from edge_isp.recording.mcap_recording import McapRecording
from edge_isp.tasks.encoding import normalised_gains
from edge_isp.training.detector.data import Pair, View, cut, encode_bytes, picture_of_part
from edge_isp.training.detector.labels import NO_LABELS, ImageLabels, frame_stem
from edge_isp.training.simulation.samples import INPUT_CURVE, INPUT_SCALE, INPUT_ZERO_POINT

_SUFFIXES = (".dng", ".raw", ".mcap")

# By how much the proportions of a picture may differ from the frame's: some are cropped to whole blocks.
_PROPORTIONS_TOLERANCE = 0.03
# Side of the pictures that are kept: the teacher sees them no larger than this.
_LARGEST_PICTURE = 1024
# What frames and pictures may take in memory. Of longer recordings frames are left out evenly.
_MOST_BYTES = 1 << 30

# Makes the picture of a frame that has none.
_DEVELOPING_MODEL = "rfdcsanet-s"


@dataclass(frozen=True, slots=True)
class Recording:
    """A RAW frame, and a picture of the same moment; both upright.

    Attributes:
        name: of the frame, for messages: its file, and its number where the file has several.
        codes: uint16 (height, width), a mosaic whose first pixel is red.
        bit_depth: of the codes.
        tables: that encode the mosaic, see `kernels.tables`.
        picture: uint8 (height, width, 3), of the mosaic's proportions.
        objects: float32 (n, 5): class, then x0, y0, x1, y1 in pixels of the mosaic: labels, where there are any.
    """

    name: str
    codes: NDArray[np.uint16]
    bit_depth: int
    tables: NDArray[np.int8]
    picture: NDArray[np.uint8]
    objects: NDArray[np.float32]

    def pair(self, rng: np.random.Generator, size: int) -> Pair:
        """A random part of the frame as the teacher and as the student see it; never enlarged.

        Args:
            rng: that chooses the part.
            size: side of the networks' inputs in pixels.
        """
        rows, columns = self.codes.shape
        smallest = size / max(rows, columns)
        share = 1.0 if smallest > 1 else rng.uniform(max(0.5, smallest), 1)
        height, width = (max(4, int(n * share) // 4 * 4) for n in (rows, columns))
        top, left = (int(rng.integers((n - m) // 2 + 1)) * 2 for n, m in ((rows, height), (columns, width)))
        return self.part(top, left, height, width, size)

    def whole(self, size: int) -> Pair:
        """The whole frame as the teacher and as the student see it.

        Args:
            size: side of the networks' inputs in pixels.
        """
        height, width = self.codes.shape
        return self.part(0, 0, height, width, size)

    def part(self, top: int, left: int, height: int, width: int, size: int) -> Pair:
        """A part of the frame as the teacher and as the student see it.

        Args:
            top: first row, even.
            left: first column, even.
            height: of the part, even.
            width: of the part, even.
            size: side of the networks' inputs in pixels.
        """
        codes = np.ascontiguousarray(self.codes[top : top + height, left : left + width])
        layout = RawLayout(width, height, "u16", self.bit_depth, "RGGB")
        y, x = self.picture.shape[0] / self.codes.shape[0], self.picture.shape[1] / self.codes.shape[1]
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        objects = cut(View(self.picture, self.objects).placed((1, 1), (-top, -left)).objects, height, width)
        row, column, rows, columns = (2 * n for n in letterbox((height // 2, width // 2), (size // 2, size // 2)))
        placed = View(self.picture, objects).placed((rows / height, columns / width), (row, column)).objects
        return Pair(
            encode_bytes(codes.view(np.uint8), self.tables, size, layout),
            picture_of_part(self.picture, box, (height, width), size),
            np.concatenate([np.zeros((len(placed), 1), np.float32), placed], 1),
        )


def load_recordings(paths: Sequence[Path], labels: Mapping[str, ImageLabels] | None = None) -> list[Recording]:
    """The frames of recordings; of long ones as many as fit into memory, evenly.

    The picture of a frame is the one that the board's own ISP made of the same exposure, if it was recorded, or the
    DNG's embedded preview; otherwise `rfdcsanet-s` makes it.

    Args:
        paths: `.mcap` recordings, `.dng` and `.raw` files, and folders of them.
        labels: of the frames, by their names: a file's stem, and behind that "_" and the frame's number in six digits
            where a recording has several. Frames without labels are left out. None takes all, without labels.

    Raises:
        DatasetError: there is no frame, or none that has labels.
        FormatError: a file is no recording.
        MissingDependencyError: a package that reads such files is not installed.
    """
    known = None if labels is None else {frame_stem(stem): found for stem, found in labels.items()}
    files = [file for path in paths for file in (_files(path) if path.is_dir() else [path])]
    sizes = [_bytes_of(frame) for _, _, frame in _frames(files, known)]
    every = max(1, math.ceil(sum(sizes) / _MOST_BYTES))
    made = [
        _recording(file, name, frame, NO_LABELS if known is None else known[name])
        for file, name, frame in islice(_frames(files, known), 0, None, every)
    ]
    out = [recording for recording in made if recording is not None]
    if not out:
        where = ", ".join(map(str, paths))
        if known is None or sizes:
            raise DatasetError(f"{where}: no undamaged frame to learn from")
        raise DatasetError(
            f"{where}: none of the frames has labels; labels of frame 42 of ride.mcap are called ride_000042, found "
            f"'{next(iter(known), '')}'"
        )
    return out


def _files(folder: Path) -> list[Path]:
    files = files_of(folder, _SUFFIXES)
    if not files:
        raise DatasetError(f"{folder}: expected {', '.join(_SUFFIXES)} files, found none")
    return files


def _frames(files: Sequence[Path], names: Collection[str] | None) -> Iterator[tuple[Path, str, RawFrame]]:
    """Frames of files, each with its file and its name: those of some names, None is all."""
    for file in files:
        for name, frame in _frames_of(file):
            with frame:
                if names is None or name in names:
                    yield file, name, frame


def _frames_of(file: Path) -> Iterator[tuple[str, RawFrame]]:
    if file.suffix.lower() == ".mcap":
        with McapRecording(file) as recording:
            for camera in recording.cameras:
                for _, frame in recording.frames(camera):
                    yield f"{file.stem}_{frame.sequence:06d}", frame
        return
    with ReplayCamera(file) as replay:
        first, second = replay.read(), replay.read()
        if first is not None:
            yield file.stem if second is None else f"{file.stem}_{first.sequence:06d}", first
        while second is not None:
            yield f"{file.stem}_{second.sequence:06d}", second
            second = replay.read()


def _bytes_of(frame: RawFrame) -> int:
    pixels = frame.format.width * frame.format.height
    return 2 * pixels + 3 * min(pixels, _LARGEST_PICTURE**2)


def _recording(file: Path, name: str, frame: RawFrame, labels: ImageLabels) -> Recording | None:
    """A frame as it is learnt from; None of one whose data are damaged."""
    frame, _ = check_frame(frame)
    if frame.status is not FrameStatus.OK:
        return None
    frame = complete_frame(frame)
    codes, black_level = _upright_mosaic(frame)
    boxes = labels.boxes(codes.shape[1], codes.shape[0])
    objects = np.concatenate([boxes.class_id[:, None], boxes.xyxy], 1).astype(np.float32)
    tables = encoding_table(
        bit_depth=frame.format.bit_depth,
        black_level=black_level,
        white_level=frame.white_level,
        gains=normalised_gains(frame),
        curve=INPUT_CURVE,
        scale=INPUT_SCALE,
        zero_point=INPUT_ZERO_POINT,
    )
    return Recording(name, codes, frame.format.bit_depth, tables, _picture(file, frame), objects)


def _upright_mosaic(frame: RawFrame) -> tuple[NDArray[np.uint16], tuple[float, float, float, float]]:
    """The mosaic turned upright, from the first pixel on that makes it RGGB, and its black levels R, Gr, Gb, B.

    Pictures lose a pixel at the borders by that, which the detector's input does not resolve.
    """
    row, column = red_place(frame.format.cfa)
    codes = np.repeat(unpack(frame.data, frame.format.layout)[..., None], 2, 2)
    codes[..., 1] = 0
    codes[row::2, column::2, 1] = 1  # red's place is turned along with the codes
    exchanged, rows, columns = upright_steps(frame.orientation)
    turned = codes.swapaxes(0, 1) if exchanged else codes
    turned = turned[:: -1 if rows else 1, :: -1 if columns else 1]
    row, column = np.argwhere(turned[:2, :2, 1])[0].tolist()
    height, width = (n // 2 * 2 for n in (turned.shape[0] - row, turned.shape[1] - column))
    mosaic = np.ascontiguousarray(turned[row : row + height, column : column + width, 0])
    red_level, gr_level, gb_level, blue_level = frame.black_level
    if exchanged:  # a row's green is a column's then
        gr_level, gb_level = gb_level, gr_level
    return mosaic, (red_level, gr_level, gb_level, blue_level)


def _picture(file: Path, frame: RawFrame) -> NDArray[np.uint8]:
    """The frame's picture, upright, and no larger than the teacher needs it."""
    found = frame.isp_picture
    if found is None and file.suffix.lower() == ".dng":
        found = _preview(file)
    if found is None or not _shows_all_of(frame, found):
        from edge_isp.verbs import develop

        rgb = develop(replace(frame, isp_picture=None), model=_DEVELOPING_MODEL)
    else:
        rgb = upright_picture(found, frame.orientation)
    factor = min(1.0, _LARGEST_PICTURE / max(rgb.shape[:2]))
    if factor == 1:
        return rgb.copy()
    height, width = (max(2, round(n * factor)) for n in rgb.shape[:2])
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX))


def _shows_all_of(frame: RawFrame, rgb: NDArray[np.uint8]) -> bool:
    """Whether a picture has the frame's proportions: otherwise it shows another part of the scene."""
    proportions = rgb.shape[1] * frame.format.height / (rgb.shape[0] * frame.format.width)
    return abs(proportions - 1) <= _PROPORTIONS_TOLERANCE


def _preview(path: Path) -> NDArray[np.uint8] | None:
    """The embedded preview of a DNG; None where it has none."""
    import rawpy

    try:
        with rawpy.imread(str(path)) as raw:
            found = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return None
    except rawpy.LibRawError as error:
        raise FormatError(f"{path}: its embedded preview cannot be read: {error}") from error
    if found.format == rawpy.ThumbFormat.JPEG:
        with Image.open(io.BytesIO(bytes(found.data))) as image:
            return np.asarray(image.convert("RGB"))
    return np.asarray(found.data, np.uint8)
