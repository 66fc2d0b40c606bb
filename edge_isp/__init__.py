"""edge_isp: Bayer frames from a camera straight into a quantised network, with no ISP in between."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_isp.calibration.profile import SensorProfile, load_profile
    from edge_isp.calibration.simulation import SensorModel
    from edge_isp.calibration.tuning import load_libcamera_tuning
    from edge_isp.cameras.base import Camera, CameraBase, ControlLimits, Controls
    from edge_isp.cameras.picamera2.camera import Picamera2Camera
    from edge_isp.cameras.replay import ReplayCamera
    from edge_isp.cameras.synthetic import SyntheticCamera
    from edge_isp.cameras.v4l2.camera import V4l2Camera
    from edge_isp.engines.base import Engine, EngineEvent, EngineReport
    from edge_isp.engines.delegates import DelegateSpec
    from edge_isp.engines.fallback import Delegation, FallbackEngine
    from edge_isp.engines.litert import LiteRtEngine
    from edge_isp.engines.process import ProcessEngine
    from edge_isp.errors import (
        BenchError,
        CalibrationError,
        CameraDisconnectedError,
        CameraError,
        CameraTimeoutError,
        EdgeIspError,
        EngineError,
        FormatError,
        MissingDependencyError,
        ModelError,
        PipelineError,
        PluginError,
        ProfileError,
        SinkError,
    )
    from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
    from edge_isp.metering.exposure import AutoExposure
    from edge_isp.models.card import ModelCard, find_model
    from edge_isp.pipeline.consumer import Consumer
    from edge_isp.pipeline.drops import DropReason, FrameCounts, FramesDropped, PipelineState, StateChange
    from edge_isp.pipeline.options import ModelOptions, QueuePolicy, StreamOptions
    from edge_isp.pipeline.pipeline import Pipeline
    from edge_isp.pipeline.reconnect import ReconnectPolicy
    from edge_isp.results import Detections, FrameResult, Picture
    from edge_isp.sinks.annotate import annotate
    from edge_isp.sinks.base import Sink
    from edge_isp.sinks.png import PngSink
    from edge_isp.sinks.spec import open_sink
    from edge_isp.tasks.detect import DetectTask
    from edge_isp.tasks.isp import IspTask
    from edge_isp.tasks.protocol import Task

__version__ = "0.1.0"

# Where each public name lives; imported when it is first asked for (PEP 562), so that `import edge_isp`
# loads neither numba nor a runtime.
_HOMES = {
    "AutoExposure": "metering.exposure",
    "BenchError": "errors",
    "CalibrationError": "errors",
    "Camera": "cameras.base",
    "CameraBase": "cameras.base",
    "CameraDisconnectedError": "errors",
    "CameraError": "errors",
    "CameraTimeoutError": "errors",
    "DropReason": "pipeline.drops",
    "Cfa": "frame",
    "Consumer": "pipeline.consumer",
    "ControlLimits": "cameras.base",
    "Controls": "cameras.base",
    "FrameCounts": "pipeline.drops",
    "DelegateSpec": "engines.delegates",
    "Delegation": "engines.fallback",
    "DetectTask": "tasks.detect",
    "Detections": "results",
    "EdgeIspError": "errors",
    "Engine": "engines.base",
    "EngineError": "errors",
    "EngineEvent": "engines.base",
    "EngineReport": "engines.base",
    "FormatError": "errors",
    "FrameStatus": "frame",
    "IspTask": "tasks.isp",
    "FallbackEngine": "engines.fallback",
    "LiteRtEngine": "engines.litert",
    "FramesDropped": "pipeline.drops",
    "MissingDependencyError": "errors",
    "ModelCard": "models.card",
    "ModelError": "errors",
    "ModelOptions": "pipeline.options",
    "Packing": "frame",
    "Picamera2Camera": "cameras.picamera2.camera",
    "Picture": "results",
    "Pipeline": "pipeline.pipeline",
    "PipelineError": "errors",
    "PluginError": "errors",
    "PngSink": "sinks.png",
    "ProcessEngine": "engines.process",
    "FrameResult": "results",
    "ProfileError": "errors",
    "QueuePolicy": "pipeline.options",
    "RawFormat": "frame",
    "RawFrame": "frame",
    "ReconnectPolicy": "pipeline.reconnect",
    "ReplayCamera": "cameras.replay",
    "SensorModel": "calibration.simulation",
    "SensorProfile": "calibration.profile",
    "Sink": "sinks.base",
    "SinkError": "errors",
    "PipelineState": "pipeline.drops",
    "StateChange": "pipeline.drops",
    "StreamOptions": "pipeline.options",
    "SyntheticCamera": "cameras.synthetic",
    "Task": "tasks.protocol",
    "V4l2Camera": "cameras.v4l2.camera",
    "annotate": "sinks.annotate",
    "find_model": "models.card",
    "load_libcamera_tuning": "calibration.tuning",
    "load_profile": "calibration.profile",
    "open_sink": "sinks.spec",
}

__all__ = [
    "AutoExposure",
    "BenchError",
    "CalibrationError",
    "Camera",
    "CameraBase",
    "CameraDisconnectedError",
    "CameraError",
    "CameraTimeoutError",
    "Cfa",
    "Consumer",
    "ControlLimits",
    "Controls",
    "DelegateSpec",
    "Delegation",
    "DetectTask",
    "Detections",
    "DropReason",
    "EdgeIspError",
    "Engine",
    "EngineError",
    "EngineEvent",
    "EngineReport",
    "FallbackEngine",
    "FormatError",
    "FrameCounts",
    "FrameResult",
    "FrameStatus",
    "FramesDropped",
    "IspTask",
    "LiteRtEngine",
    "MissingDependencyError",
    "ModelCard",
    "ModelError",
    "ModelOptions",
    "Packing",
    "Picamera2Camera",
    "Picture",
    "Pipeline",
    "PipelineError",
    "PipelineState",
    "PluginError",
    "PngSink",
    "ProcessEngine",
    "ProfileError",
    "QueuePolicy",
    "RawFormat",
    "RawFrame",
    "ReconnectPolicy",
    "ReplayCamera",
    "SensorModel",
    "SensorProfile",
    "Sink",
    "SinkError",
    "StateChange",
    "StreamOptions",
    "SyntheticCamera",
    "Task",
    "V4l2Camera",
    "annotate",
    "find_model",
    "load_libcamera_tuning",
    "load_profile",
    "open_sink",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'edge_isp' has no attribute '{name}'")
    value = getattr(import_module(f"edge_isp.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
