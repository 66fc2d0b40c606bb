"""What a pipeline can be asked for: its models, its stream, and what a full queue does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from edge_isp.calibration.profile import SensorProfile
from edge_isp.calibration.tone import check_tone
from edge_isp.engines.fallback import Delegation
from edge_isp.errors import ModelError, PipelineError, ZoneError, shortened
from edge_isp.metering.exposure import AutoExposure
from edge_isp.models.card import ModelCard
from edge_isp.pipeline.clock import Clock
from edge_isp.pipeline.drops import Event
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.results import FrameResult
from edge_isp.tasks.detect import DEFAULT_CONFIDENCE, Region
from edge_isp.tasks.protocol import Task
from edge_isp.tasks.registry import task_for
from edge_isp.tracking.following import UNCERTAIN, ObjectFollower
from edge_isp.tracking.regions import Regions
from edge_isp.wall_clock import WallClock

if TYPE_CHECKING:
    from edge_isp.pipeline.consumer import Consumer


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """What a queue does when it is full: `LATEST`, `BLOCK` or `buffered(n)`.

    `LATEST` holds one item, which a newer one replaces, so that results are as recent as possible. `BLOCK` holds one
    item, and the producer waits until it is taken, so that nothing is lost on the way. `buffered(n)` holds n items in
    order; when it is full, the oldest is dropped.

    Attributes:
        capacity: number of items that the queue holds, at least 1.
        waits: whether the producer waits for free capacity; otherwise the oldest item is dropped.

    Raises:
        PipelineError: the capacity is less than 1.
    """

    capacity: int
    waits: bool = False

    LATEST: ClassVar[QueuePolicy]
    BLOCK: ClassVar[QueuePolicy]

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise PipelineError(f"the capacity of a queue must be at least 1, found {self.capacity}")

    @classmethod
    def buffered(cls, capacity: int) -> Self:
        """Holds items in order; when the queue is full, the oldest is dropped.

        Args:
            capacity: number of items, at least 1.

        Raises:
            PipelineError: the capacity is less than 1.
        """
        return cls(capacity)

    @classmethod
    def parse(cls, text: str) -> QueuePolicy:
        """The policy of a name, as the command line takes it: "latest", "block" or "buffered(N)".

        Args:
            text: the name.

        Raises:
            PipelineError: there is no such policy.
        """
        named = {"latest": cls.LATEST, "block": cls.BLOCK}
        if text in named:
            return named[text]
        match = re.fullmatch(r"buffered\(([0-9]{1,6})\)", text)
        if match is None or int(match[1]) < 1:
            raise PipelineError(
                f"policy must be 'latest', 'block' or 'buffered(N)' with N from 1 to 999999, found '{shortened(text)}'"
            )
        return cls(int(match[1]))

    def __str__(self) -> str:
        if self == QueuePolicy.BLOCK:
            return "block"
        return "latest" if self == QueuePolicy.LATEST else f"buffered({self.capacity})"


QueuePolicy.LATEST = QueuePolicy(1)
QueuePolicy.BLOCK = QueuePolicy(1, waits=True)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """A model, and how it is run.

    Attributes:
        model: a shipped model's name or the path of one, see `find_model`.
        engine: name of the engine on the CPU; None chooses by the model's file (LiteRT for `.tflite`, ONNX Runtime for
            `.onnx`).
        threads: number of the engine's threads; None is one fewer than there are cores.
        delegation: which NPU may run the model, and what happens when it fails; None takes the fastest that works.
        profile: the sensor's profile; None is the shipped profile of the frames' sensor.
        correct_shading: whether a picture's lens shading is corrected; None corrects it where it is known, see
            `IspTask`.
        correct_defects: whether defective pixels are replaced; a detector's frames stay as they are.
        tone: "camera" for the camera's own tone curve, or "srgb", see `IspTask`.
        input_size: width and height in pixels of the mosaic that a detector sees; None is the model's own.
        confidence: minimum confidence of a detection, 0 to 1; None is the task's default.
        iou_threshold: overlap (intersection over union) from which on a box is the duplicate of a better one; None is
            the task's default.
        max_detections: maximum number of a frame's detections; None is the task's default.
        classes: names of the classes that a detector looks for; empty for all.
        min_size: minimum width and height of a detection, in pixels of the sensor.
        detection_regions: rectangles (x0, y0, x1, y1) in parts of the picture's width and height, in one of which the
            middle of a detection must lie; empty for the whole picture.
        class_agnostic: whether a better box of any class makes a box a duplicate, not only one of its own.
        track: whether a detector's objects are numbered from frame to frame, see `Detections.track_id`.
        regions: zones and lines in which objects are counted, see `Detections.zones`; objects are tracked then.
        tile: width and height in pixels of the parts that a frame is run in, overlap included, for NPUs whose models
            have one size; None runs frames whole unless they need more than `memory_budget_bytes`. Tiles give the same
            picture as the whole frame.
        memory_budget_bytes: memory that the engine may take for a frame before it is run in tiles; None is half of what
            is available.
        make_task: makes the task for the model's card, in place of `profile`, `correct_shading`, `correct_defects`,
            `tone`, and all options of a detector, such as `lambda card: DetectTask(card, max_detections=1)`. The task
            encodes in one thread and decodes in another, when the frame's data belongs to the camera again.

    Raises:
        PipelineError: `make_task` is given together with an option that it replaces, or a tile has no even, positive
            size.
        ProfileError: there is no such tone.
    """

    model: str = "rfdcsanet-s"
    _: KW_ONLY
    engine: str | None = None
    threads: int | None = None
    delegation: Delegation | None = None
    profile: SensorProfile | None = None
    correct_shading: bool | None = None
    correct_defects: bool = True
    tone: str = "camera"
    input_size: int | None = None
    confidence: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    classes: tuple[str, ...] = ()
    min_size: float = 0
    detection_regions: tuple[Region, ...] = ()
    class_agnostic: bool = False
    track: bool = False
    regions: Regions | None = None
    tile: tuple[int, int] | None = None
    memory_budget_bytes: int | None = None
    make_task: Callable[[ModelCard], Task] | None = None

    def __post_init__(self) -> None:
        check_tone(self.tone)
        replaced = {
            "profile": self.profile is not None,
            "correct_shading": self.correct_shading is not None,
            "correct_defects": not self.correct_defects,
            "tone": self.tone != "camera",
            "input_size": self.input_size is not None,
            "confidence": self.confidence is not None,
            "iou_threshold": self.iou_threshold is not None,
            "max_detections": self.max_detections is not None,
            "classes": bool(self.classes),
            "min_size": bool(self.min_size),
            "detection_regions": bool(self.detection_regions),
            "class_agnostic": self.class_agnostic,
        }
        given = [name for name, is_given in replaced.items() if is_given]
        if self.make_task is not None and given:
            raise PipelineError(
                f"make_task makes the whole task, so {', '.join(given)} would be ignored: give them to the task itself"
            )

        if self.tile is not None and (min(self.tile) < 2 or self.tile[0] % 2 or self.tile[1] % 2):
            raise PipelineError(f"tile must be an even width and height in pixels, found {self.tile}")

    @classmethod
    def of(cls, model: str | ModelOptions) -> ModelOptions:
        """Options as they are, or the default options of a model's name.

        Args:
            model: options or a name.

        Raises:
            PipelineError: it is neither.
        """
        if isinstance(model, ModelOptions):
            return model
        if isinstance(model, str):
            return cls(model)
        raise PipelineError(
            f"model must be a name, a path as text, or ModelOptions, found {type(model).__name__} {model!r}"
        )

    def task(self, card: ModelCard) -> Task:
        """The task for a model's card.

        Args:
            card: the model's.

        Raises:
            ModelError, ProfileError: see `task_for`.
        """
        if self.make_task is not None:
            return self.make_task(card)
        # A tracked object goes on with detections that are less certain than those that are delivered.
        follows = (self.track or self.regions is not None) and card.task == "detector"
        confidence = min(UNCERTAIN, self._least_confidence) if follows else self.confidence
        return task_for(
            card,
            profile=self.profile,
            correct_shading=self.correct_shading,
            correct_defects=self.correct_defects,
            tone=self.tone,
            input_size=self.input_size,
            confidence=confidence,
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
            classes=self.classes,
            min_size=self.min_size,
            regions=self.detection_regions,
            class_agnostic=self.class_agnostic,
        )

    def follower(self, card: ModelCard) -> ObjectFollower | None:
        """What tracks the model's objects; None where nothing is to be tracked.

        Args:
            card: the model's.

        Raises:
            ModelError: the model is no detector.
            ZoneError: a zone or a line names a class that the model does not know, or that is not looked for.
        """
        if not self.track and self.regions is None:
            return None
        if card.task != "detector":
            raise ModelError(f"'{card.name}' makes pictures: only a detector's objects can be tracked or counted")
        for name in self.regions.classes if self.regions and self.classes else ():
            if name in card.classes and name not in self.classes:
                raise ZoneError(f"a zone or a line counts '{name}', which is not among the classes that are looked for")
        return ObjectFollower(confidence=self._least_confidence, regions=self.regions, class_names=card.classes)

    @property
    def _least_confidence(self) -> float:
        """Minimum confidence of a detection that is delivered."""
        return DEFAULT_CONFIDENCE if self.confidence is None else self.confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How frames move through a pipeline, and what is reported about them.

    Attributes:
        policy: of every queue that has no policy of its own; None is `LATEST` for cameras and `BLOCK` for recordings.
        max_age_s: frames and results of the first consumer that are older than this are dropped, and `DeadlineMissed`
            is reported when it has none that is young enough.
        max_fps: most frames per second that the first consumer's model gets, by the time of the sensor.
        callback: called with each result of the first consumer, in a thread of the pipeline; its exception ends the
            stream.
        keep_raw: whether results of the first consumer carry a copy of their RAW frame, see `FrameResult.raw`.
        auto_exposure: sets the camera's exposure and gain, and the white balance of frames that have none.
        auto_brightness: whether results are brightened or darkened until the mean of their light is 18 % grey, for
            recordings whose exposure is off; see `metering.brightness`.
        reconnect: which failures the stream survives; None is `ReconnectPolicy()`.
        on_event: called with each `Event` (`FramesDropped`, `StateChange`, `DelegateChange` and so on), in threads of
            the pipeline; it must return quickly, and its exception ends the stream.
        in_turn_with: the first consumer's model never runs at the same time as the model of this consumer, which may be
            of another pipeline: for several cameras and one NPU.
        notify_systemd: whether to tell the service manager when the first result is there (READY), that every stage
            responds (WATCHDOG), and the state.
        clock: for simulations; None is the system's monotonic clock.
        wall_clock: of `FrameResult.timestamp_realtime_ns`, such as the clock of ROS; None is CLOCK_REALTIME.

    Raises:
        PipelineError: `policy` is not a `QueuePolicy`.
    """

    policy: QueuePolicy | None = None
    max_age_s: float | None = None
    max_fps: float | None = None
    callback: Callable[[FrameResult], object] | None = None
    keep_raw: bool = False
    auto_exposure: AutoExposure | None = None
    auto_brightness: bool = False
    reconnect: ReconnectPolicy | None = None
    on_event: Callable[[Event], object] | None = None
    in_turn_with: Consumer | None = None
    notify_systemd: bool = False
    clock: Clock | None = None
    wall_clock: WallClock | None = None

    def __post_init__(self) -> None:
        check_policy(self.policy)


def check_policy(policy: object) -> None:
    """Refuses what is no policy, such as a policy's name.

    Args:
        policy: a `QueuePolicy` or None.

    Raises:
        PipelineError: it is something else.
    """
    if policy is not None and not isinstance(policy, QueuePolicy):
        raise PipelineError(
            "policy must be QueuePolicy.LATEST, QueuePolicy.BLOCK or QueuePolicy.buffered(n) "
            f"(QueuePolicy.parse reads a policy's name), found {type(policy).__name__} {policy!r}"
        )
