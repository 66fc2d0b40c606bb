"""Cameras, engines and sinks by name: our own, imported when asked for, and others' through entry points.

Another package adds one with an entry point in the group `edge_isp.cameras`, `edge_isp.engines` or
`edge_isp.sinks`, whose value is the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from edge_isp.errors import MissingDependencyError, PluginError, did_you_mean, shortened


@dataclass(frozen=True, slots=True)
class Spec:
    """Where a plug-in of our own lives.

    Attributes:
        target: "module:Class".
        packages: top-level packages it needs beyond the core's, each with the extra that installs it; "" where its
            vendor does.
    """

    target: str
    packages: tuple[tuple[str, str], ...] = ()


_RECORDING = (("mcap", "recording"), ("google", "recording"))

BUILT_IN: dict[str, dict[str, Spec]] = {
    "cameras": {
        "picamera2": Spec("edge_isp.cameras.picamera2.camera:Picamera2Camera", (("picamera2", "picamera2"),)),
        "mcap": Spec("edge_isp.cameras.mcap:McapCamera", _RECORDING),
        "replay": Spec("edge_isp.cameras.replay:ReplayCamera"),
        "synthetic": Spec("edge_isp.cameras.synthetic:SyntheticCamera"),
        "v4l2": Spec("edge_isp.cameras.v4l2.camera:V4l2Camera"),
        "zenoh": Spec("edge_isp.cameras.zenoh:ZenohCamera", (("zenoh", "zenoh"), ("google", "zenoh"))),
    },
    "engines": {
        "compiled-model": Spec("edge_isp.engines.compiled_model:CompiledModelEngine"),
        "hailo": Spec("edge_isp.engines.hailo:HailoEngine", (("hailo_platform", ""),)),
        "litert": Spec("edge_isp.engines.litert:LiteRtEngine"),
        "onnxruntime": Spec("edge_isp.engines.onnxruntime:OnnxRuntimeEngine", (("onnxruntime", "onnx"),)),
        "rknn": Spec("edge_isp.engines.rknn:RknnEngine", (("rknnlite", ""),)),
        "tflite-runtime": Spec(
            "edge_isp.engines.tflite_runtime:TfliteRuntimeEngine", (("tflite_runtime", "tflite-runtime"),)
        ),
    },
    "sinks": {
        "dng": Spec("edge_isp.sinks.dng:DngSink"),
        "jpeg": Spec("edge_isp.sinks.jpeg:JpegSink"),
        "mcap": Spec("edge_isp.sinks.mcap:McapSink", _RECORDING),
        "mqtt": Spec("edge_isp.sinks.mqtt:MqttSink", (("paho", "mqtt"),)),
        "mqtts": Spec("edge_isp.sinks.mqtt:MqttsSink", (("paho", "mqtt"),)),
        "png": Spec("edge_isp.sinks.png:PngSink"),
        "rosbag": Spec("edge_isp.sinks.rosbag:RosbagSink", (("rosbags", "ros"),)),
        "rtsp": Spec("edge_isp.sinks.push:RtspSink", (("av", "video"),)),
        "shm": Spec("edge_isp.sinks.shared:SharedMemorySink"),
        "srt": Spec("edge_isp.sinks.push:SrtSink", (("av", "video"),)),
        "udp": Spec("edge_isp.sinks.push:UdpSink", (("av", "video"),)),
        "video": Spec("edge_isp.sinks.video:VideoSink", (("av", "video"),)),
        "virtual": Spec("edge_isp.sinks.virtual_camera:VirtualCameraSink"),
        "zenoh": Spec("edge_isp.sinks.zenoh:ZenohSink", (("zenoh", "zenoh"), ("google", "zenoh"))),
    },
}


def names(kind: str) -> tuple[str, ...]:
    """Names of all plug-ins of a kind ("cameras", "engines", "sinks"), ours and others'."""
    return tuple(sorted({*BUILT_IN[kind], *(entry.name for entry in entry_points(group=f"edge_isp.{kind}"))}))


def load(kind: str, name: str) -> Any:
    """The class of a plug-in.

    Raises:
        PluginError: there is none of that name, or two packages bring one.
        MissingDependencyError: it needs a package that is not installed.
    """
    entries = list(entry_points(group=f"edge_isp.{kind}", name=name))
    ours = BUILT_IN[kind].get(name)
    if len(entries) + (ours is not None) > 1:
        origins = ", ".join(f"{e.value} of {e.dist.name if e.dist else '?'}" for e in entries)
        raise PluginError(f"more than one of {kind} is named '{name}': {origins}{', edge_isp itself' if ours else ''}")
    if ours is None and not entries:
        known = names(kind)
        raise PluginError(
            f"no '{shortened(name)}' among {kind}; there are: {', '.join(known)}{did_you_mean(name, known)}"
        )
    target = entries[0].value if ours is None else ours.target
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        for package, extra in ours.packages if ours else ():
            if error.name == package:
                raise MissingDependencyError(f"'{name}'", package, extra) from error
        raise
