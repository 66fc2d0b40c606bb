"""Metadata never end a stream: what cannot be used counts as absent, a frame that cannot be read as damaged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_isp.frame import FrameStatus
from edge_isp.metering.exposure import AutoExposure
from edge_isp.pipeline import DropReason, MetadataIgnored, Pipeline, QueuePolicy, StreamOptions
from tests.support.scripted import LAYOUT, ScriptedCamera, ScriptedEngine, ScriptedFrame, SimulatedClock, engine
from tests.support.streams import SCRIPTED, Events, check_account, opener

__all__ = ["engine"]

BAD_NUMBERS = (0, -1.0, math.nan, math.inf, -math.inf)
BAD_METADATA = [
    *({"colour_gains": gains} for bad in BAD_NUMBERS for gains in ((bad, 1.5), (1.5, bad), (bad, bad))),
    *(
        {name: bad}
        for name in ("colour_temperature_k", "analogue_gain", "digital_gain", "exposure_ns")
        for bad in BAD_NUMBERS
    ),
    {"colour_matrix": (math.nan,) * 9},
    {"noise_profile": (math.inf, 0.0)},
    {"baseline_exposure_ev": math.nan},
    {"orientation": 0},
]
DAMAGE = [
    {"black_level": (1023.0,) * 4},
    {"black_level": (math.nan,) * 4},
    {"black_level": (2000.0, 64.0, 64.0, 64.0)},
    {"white_level": math.inf},
    {"white_level": 0.0},
    {"data": np.zeros((LAYOUT.height // 2, LAYOUT.stride), np.uint8)},
    {"data": np.zeros((LAYOUT.height, LAYOUT.stride - 1), np.uint8)},
    {"data": np.zeros(LAYOUT.frame_bytes, np.uint8)},
    {"data": np.zeros((LAYOUT.height, LAYOUT.stride), np.uint16)},
]


def stream(*script: Any, auto_exposure: AutoExposure | None = None) -> tuple[Pipeline, list[Any], Events]:
    """All results of a stream through one camera, which can be opened again but need not be."""
    events, camera = Events(), ScriptedCamera(script)
    options = StreamOptions(
        policy=QueuePolicy.BLOCK, clock=SimulatedClock(), on_event=events, auto_exposure=auto_exposure
    )
    with Pipeline(opener([camera]), SCRIPTED, options) as pipeline:
        results = list(pipeline)
    check_account(pipeline)
    assert not camera.lent
    assert pipeline.restarts == 0
    return pipeline, results, events


def ignored(events: Events) -> list[str]:
    return [event.name for event in events.all if isinstance(event, MetadataIgnored)]


@pytest.mark.parametrize("metadata", BAD_METADATA, ids=str)
def test_what_cannot_be_used_counts_as_absent_with_one_event(
    engine: type[ScriptedEngine], metadata: dict[str, Any]
) -> None:
    _, results, events = stream(0, *(ScriptedFrame(n, changes=metadata) for n in (1, 2, 3)), 4)
    assert [done.sequence for done in results] == [0, 1, 2, 3, 4]
    assert ignored(events) == list(metadata)
    (event,) = (event for event in events.all if isinstance(event, MetadataIgnored))
    assert (event.source, event.sequence) == ("scripted", 1)
    assert next(iter(metadata)) in event.reason


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: next(iter(damage)))
@pytest.mark.parametrize("metered", [False, True])
def test_a_frame_that_cannot_be_read_is_damaged_and_counted(
    engine: type[ScriptedEngine], damage: dict[str, Any], metered: bool
) -> None:
    class Metering(AutoExposure):
        """Reads each frame that it is given, as AutoExposure does of a camera that can be set."""

        def adjust(self, frame: Any, camera: Any) -> Any:
            self.exposure_locked = True
            return super().adjust(frame, camera)

    changes = {**damage, "colour_gains": None}
    script = (0, ScriptedFrame(1, changes=changes), ScriptedFrame(2, changes=changes), 3)
    pipeline, results, events = stream(*script, auto_exposure=Metering() if metered else None)
    assert [done.sequence for done in results] == [0, 3]
    assert pipeline.counts.dropped == {DropReason.CORRUPTED: 2}
    assert len(ignored(events)) == 1


@pytest.mark.parametrize("jump", [1_000_000, 2**31, 3_999_999_997, 2**63])
def test_a_number_that_jumps_by_millions_is_a_bad_number(engine: type[ScriptedEngine], jump: int) -> None:
    pipeline, results, events = stream(0, 1, 1 + jump, 2 + jump, 3, 4, 7)
    assert [done.sequence for done in results] == [0, 1, 1 + jump, 2 + jump, 3, 4, 7]
    assert pipeline.counts.frames == 7 + 2
    assert pipeline.counts.dropped == {DropReason.SENSOR_GAP: 2}
    assert ignored(events) == ["sequence"]


def test_more_frames_than_a_sensor_can_make_are_a_bad_number(engine: type[ScriptedEngine]) -> None:
    """100,000 in a thirtieth of a second."""
    pipeline, _, events = stream(0, 1, 100_002, 100_003)
    assert pipeline.counts.frames == 4
    assert ignored(events) == ["sequence"]


@pytest.mark.parametrize("lost", [1, 30, 300])
def test_a_true_gap_is_counted(engine: type[ScriptedEngine], lost: int) -> None:
    pipeline, _, events = stream(0, 1, 2 + lost, 3 + lost)
    assert pipeline.counts.dropped == {DropReason.SENSOR_GAP: lost}
    assert events.lost == [(2, lost, "sensor gap")]
    assert not ignored(events)


@pytest.mark.parametrize("bad", [math.nan, "3", None, 1.5])
@pytest.mark.parametrize("name", ["sequence", "timestamp_ns"])
def test_numbers_and_times_that_are_none(engine: type[ScriptedEngine], name: str, bad: Any) -> None:
    pipeline, results, events = stream(0, ScriptedFrame(1, changes={name: bad}), 2)
    assert [done.sequence for done in results] == [0, 1, 2]
    assert pipeline.counts.frames == 3
    assert ignored(events) == [name]
    if name == "timestamp_ns":
        assert [FrameStatus.BAD_TIMESTAMP in done.status for done in results] == [False, True, False]


def test_numpy_integers_are_numbers(engine: type[ScriptedEngine]) -> None:
    """As drivers' structures hold them; their differences overflow."""
    frames = [
        ScriptedFrame(n, changes={"sequence": np.uint32(n), "timestamp_ns": np.uint64(10**9 + count)})
        for count, n in enumerate((5, 6, 3, 4, 7))
    ]
    pipeline, results, events = stream(*frames)
    assert [done.sequence for done in results] == [5, 6, 3, 4, 7]
    assert pipeline.counts.dropped == {DropReason.SENSOR_GAP: 2}
    assert not ignored(events)
    assert {type(each) for done in results for each in (done.sequence, done.timestamp_ns)} == {int}


def test_times_that_go_backwards_are_bad_for_every_camera(engine: type[ScriptedEngine]) -> None:
    times_ns = [10**9, 2 * 10**9, 2 * 10**9, 10**9, 3 * 10**9, 4 * 10**9]
    frames = [ScriptedFrame(n, changes={"timestamp_ns": time}) for n, time in enumerate(times_ns)]
    _, results, _ = stream(*frames)
    assert [FrameStatus.BAD_TIMESTAMP in done.status for done in results] == [False, False, True, True, False, False]


def test_files_with_times_of_their_own_do_not_go_backwards(engine: type[ScriptedEngine]) -> None:
    """Frames of another source are not after those of the one before."""
    frames = [
        ScriptedFrame(n, changes={"source": source, "timestamp_ns": time, "sequence": 0})
        for n, (source, time) in enumerate([("a", 5 * 10**9), ("b", 10**9)])
    ]
    _, results, _ = stream(*frames)
    assert [done.status for done in results] == [FrameStatus.OK] * 2
