"""Recordings as a sink of a pipeline, their previews and annotations, and streams without a model."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from edge_isp import DngSink, McapSink, Pipeline
from edge_isp.calibration.dng import read_dng
from edge_isp.calibration.profile import parse_profile
from edge_isp.cameras.base import CameraBase
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording
from edge_isp.errors import CameraDisconnectedError, CameraError, SinkError
from edge_isp.frame import RawFrame
from edge_isp.pipeline import ReconnectPolicy
from edge_isp.pipeline.drops import (
    DeadlineMissed,
    DelegateChange,
    DropReason,
    Event,
    FramesDropped,
    MetadataIgnored,
    PipelineState,
    StateChange,
    WallClockStepped,
    event_message,
)
from edge_isp.pipeline.raw_stream import RawStream
from edge_isp.recording.annotations import annotations_message
from edge_isp.recording.mcap_recording import McapRecording
from edge_isp.recording.schemas import ANNOTATIONS, DETECTIONS, EVENTS, KINDS, PREVIEW, RAW
from edge_isp.results import Detections
from edge_isp.sinks.mcap import DetectionTrigger
from edge_isp.testing import check_sink
from edge_isp.testing.sink import detections_result, picture_result
from tests.support.recorded_frames import assert_identical, frame, numbers, plain_frame

pytest.importorskip("mcap", reason="mcap is not installed")


def demo_frames() -> list[RawFrame]:
    """The frames of the recording that ships."""
    with ReplayCamera(demo_recording()) as camera:
        return [each.copy() for each in iter(camera.read, None) if each is not None]


class ListCamera(CameraBase):
    """Delivers frames of a list, then ends; an exception in the list is raised.

    Args:
        frames: to deliver.
    """

    def __init__(self, frames: list[RawFrame | Exception]) -> None:
        super().__init__("list")
        self._frames = iter(frames)

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        found = next(self._frames, None)
        if isinstance(found, Exception):
            raise found
        return found


def test_the_schema_and_the_page_name_every_kind_of_event() -> None:
    events: list[Event] = [
        FramesDropped("c", DropReason.QUEUE_FULL, 1, 2, 3),
        StateChange(PipelineState.RUNNING, "", 3),
        MetadataIgnored("s", "n", "r", 1, 3),
        DeadlineMissed("c", 1.0, 2, 3),
        WallClockStepped(1, 3),
        DelegateChange("m", "dropped", "npu", "r", 3),
    ]
    assert {type(event) for event in events} == set(get_args(Event))
    schema = json.loads(EVENTS.content())["properties"]
    kinds = set()
    for message in map(event_message, events):
        assert message.keys() <= schema.keys()
        kinds.add(message["kind"])
    assert set(schema["kind"]["enum"]) == kinds | {"not recorded", "trigger"}
    page = (Path(__file__).parents[2] / "docs/recording.md").read_text()
    rows = page.split("| `kind` |")[1].split("\n\n")[0].splitlines()[2:]
    assert sorted(row.split("`")[1] for row in rows) == sorted(schema["kind"]["enum"])


def test_the_sinks_are_sinks(tmp_path: Path) -> None:
    opened = iter(range(1000))
    check_sink(lambda: McapSink(tmp_path / f"{next(opened)}"), spec=f"mcap:{tmp_path / 'spec.mcap'},preview_fps=0")
    check_sink(lambda: DngSink(tmp_path / "dng"), spec=f"dng:{tmp_path / 'dng'}")


def test_a_sink_records_what_the_camera_gave_and_not_what_the_pipeline_made_of_it(tmp_path: Path) -> None:
    """Metering gives the frames white balance, and the check takes the NaN: neither is in the recording."""
    given = [replace(each, analogue_gain=math.nan, colour_gains=None) for each in demo_frames()]
    with Pipeline(ListCamera(list(given)), "rfdcsanet-s") as pipeline:
        pipeline.add_sink(McapSink(tmp_path / "a.mcap", preview_fps=100))
        pipeline.run()
    with McapRecording(tmp_path / "a.mcap") as recording:
        found = [each for _, each in recording.frames("camera")]
        events = [message for _, message in recording.json_messages(EVENTS, "camera")]
        profile = parse_profile(recording.attachments()["imx219.toml"], "imx219.toml")
        previews = [message for _, message in recording.json_messages(PREVIEW, "camera")]
    assert len(found) == len(given)
    for replayed, recorded in zip(found, given, strict=True):
        assert_identical(replayed, recorded)
    assert {"state", "metadata ignored"} <= {event["kind"] for event in events}
    assert profile.name == "imx219"
    assert previews


def json_schema(path: Path, kind: Any) -> dict[str, Any]:
    """The schema of a kind of message, as it stands in the file."""
    with McapRecording(path) as recording:
        (found,) = [schema for schema in recording.index.schemas.values() if schema.name == kind.schema]
    assert found.encoding == "jsonschema"
    schema: dict[str, Any] = json.loads(found.data)
    return schema


def test_previews_and_annotations_are_foxgloves(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    first = demo_frames()[0]
    sink = McapSink(tmp_path / "a.mcap", preview_fps=1000)
    sink.frame_arrived(first)
    result = detections_result(2)
    sink.write(result)
    sink._previewer.close()  # the preview is made
    sink.close()
    with McapRecording(tmp_path / "a.mcap") as recording:
        ((_, preview),) = recording.json_messages(PREVIEW, "camera")
        ((_, annotations),) = recording.json_messages(ANNOTATIONS, "camera")
        ((_, detections),) = recording.json_messages(DETECTIONS, "camera")
    for message, kind in ((preview, PREVIEW), (annotations, ANNOTATIONS), (detections, DETECTIONS)):
        schema = json_schema(tmp_path / "a.mcap", kind)
        assert schema["title"] == kind.schema
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(message, schema)
        assert set(message) >= set(schema["properties"]) - {"circles"}
    # Foxglove's own schema demands these.
    assert set(preview) == {"timestamp", "frame_id", "data", "format"}
    assert preview["format"] == "jpeg"
    assert 0 <= preview["timestamp"]["nsec"] < 10**9
    image = Image.open(io.BytesIO(base64.b64decode(preview["data"], validate=True)))
    assert image.format == "JPEG"
    assert image.size == (640, 443)
    scale = 640 / first.format.width
    found = result.detections
    assert len(annotations["points"]) == len(annotations["texts"]) == len(found) > 0
    for box, drawn in zip(found.xyxy.tolist(), annotations["points"], strict=True):
        assert drawn["type"] == 2
        assert set(drawn) == {
            "timestamp",
            "type",
            "points",
            "outline_color",
            "outline_colors",
            "fill_color",
            "thickness",
            "metadata",
        }
        assert [drawn["points"][0]["x"], drawn["points"][0]["y"]] == pytest.approx([scale * box[0], scale * box[1]])
        assert [drawn["points"][2]["x"], drawn["points"][2]["y"]] == pytest.approx([scale * box[2], scale * box[3]])
    assert [each["name"] for each in detections["detections"]] == found.names
    assert [each["xyxy"] for each in detections["detections"]] == found.xyxy.tolist()
    assert annotations_message(found, 1.0, 5)["texts"][0]["timestamp"] == {"sec": 0, "nsec": 5}


def test_other_programs_read_raw_frames_by_the_schema_in_the_file(tmp_path: Path) -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    recorded = frame(1)
    sink = McapSink(tmp_path / "a.mcap", preview_fps=0)
    sink.frame_arrived(recorded)
    sink.close()
    with McapRecording(tmp_path / "a.mcap") as recording:
        (schema,) = [each for each in recording.index.schemas.values() if each.name == RAW.schema]
        ((_, content),) = recording.messages(RAW, "camera")
    assert schema.encoding == "protobuf"
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
        pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(RAW.schema))()
    message.ParseFromString(bytes(content))
    assert message.data == recorded.data.tobytes()
    assert (message.width, message.height, message.stride) == (32, 16, recorded.format.stride)
    assert message.exposure_ns == recorded.exposure_ns
    assert tuple(message.colour_gains) == recorded.colour_gains


def test_the_documented_proto_is_the_schema() -> None:
    from edge_isp.recording.raw_message import FIELDS, WINDOW_FIELDS

    proto = (Path(__file__).parents[2] / "docs" / "raw_frame.proto").read_text()
    for fields in (FIELDS, WINDOW_FIELDS):
        for name, number, kind, label in fields:
            line = f"  {label + ' ' if label else ''}{kind.rpartition('.')[2]} {name} = {number};"
            assert line in proto, line
    assert proto.count(" = ") == len(FIELDS) + len(WINDOW_FIELDS) + 1  # and the line of the syntax


def test_the_schemas_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recording.md").read_text()
    for kind in KINDS:
        assert f"`{kind.schema}`" in text


@pytest.mark.parametrize(
    "text", ["detection:person>0.6", "detection:traffic light>.5", "detection:a>1", "detection:a>0"]
)
def test_triggers_are_read(text: str) -> None:
    name, _, confidence = text.removeprefix("detection:").partition(">")
    assert DetectionTrigger.parse(text) == DetectionTrigger(name, float(confidence))


@pytest.mark.parametrize(
    "text", ["", "person", "detection:", "detection:person", "detection:person<0.5", "detection:a>2"]
)
def test_a_wrong_trigger_is_told(text: str) -> None:
    with pytest.raises(SinkError, match="detection:CLASS>CONFIDENCE"):
        DetectionTrigger.parse(text)


def test_a_detection_begins_an_event(tmp_path: Path) -> None:
    sink = McapSink(tmp_path / "r", before_s=1000, after_s=1000, trigger="detection:person>0.6", preview_fps=0)
    for number in range(5):
        sink.frame_arrived(plain_frame(number))
    result = detections_result(4)
    names, best = ("person", "dog"), np.array([0.6], np.float32)

    def with_(name: int, confidence: Any) -> Any:
        found = Detections(np.ones((1, 4), np.float32), confidence, np.array([name], np.int32), names, "camera", 4, 1)
        return replace(result, result=found)

    sink.write(with_(0, best - 0.01))
    sink.write(with_(1, best + 0.3))
    assert sink.counts.written == 0
    assert list(sink.files) == []
    sink.write(with_(0, best + 0.1))
    sink.close()
    with McapRecording(sink.files[0]) as recording:
        assert numbers(recording.frames("camera")) == [0, 1, 2, 3, 4]
        triggers = [m["reason"] for _, m in recording.json_messages(EVENTS, "camera") if m["kind"] == "trigger"]
    assert triggers == ["person 0.70 in frame 4"]


def test_pictures_need_no_place_in_a_recording(tmp_path: Path) -> None:
    sink = McapSink(tmp_path / "a.mcap", preview_fps=0)
    sink.write(picture_result(0))
    sink.close()
    with pytest.raises(SinkError, match="closed"):
        sink.write(picture_result(1))


def test_the_dng_sink_writes_the_frames_of_a_pipeline(tmp_path: Path) -> None:
    with Pipeline(ReplayCamera(demo_recording()), "rfdcsanet-s") as pipeline:
        pipeline.add_sink(DngSink(tmp_path))
        pipeline.run()
    files = sorted(tmp_path.iterdir())
    assert [path.name[-11:] for path in files] == ["_000000.dng", "_000001.dng", "_000002.dng"]
    assert read_dng(files[0]).model == "imx219"
    result = picture_result(0)
    with pytest.raises(SinkError, match="without its RAW data"):
        DngSink(tmp_path).write(result)


def test_a_stream_without_a_model_survives_its_camera(tmp_path: Path) -> None:
    opened: list[list[RawFrame | Exception]] = [
        [plain_frame(0), plain_frame(1), CameraDisconnectedError("gone")],
        [plain_frame(3), plain_frame(7)],
    ]
    taken: list[int] = []
    events: list[dict[str, Any]] = []
    stream = RawStream(
        lambda: ListCamera(opened.pop(0)),
        lambda each: taken.append(each.sequence),
        events.append,
        ReconnectPolicy(first_wait_s=0.001),
    )
    assert stream.run() == 4
    assert taken == [0, 1, 3, 7]
    dropped = [(event["sequence"], event["frames"], event["reason"]) for event in events if "frames" in event]
    assert dropped == [(4, 3, "sensor gap")]
    assert any(event["reason"].startswith("recovering") for event in events)


def test_a_stream_without_a_model_ends_with_its_cameras_error() -> None:
    def refuse() -> CameraBase:
        raise CameraError("no such camera")

    with pytest.raises(CameraError, match="no such camera"):
        RawStream(refuse, lambda each: None, lambda event: None).run()


def test_a_stream_without_a_model_can_be_stopped() -> None:
    class Waiting(CameraBase):
        def read(self, timeout_s: float | None = None) -> RawFrame | None:
            reading.set()
            self.closed.wait(timeout_s)
            return None

    reading = threading.Event()
    stream = RawStream(lambda: Waiting("waiting"), lambda each: None, lambda event: None)
    thread = threading.Thread(target=stream.run)
    thread.start()
    assert reading.wait(20)
    stream.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_frames_are_enough() -> None:
    taken: list[int] = []
    camera = [plain_frame(number) for number in range(10)]
    stream = RawStream(lambda: ListCamera([*camera]), lambda each: taken.append(each.sequence), lambda event: None)
    assert stream.run(3) == 3
    assert taken == [0, 1, 2]
