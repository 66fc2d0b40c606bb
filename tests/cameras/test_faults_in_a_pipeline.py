"""The synthetic camera's script, through the pipeline: every lost frame has its reason, and the stream goes on."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.frame import FrameStatus
from edge_isp.pipeline import DropReason, ModelOptions, Pipeline, QueuePolicy, StreamOptions
from edge_isp.testing import Corrupt, Disconnect, Drop, FaultScript, TimestampJump, Truncate
from tests.support.scripted import ScriptedCamera, ScriptedEngine, SimulatedClock, engine

__all__ = ["engine"]


def test_every_fault_has_its_reason(tmp_path: Path, engine: type[ScriptedEngine]) -> None:
    Image.new("RGB", (80, 60), (90, 120, 60)).save(tmp_path / "photo.png")
    script = FaultScript(
        [
            Drop(2, count=2),
            Corrupt(5),
            Truncate(6, 100),
            TimestampJump(7, -(10**9)),
            Disconnect(9, failed_openings=2),
            Drop(10),
        ]
    )

    def open_camera() -> SyntheticCamera:
        camera = SyntheticCamera(tmp_path / "photo.png", width=64, height=48, fps=None, frames=13, faults=script)
        camera.live = True  # not paced, so that none is lost on a slow machine; but opened again, as no recording is
        return camera

    with Pipeline(
        open_camera,
        ModelOptions(engine="scripted"),
        StreamOptions(policy=QueuePolicy.BLOCK, clock=SimulatedClock()),
    ) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 1, 4, 7, 8, 9, 11, 12]
        assert pipeline.counts.dropped == {DropReason.SENSOR_GAP: 2 + 1, DropReason.CORRUPTED: 2}
        assert pipeline.restarts == 1


def test_frames_that_the_source_could_not_make_are_no_sensor_gap(engine: type[ScriptedEngine]) -> None:
    skipped, gap = FrameStatus.GAP | FrameStatus.SKIPPED, FrameStatus.GAP
    camera = ScriptedCamera([0, (3, skipped), 4, (6, gap), None])
    with Pipeline(camera, ModelOptions(engine="scripted"), StreamOptions(policy=QueuePolicy.BLOCK)) as pipeline:
        assert [done.sequence for done in pipeline] == [0, 3, 4, 6]
        assert pipeline.counts.dropped == {DropReason.NOT_RENDERED: 2, DropReason.SENSOR_GAP: 1}
