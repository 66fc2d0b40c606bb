"""Frames to `.raw` files with sidecars, and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from edge_isp.cameras.raw_files import RawFiles
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.errors import FormatError, SinkError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame, RecordedFrame
from edge_isp.toml_file import LARGEST_FILE_BYTES

TAKEN_AT = datetime(2026, 11, 28, 10, 15, 0, 250_001, timezone(timedelta(hours=-2, minutes=-30)))
MATRIX = (1.6, -0.4, -0.2, -0.3, 1.5, -0.2, 0.0, -0.5, 1.5)


def a_frame(sequence: int = 0, width: int = 4) -> RecordedFrame:
    """A small frame with every metadatum that a sidecar holds."""
    return RecordedFrame(
        data=np.full((2, 2 * width), sequence, np.uint8),
        format=RawFormat(width, 2, Cfa.RGGB, 10, Packing.U16),
        source="camera",
        sequence=sequence,
        timestamp_ns=1,
        black_level=(64.0, 64.0, 64.0, 64.0),
        white_level=1023.0,
        exposure_ns=12_345_678,
        analogue_gain=2.5,
        digital_gain=1.25,
        colour_gains=(1.75, 1.43),
        colour_temperature_k=5700.0,
        colour_matrix=MATRIX,
        orientation=6,
        noise_profile=(2e-4, 1e-6),
        baseline_exposure_ev=-0.5,
        taken_at=TAKEN_AT,
    )


def written(folder: Path, *frames: RawFrame) -> list[RawFrame]:
    """The frames, as they come back from files."""
    with RawFiles(folder, "a") as files:
        for frame in frames:
            files.write(frame)
    with ReplayCamera(folder) as camera:
        return [frame for frame in iter(camera.read, None) if frame is not None]


CONDITIONS = (
    "exposure_ns",
    "analogue_gain",
    "digital_gain",
    "colour_gains",
    "colour_temperature_k",
    "colour_matrix",
    "orientation",
    "noise_profile",
    "baseline_exposure_ev",
    "taken_at",
)


def test_all_metadata_come_back(tmp_path: Path) -> None:
    first = a_frame()
    second = replace(first, orientation=1, baseline_exposure_ev=None, taken_at=TAKEN_AT.replace(tzinfo=None))
    found = written(tmp_path, first, second)
    for name in CONDITIONS:
        assert [getattr(each, name) for each in found] == [getattr(first, name), getattr(second, name)], name
    assert isinstance(found[0], RecordedFrame)
    assert found[0].taken_at is not None
    assert found[0].taken_at.utcoffset() == TAKEN_AT.utcoffset()


def test_a_time_zone_that_toml_does_not_have_is_left_out(tmp_path: Path) -> None:
    odd = TAKEN_AT.replace(tzinfo=timezone(timedelta(seconds=30)))
    (found,) = written(tmp_path, replace(a_frame(), taken_at=odd))
    assert isinstance(found, RecordedFrame)
    assert found.taken_at is None


@pytest.mark.parametrize("name", ["a.raw", "a.toml", "a.json"])
def test_a_refused_file_changes_nothing(tmp_path: Path, name: str) -> None:
    """Of a frame that is refused no sidecar was left beside somebody else's file."""
    (tmp_path / name).write_bytes(b"mine")
    files = RawFiles(tmp_path, "a")
    with pytest.raises(SinkError, match=rf"{name}: is there already"):
        files.write(a_frame())
    files.close()
    assert files.paths == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"mine"}


def test_a_refused_second_file_leaves_the_first_one_whole(tmp_path: Path) -> None:
    (tmp_path / "a_2.raw").write_bytes(b"mine")
    files = RawFiles(tmp_path, "a")
    files.write(a_frame())
    with pytest.raises(SinkError, match=r"a_2\.raw: is there already"):
        files.write(a_frame(1, width=8))
    files.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.raw", "a.toml", "a_2.raw"]
    assert (tmp_path / "a_2.raw").read_bytes() == b"mine"


def test_a_long_recording_is_split_so_that_its_sidecars_can_be_read(tmp_path: Path) -> None:
    def long(number: int) -> RecordedFrame:
        values = np.random.default_rng(number).uniform(0.001, 0.01, 16)
        return replace(
            a_frame(number % 251),
            exposure_ns=10**13 - number,
            analogue_gain=1 + values[0],
            digital_gain=1 + values[1],
            colour_gains=(1 + values[2], 1 + values[3]),
            colour_temperature_k=5000 + values[4],
            colour_matrix=tuple(-values[5:14]),
            noise_profile=(values[14] * 1e-9, values[15] * 1e-9),
            baseline_exposure_ev=-values[0],
        )

    found = written(tmp_path, *(long(number) for number in range(3500)))
    assert [each.data[0, 0] for each in found] == [number % 251 for number in range(3500)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.raw", "a.toml", "a_2.raw", "a_2.toml"]
    assert (tmp_path / "a.toml").stat().st_size < LARGEST_FILE_BYTES


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("colour_matrix = [1, 2, 3]", "a list of 9 finite numbers"),
        (f"colour_matrix = {[2000.0] * 9}", "from -1000 to 1000"),
        ("noise_profile = [1e-4]", "a list of 2 finite numbers"),
        ("noise_profile = [1e-4, -1e-9]", "from 0 to 1"),
        ("baseline_exposure_ev = 30", "from -20 to 20"),
        ("orientation = 0", "from 1 to 8"),
        ("orientation = 1.0", "a whole number"),
        ("taken_at = 2026-11-28", "a date and a time"),
        ('taken_at = "2026-11-28T10:15:00Z"', "a date and a time"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, line: str, expected: str) -> None:
    with RawFiles(tmp_path, "a") as files:
        files.write(RawFrame(**{name: getattr(a_frame(), name) for name in RawFrame.__slots__ if name in NEEDED}))
    sidecar = tmp_path / "a.toml"
    sidecar.write_text(f"{sidecar.read_text()}{line}\n")
    with pytest.raises(FormatError, match=rf"frame\.{line.split()[0]} must be {expected}"):
        ReplayCamera(tmp_path)


NEEDED = ("data", "format", "source", "sequence", "timestamp_ns", "black_level", "white_level")


def test_a_sidecar_of_utc(tmp_path: Path) -> None:
    (found,) = written(tmp_path, replace(a_frame(), taken_at=TAKEN_AT.astimezone(UTC)))
    assert isinstance(found, RecordedFrame)
    assert found.taken_at == TAKEN_AT
