"""The conformance suite of sinks: what every `Sink` must do, ours and others'."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_isp.errors import SinkError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame
from edge_isp.results import Detections, FrameResult, Picture
from edge_isp.sinks.base import Sink
from edge_isp.sinks.spec import open_sink as open_spec

_WIDTH, _HEIGHT = 64, 48
_PERIOD_NS = 33_333_333


def check_sink(open_sink: Callable[[], Sink], *, spec: str | None = None, frames: int = 4) -> None:
    """Checks a sink against the protocol `edge_isp.Sink`; to be called from a test.

        def test_my_sink(tmp_path):
            check_sink(lambda: MySink(tmp_path), spec=f"my-sink:{tmp_path}")

    It opens the sink several times, and checks: pictures, and detections with and without objects, are written, with
    gaps between their numbers; a sink is opened, used and closed in three different threads, as a pipeline does; it may
    be closed twice, and without a write; a write after `close` is a SinkError; and file descriptors and threads are as
    before when the sink is closed.

    Args:
        open_sink: opens the sink, always in the same way.
        spec: opens the same sink with `edge_isp.open_sink`; None for a sink that is not a plug-in.
        frames: how many results of each kind to write.

    Raises:
        AssertionError: the sink does not do what it must; the message names the method.
    """
    _check_protocol(open_sink)
    for make in (picture_result, detections_result):
        _check_writes(open_sink, [make(number, raw=True) for number in range(0, 2 * frames, 2)])
    _check_resources(open_sink, frames)
    if spec is not None:
        _check_spec(spec)


def picture_result(number: int, *, raw: bool = False) -> FrameResult:
    """A result of a model that makes pictures, for tests of sinks.

    Args:
        number: the frame's; pictures of different frames differ.
        raw: whether it carries its RAW frame.
    """
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    rgb = np.stack([4 * x, 5 * y, np.full_like(x, 16 * number % 256)], 2).astype(np.uint8)
    frame = _frame(number)
    return _result(Picture(rgb, frame.source, number, frame.timestamp_ns), frame, raw=raw)


def detections_result(number: int, *, raw: bool = False) -> FrameResult:
    """A result of a detector, for tests of sinks: objects in even frames, none in odd ones.

    Args:
        number: the frame's.
        raw: whether it carries its RAW frame.
    """
    count = 0 if number % 2 else 2
    boxes = np.array([[8, 8, 40, 32], [0, 0, _WIDTH, _HEIGHT]], np.float32)[:count]
    frame = _frame(number)
    found = Detections(
        boxes,
        np.array([0.9, 0.5], np.float32)[:count],
        np.array([1, 0], np.int32)[:count],
        ("cat", "dog"),
        frame.source,
        number,
        frame.timestamp_ns,
    )
    return _result(found, frame, raw=raw)


def _frame(number: int) -> RawFrame:
    layout = RawFormat(_WIDTH, _HEIGHT, Cfa.RGGB, 10, Packing.U16)
    codes = np.full((_HEIGHT, _WIDTH), 64 + 50 * (number % 16), "<u2")
    return RawFrame(
        data=codes.view(np.uint8),
        format=layout,
        source="check_sink.raw",
        sequence=number,
        timestamp_ns=1_000_000_000 + number * _PERIOD_NS,
        black_level=(64.0, 64.0, 64.0, 64.0),
        white_level=1023.0,
        sensor="imx219",
        colour_gains=(1.8, 1.4),
        colour_temperature_k=5500.0,
    )


def _result(result: Picture | Detections, frame: RawFrame, *, raw: bool) -> FrameResult:
    return FrameResult(
        result=result,
        source=frame.source,
        sequence=frame.sequence,
        timestamp_ns=frame.timestamp_ns,
        stages_ns={"read": 1, "encode": 1, "infer": 1, "decode": 1},
        queued_ns={"encode": 0, "infer": 0, "decode": 0, "deliver": 0},
        delivered_ns=frame.timestamp_ns + _PERIOD_NS,
        status=FrameStatus.OK,
        model="check_sink",
        raw=frame if raw else None,
    )


def _check_protocol(open_sink: Callable[[], Sink]) -> None:
    sink = open_sink()
    for method in ("write", "close"):
        _require(callable(getattr(sink, method, None)), f"{method}: must be a method of the sink")
    needs_raw = getattr(sink, "needs_raw", False)
    _require(
        needs_raw in (True, False, "detections"),
        f"needs_raw: must be True, False or 'detections', found {needs_raw!r}",
    )
    sink.close()  # without a write


def _check_writes(open_sink: Callable[[], Sink], results: list[FrameResult]) -> None:
    """Opened in this thread, used in another and closed in a third."""
    sink = open_sink()
    if getattr(sink, "needs_raw", False) == "detections":
        results = [result if isinstance(result.result, Detections) else replace(result, raw=None) for result in results]

    def write_all() -> None:
        for result in results:
            sink.write(result)

    _in_a_thread(write_all)
    _in_a_thread(sink.close)
    try:
        sink.close()
    except Exception as error:
        raise AssertionError(f"close: must be idempotent, the second call raised {error!r}") from error
    try:
        sink.write(results[0])
    except SinkError:
        return
    except Exception as error:
        raise AssertionError(f"write: after close it must raise SinkError, raised {error!r}") from error
    raise AssertionError("write: after close it must raise SinkError, it returned")


def _check_resources(open_sink: Callable[[], Sink], frames: int) -> None:
    def use() -> None:
        sink = open_sink()
        for number in range(frames):
            sink.write(picture_result(number, raw=True))
        sink.close()

    use()  # what is made once, is made
    before = _resources()
    use()
    after = _resources()
    _require(before == after, f"close: threads and open files must be as before, found {after}, before {before}")


def _check_spec(spec: str) -> None:
    open_spec(spec).close()
    try:
        sink = open_spec(f"{spec},no_such_setting=1")
    except SinkError as error:
        _require("no_such_setting" in str(error), f"open_sink: the error must name the setting, found: {error}")
        return
    sink.close()
    raise AssertionError("open_sink: a setting that does not exist must be a SinkError; take no **keywords")


def _in_a_thread(do: Callable[[], object]) -> None:
    """Does something in a thread of its own; raises what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run, name="check_sink")
    thread.start()
    thread.join()
    for error in errors:
        raise error


def _resources() -> tuple[list[str], int]:
    """Names of threads, and the number of open files where the system shows it."""
    files = Path("/proc/self/fd")
    return sorted(thread.name for thread in threading.enumerate()), len(os.listdir(files)) if files.exists() else 0


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
