"""A stand-in for rclpy and the packages of messages, for tests without ROS. It is not ROS.

It has what `edge_isp.ros_node` uses, as rclpy of Humble documents it: a lifecycle node whose transitions call the
`on_...` methods, parameters with callbacks, publishers that keep what was published, services that can be called. Its
messages have the fields of tests/ros/cdr.py, refuse other fields, and check types as generated classes do.
"""

from __future__ import annotations

import array
import enum
import re
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.ros.cdr import DEFINITIONS, fields

_PACKAGES = {
    "builtin_interfaces": ["Time"],
    "std_msgs": ["Header"],
    "sensor_msgs": ["Image", "CompressedImage", "CameraInfo", "RegionOfInterest"],
    "diagnostic_msgs": ["DiagnosticArray", "DiagnosticStatus", "KeyValue"],
    "geometry_msgs": ["Point", "Quaternion", "Pose", "PoseWithCovariance"],
    "vision_msgs": [
        "Point2D",
        "Pose2D",
        "BoundingBox2D",
        "ObjectHypothesis",
        "ObjectHypothesisWithPose",
        "Detection2D",
        "Detection2DArray",
    ],
}
_PACKAGE_OF = {name: package for package, names in _PACKAGES.items() for name in names}
_CLASSES: dict[str, type] = {}


class Message:
    """A message; a subclass for each definition."""

    definition: str

    def __init__(self) -> None:
        for kind, field in fields(self.definition):
            object.__setattr__(self, field, _default(kind))

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        return {field: _ros_type(kind, cls.definition, field) for kind, field in fields(cls.definition)}

    def __setattr__(self, field: str, value: Any) -> None:
        kind = dict((f, k) for k, f in fields(self.definition))[field]  # KeyError: no such field
        _check(kind, value, self.get_fields_and_field_types()[field])
        object.__setattr__(self, field, value)

    def plain(self) -> dict[str, Any]:
        """As a dictionary."""
        return {field: _plain(getattr(self, field)) for _, field in fields(self.definition)}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.plain()
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, bytes):
        return value[0]
    return value


def _ros_type(kind: str, message: str, field: str) -> str:
    if (message, field) == ("DiagnosticStatus", "level"):
        return "octet"
    match = re.fullmatch(r"(\w+)\[(\d*)\]", kind)
    if match is not None:
        element = _ros_type(match[1], "", "")
        return f"{element}[{match[2]}]" if match[2] else f"sequence<{element}>"
    kind = {"float64": "double", "bool": "boolean"}.get(kind, kind)
    return f"{_PACKAGE_OF[kind]}/{kind}" if kind in DEFINITIONS else kind


def _default(kind: str) -> Any:
    match = re.fullmatch(r"(\w+)\[(\d*)\]", kind)
    if match is not None:
        return [0.0] * int(match[2] or 0)
    if kind in DEFINITIONS:
        return _CLASSES[kind]()
    return {"string": "", "float64": 0.0, "bool": False}.get(kind, 0)


def _check(kind: str, value: Any, ros_type: str) -> None:
    if ros_type == "octet":
        assert isinstance(value, bytes)
        assert len(value) == 1
    elif kind == "uint8[]":
        assert isinstance(value, array.array)
        assert value.typecode == "B"
    elif match := re.fullmatch(r"(\w+)\[(\d*)\]", kind):
        assert isinstance(value, list)
        assert not match[2] or len(value) == int(match[2])
        for element in value:
            _check(match[1], element, "")
    elif kind in DEFINITIONS:
        assert type(value) is _CLASSES[kind]
    else:
        assert isinstance(value, {"string": str, "float64": float, "bool": bool}.get(kind, int)), (kind, value)


class TransitionCallbackReturn(enum.Enum):
    SUCCESS = 97
    FAILURE = 98
    ERROR = 99


class Publisher:
    def __init__(self, msgtype: type, topic: str, qos: Any) -> None:
        self.msgtype, self.topic, self.qos = msgtype, topic, qos
        self.messages: list[Message] = []
        self.subscribers = 1

    def publish(self, message: Message) -> None:
        assert type(message) is self.msgtype
        self.messages.append(message)

    def get_subscription_count(self) -> int:
        return self.subscribers


class Clock:
    offset_ns = 0

    def now(self) -> Any:
        return SimpleNamespace(nanoseconds=time.time_ns() + self.offset_ns)


class Logger:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, text: str) -> None:
        self.errors.append(text)


class Timer:
    """In a thread of its own, in the place of the executor's."""

    def __init__(self, period_s: float, callback: Callable[[], object]) -> None:
        self.period_s, self._callback, self._ended = period_s, callback, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self.period_s / 20):
            self._callback()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


class LifecycleNode:
    def __init__(self, name: str) -> None:
        self._name, self._clock, self._logger = name, Clock(), Logger()
        self._parameters: dict[str, Any] = {}
        self._setters: list[Callable[[list[Any]], Any]] = []
        self.publishers_made: dict[str, Publisher] = {}
        self.services: dict[str, Callable[[Any, Any], Any]] = {}
        self.state = "unconfigured"

    def declare_parameter(self, name: str, value: Any) -> None:
        assert name not in self._parameters
        self._parameters[name] = value

    def undeclare_parameter(self, name: str) -> None:
        del self._parameters[name]

    def get_parameter(self, name: str) -> Any:
        return SimpleNamespace(name=name, value=self._parameters[name])

    def add_on_set_parameters_callback(self, callback: Callable[[list[Any]], Any]) -> None:
        self._setters.append(callback)

    def set_parameters(self, parameters: dict[str, Any]) -> Any:
        """As a client of the node's parameter service asks for it."""
        for setter in self._setters:
            answer = setter([SimpleNamespace(name=name, value=value) for name, value in parameters.items()])
            if not answer.successful:
                return answer
        self._parameters.update(parameters)
        return answer

    def get_clock(self) -> Clock:
        return self._clock

    def get_logger(self) -> Logger:
        return self._logger

    def get_name(self) -> str:
        return self._name

    def create_publisher(self, msgtype: type, topic: str, qos: Any) -> Publisher:
        self.publishers_made[topic] = Publisher(msgtype, topic, qos)
        return self.publishers_made[topic]

    create_lifecycle_publisher = create_publisher

    def create_timer(self, period_s: float, callback: Callable[[], object]) -> Timer:
        return Timer(period_s, callback)

    def destroy_timer(self, timer: Timer) -> None:
        timer.end()

    def destroy_publisher(self, publisher: Publisher) -> None:
        del self.publishers_made[publisher.topic]

    def create_service(self, kind: type, name: str, callback: Callable[[Any, Any], Any]) -> None:
        self.services[name] = callback

    def call(self, name: str, data: bool) -> Any:
        """As a client of a service of std_srvs/SetBool."""
        return self.services[name](SimpleNamespace(data=data), SimpleNamespace(success=False, message=""))

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def _trigger(self, method: str, state: str) -> TransitionCallbackReturn:
        done: TransitionCallbackReturn = getattr(self, method)(None)
        if done is TransitionCallbackReturn.SUCCESS:
            self.state = state
        return done

    def trigger_configure(self) -> TransitionCallbackReturn:
        return self._trigger("on_configure", "inactive")

    def trigger_activate(self) -> TransitionCallbackReturn:
        return self._trigger("on_activate", "active")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        return self._trigger("on_deactivate", "inactive")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        return self._trigger("on_cleanup", "unconfigured")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        return self._trigger("on_shutdown", "finalized")

    def destroy_node(self) -> None:
        self.state = "destroyed"


class QoSProfile:
    def __init__(self, *, depth: int) -> None:
        self.depth = depth


def install(monkeypatch: pytest.MonkeyPatch, spin: Callable[[LifecycleNode], None] = lambda node: None) -> None:
    """Puts the stand-in where `import rclpy` finds it.

    Args:
        monkeypatch: takes it away again.
        spin: in the place of `rclpy.spin`.
    """
    for name in DEFINITIONS:
        _CLASSES[name] = type(name, (Message,), {"definition": name})

    def module(name: str, **contents: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    for package, names in _PACKAGES.items():
        module(package, msg=module(f"{package}.msg", **{name: _CLASSES[name] for name in names}))
    result = type("SetParametersResult", (), {"successful": True, "reason": ""})
    module("rcl_interfaces", msg=module("rcl_interfaces.msg", SetParametersResult=result))
    module("std_srvs", srv=module("std_srvs.srv", SetBool=type("SetBool", (), {})))
    lifecycle = module(
        "rclpy.lifecycle", LifecycleNode=LifecycleNode, TransitionCallbackReturn=TransitionCallbackReturn
    )
    qos = module("rclpy.qos", QoSProfile=QoSProfile, qos_profile_sensor_data="sensor data")
    module("rclpy", lifecycle=lifecycle, qos=qos, init=lambda: None, try_shutdown=lambda: None, spin=spin)
    for name in [name for name in sys.modules if name.startswith("edge_isp.ros_node.")]:
        monkeypatch.delitem(sys.modules, name)
