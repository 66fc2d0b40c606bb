"""Runs on the emulated machine with v4l2loopback, and writes what other programs see of the camera to report.json."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge_isp.errors import SinkError
from edge_isp.kernels import reference
from edge_isp.sinks.spec import open_sink
from edge_isp.testing import check_sink
from tests.sinks.streams import moving_result

SHARE, DEVICE = Path(__file__).parent, "/dev/video10"
RESULT = moving_result(3, size=(320, 240))
EXPECTED = {"i420": reference.rgb_to_i420(RESULT.picture.rgb), "yuyv": reference.rgb_to_yuyv(RESULT.picture.rgb)}


class Writing:
    """The sink, written to in a thread."""

    def __init__(self, form: str) -> None:
        self.sink = open_sink(f"virtual:{DEVICE},format={form}")
        try:
            self.sink.write(RESULT)
        except SinkError:
            self.sink.close()
            raise
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sink.close()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self.sink.write(RESULT)


def by_v4l2_ctl(form: str) -> dict[str, Any]:
    """Frames as `v4l2-ctl --stream-mmap` reads them."""
    target = Path("/tmp") / f"{form}.raw"
    with Writing(form):
        listed = subprocess.run(
            ["v4l2-ctl", "-d", DEVICE, "--get-fmt-video"], capture_output=True, text=True, check=True
        )
        command = ["v4l2-ctl", "-d", DEVICE, "--stream-mmap", "--stream-count=5", f"--stream-to={target}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    content = np.fromfile(target, np.uint8)
    frame = EXPECTED[form].ravel()
    whole = len(content) // len(frame)
    same = [bool((content[i * len(frame) : (i + 1) * len(frame)] == frame).all()) for i in range(whole)]
    return {"status": done.returncode, "errors": done.stderr[-500:], "format": listed.stdout, "same": same}


def by_opencv() -> dict[str, Any]:
    """Frames as OpenCV reads them, unconverted."""
    import cv2

    with Writing("yuyv"):
        capture = cv2.VideoCapture(DEVICE, cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        read = [capture.read() for _ in range(5)]
        capture.release()
    frames = [np.asarray(frame).reshape(-1) for delivered, frame in read if delivered]
    return {"frames": len(frames), "same": [bool(np.array_equal(f, EXPECTED["yuyv"].ravel())) for f in frames]}


def a_reader_holds_the_format() -> str:
    """While a program reads YUYV, a picture of another size is refused and none is torn."""
    with Writing("yuyv") as writing:
        command = ["v4l2-ctl", "-d", DEVICE, "--stream-mmap", "--stream-count=100000"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as reader:
            assert reader.stderr
            reader.stderr.read(1)  # it prints a mark for each frame
            try:
                writing.sink.write(moving_result(3, size=(640, 480)))
                return "nothing was raised"
            except SinkError as error:
                return str(error)
            finally:
                reader.kill()


def conformance() -> str:
    """In a device that nobody reads."""
    check_sink(lambda: open_sink(f"virtual:{DEVICE}"), spec=f"virtual:{DEVICE}")
    return "passed"


def main() -> None:
    checks: dict[str, Callable[[], Any]] = {
        "yuyv": lambda: by_v4l2_ctl("yuyv"),
        "i420": lambda: by_v4l2_ctl("i420"),
        "opencv": by_opencv,
        "held": a_reader_holds_the_format,
        "conformance": conformance,
    }
    report: dict[str, Any] = {}
    for name, check in checks.items():
        begun_s = time.monotonic()
        try:
            report[name] = check()
        except Exception:  # noqa: BLE001 (the report says it)
            report[name] = {"exception": traceback.format_exc()}
        print(f"{name}: {time.monotonic() - begun_s:.1f} s", flush=True)
        (SHARE / "report.json").write_text(json.dumps(report, indent=1))


main()
