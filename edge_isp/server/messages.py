"""What the API takes and answers: msgspec checks requests by these types, and the OpenAPI document is made of them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

_Ratio = Annotated[float, Meta(gt=0, le=1000)]


class ControlsRequest(Struct, forbid_unknown_fields=True):
    """Settings of the camera to change; what is left out or null stays as it is."""

    exposure_ns: Annotated[float, Meta(ge=1, le=10**12)] | None = None  # 1315.0 is an integer in JSON, too
    analogue_gain: _Ratio | None = None
    auto_exposure: bool | None = None
    auto_white_balance: bool | None = None


class ToneRequest(Struct, forbid_unknown_fields=True):
    """Brightness in stops and contrast of the pictures that are shown, and the tone curve of all pictures.

    The curve is the camera's own or sRGB's transfer curve; null leaves it as it is.
    """

    brightness_ev: Annotated[float, Meta(ge=-4, le=4)] = 0.0
    contrast: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    curve: Literal["camera", "srgb"] | None = None


class RecordingRequest(Struct, forbid_unknown_fields=True):
    """What to record: RAW frames with everything known of them, or a video of the pictures."""

    kind: Literal["mcap", "video"]


class Problem(Struct):
    """Why a request was refused."""

    error: str


class Frame(Struct):
    """The newest frame."""

    sequence: int
    width: int
    height: int
    sensor: str | None
    colour_temperature_k: float | None


class Partition(Struct):
    """How many operators of a model one executor runs."""

    executor: str
    operators: int


class Model(Struct):
    """What a model does: results per second, age of the newest one, frames that were lost by reason, what runs it."""

    name: str
    boxes: bool
    rate_per_s: float
    age_ms: float | None
    frames: int
    delivered: int
    dropped: dict[str, int]
    engine: str
    delegate: str
    threads: int
    partitions: list[Partition]


class Limits(Struct):
    """Least and greatest values at the present frame rate."""

    exposure_ns: tuple[int, int]
    analogue_gain: tuple[float, float]


class ControlsStatus(Struct):
    """Settings of the camera; `problem` says why there are no limits."""

    exposure_ns: int | None
    analogue_gain: float | None
    limits: Limits | None
    problem: str
    auto_exposure: bool
    auto_white_balance: bool


class RunningRecording(Struct):
    """A recording that runs: frames that were written, and frames that could not be."""

    kind: str
    file: str
    seconds: float
    frames: int
    lost: int


class RecordingStatus(Struct):
    """Recordings: which kinds there are, why the last one ended early, and what is being recorded."""

    kinds: list[str]
    error: str
    dropped: int
    running: RunningRecording | None


class EventsStatus(Struct):
    """Recordings of events: seconds before and after a trigger, whether one runs, and how many files there are."""

    before_s: float
    after_s: float
    running: bool
    files: int


class ToneStatus(Struct):
    """Brightness in stops and contrast of the pictures that are shown, and the tone curve of all pictures."""

    brightness_ev: float
    contrast: float
    curve: str


class BoardStatus(Struct):
    """Temperatures in degrees Celsius, and what slows the machine down; null where nothing says so."""

    temperatures_c: dict[str, float]
    throttled: list[str] | None


class Status(Struct):
    """All numbers of the live view."""

    state: str
    reason: str
    uptime_s: float
    camera: str
    frame: Frame | None
    restarts: int
    views: list[str]
    detector: bool
    models: list[Model]
    controls: ControlsStatus
    tone: ToneStatus
    recording: RecordingStatus
    events: EventsStatus | None
    board: BoardStatus
    viewers: dict[str, int]


class CamerasStatus(Struct):
    """All numbers of several cameras, by their names, and how many clients watch the tiles of all."""

    cameras: dict[str, Status]
    viewers: int
