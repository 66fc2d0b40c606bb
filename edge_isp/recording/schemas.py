"""What a recording holds: its topics, and the schema of each. docs/recording.md describes them for other programs.

RAW frames are Protocol Buffers messages, see `raw_message`; everything else is JSON with a JSON Schema. The schemas
named `foxglove.` are Foxglove's own, with the fields that are written here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edge_isp.recording.raw_message import MESSAGE, raw_schema

# Of the metadata record that makes a file a recording of edge_isp.
METADATA = "edge_isp"
VERSION = 1

CLOCK_TOPIC = "/clock"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message.

    Attributes:
        name: the last part of its topic.
        schema: the schema's name.
        message_encoding: "protobuf" or "json".
        schema_encoding: "protobuf" or "jsonschema".
    """

    name: str
    schema: str
    message_encoding: str = "json"
    schema_encoding: str = "jsonschema"

    def topic(self, camera: str) -> str:
        """The topic of a camera's messages of this kind.

        Args:
            camera: its name.
        """
        return CLOCK_TOPIC if self is CLOCK else f"/{camera}/{self.name}"

    def content(self) -> bytes:
        """The schema itself."""
        return raw_schema() if self is RAW else json.dumps(_JSON_SCHEMAS[self.schema]).encode()


RAW = Kind("raw", MESSAGE, "protobuf", "protobuf")
PREVIEW = Kind("preview", "foxglove.CompressedImage")
ANNOTATIONS = Kind("annotations", "foxglove.ImageAnnotations")
DETECTIONS = Kind("detections", "edge_isp.Detections")
EVENTS = Kind("events", "edge_isp.Event")
CLOCK = Kind("clock", "edge_isp.Clock")

KINDS = (RAW, PREVIEW, ANNOTATIONS, DETECTIONS, EVENTS, CLOCK)

# Of a message of EVENTS: the pipeline's, then the recorder's own.
EVENT_KINDS = (
    "frames dropped",
    "state",
    "metadata ignored",
    "deadline missed",
    "wall clock stepped",
    "delegate",
    "not recorded",
    "trigger",
)


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_INTEGER, _NUMBER, _STRING = {"type": "integer"}, {"type": "number"}, {"type": "string"}
_TIME = {"title": "time", **_object(sec=_INTEGER, nsec=_INTEGER)}
_POINT = {"title": "foxglove.Point2", **_object(x=_NUMBER, y=_NUMBER)}
_COLOUR = {"title": "foxglove.Color", **_object(r=_NUMBER, g=_NUMBER, b=_NUMBER, a=_NUMBER)}

_JSON_SCHEMAS: dict[str, dict[str, Any]] = {
    PREVIEW.schema: {
        "title": PREVIEW.schema,
        **_object(
            timestamp=_TIME,
            frame_id=_STRING,
            data={"type": "string", "contentEncoding": "base64"},
            format=_STRING,
        ),
    },
    ANNOTATIONS.schema: {
        "title": ANNOTATIONS.schema,
        **_object(
            circles=_array({"title": "foxglove.CircleAnnotation", "type": "object"}),
            points=_array(
                {
                    "title": "foxglove.PointsAnnotation",
                    **_object(
                        timestamp=_TIME,
                        type=_INTEGER,
                        points=_array(_POINT),
                        outline_color=_COLOUR,
                        outline_colors=_array(_COLOUR),
                        fill_color=_COLOUR,
                        thickness=_NUMBER,
                    ),
                }
            ),
            texts=_array(
                {
                    "title": "foxglove.TextAnnotation",
                    **_object(
                        timestamp=_TIME,
                        position=_POINT,
                        text=_STRING,
                        font_size=_NUMBER,
                        text_color=_COLOUR,
                        background_color=_COLOUR,
                    ),
                }
            ),
        ),
    },
    DETECTIONS.schema: {
        "title": DETECTIONS.schema,
        "description": "What a model found in one frame; boxes in the frame's pixels, turned upright.",
        **_object(
            sequence=_INTEGER,
            timestamp_ns=_INTEGER,
            model=_STRING,
            width=_INTEGER,
            height=_INTEGER,
            detections=_array(
                _object(name=_STRING, class_id=_INTEGER, confidence=_NUMBER, xyxy={**_array(_NUMBER), "minItems": 4})
            ),
        ),
    },
    EVENTS.schema: {
        "title": EVENTS.schema,
        "description": "Frames that were lost (before the recorder, or by it), what else happened to the pipeline, and "
        "what began a triggered recording.",
        **_object(
            kind={"enum": list(EVENT_KINDS)},
            time_ns=_INTEGER,
            reason=_STRING,
            sequence=_INTEGER,
            frames=_INTEGER,
            consumer=_STRING,
        ),
    },
    CLOCK.schema: {
        "title": CLOCK.schema,
        "description": "The same moment on two clocks, once a second: CLOCK_MONOTONIC, of the frames' time stamps, and "
        "CLOCK_REALTIME, UTC since 1970.",
        **_object(monotonic_ns=_INTEGER, realtime_ns=_INTEGER),
    },
}
