"""Runs on the emulated board: edge_isp against the kernel's camera test driver; leaves what it saw in a report.

Nothing is judged here: `test_board.py` does that.
"""

from __future__ import annotations

import json
import mmap
import os
import platform
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import edge_isp
from edge_isp.cameras.continuity import Continuity
from edge_isp.cameras.v4l2 import camera as camera_module
from edge_isp.cameras.v4l2.camera import V4l2Camera
from edge_isp.cameras.v4l2.device import CaptureDevice
from edge_isp.cameras.v4l2.formats import BAYER_FORMATS
from edge_isp.cameras.v4l2.graph import media_graphs
from edge_isp.cameras.v4l2.media import MediaDevice
from edge_isp.errors import CameraDisconnectedError, CameraError, EdgeIspError
from edge_isp.frame import FrameStatus, RawFrame
from edge_isp.testing import check_camera

SHARE = Path(__file__).parent
FULL = (SHARE / "full").exists()  # also what takes long
CHECKS: list[Callable[[], Any]] = []

# The eight bars of vivid's first test pattern: red, green and blue, on or off.
BARS = np.array([(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)], np.int64)
LEVELS = {8: 191, 10: 767, 12: 3071, 16: 49087}  # of 75 %


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    CHECKS.append(function)
    return function


def open_camera(**settings: Any) -> V4l2Camera:
    return V4l2Camera(
        0, **{"width": 320, "height": 180, "pixel_format": "RG10", "fps": 60, "black_level": 0, **settings}
    )


def read(camera: V4l2Camera) -> RawFrame:
    frame = camera.read(timeout_s=20)
    assert frame is not None
    return frame


def message(act: Callable[[], Any]) -> str:
    """Kind and text of the exception that something raises."""
    try:
        act()
    except EdgeIspError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


@check
def machine() -> dict[str, str]:
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "edge_isp": str(Path(edge_isp.__file__).parent),
        "wheel": (next(Path(edge_isp.__file__).parents[1].glob("edge_isp-*.dist-info")) / "WHEEL").read_text(),
    }


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from edge_isp.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


@check
def devices() -> Any:
    done = command("devices", "--json")
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def pixels(code: str) -> dict[str, Any] | str:
    """A format's pixels against the bars; the error where the driver has no such format."""
    layout = BAYER_FORMATS[code]
    try:
        camera = open_camera(pixel_format=code)
    except EdgeIspError as error:
        return str(error)
    with camera, read(camera) as frame:
        codes = frame.data.view("<u2" if layout.bit_depth > 8 else np.uint8).astype(np.int64)
        expected = np.zeros((180, 320), np.int64)
        for position, colour in enumerate(layout.cfa.value):
            y, x = divmod(position, 2)
            columns = np.arange(x, 320, 2)
            expected[y::2, x::2] = LEVELS[layout.bit_depth] * BARS[columns * 8 // 320, "RGB".index(colour)]
        return {
            "format": str(frame.format),
            "stride": frame.format.stride,
            "wrong_pixels": int((codes != expected).sum()),
            "different_levels": len(np.unique(codes)),
            "status": frame.status.name or str(frame.status),
        }


@check
def formats() -> dict[str, Any]:
    """Every Bayer format's pixels."""
    return {code: pixels(code) for code in BAYER_FORMATS}


class CountingContinuity(Continuity):
    """Remembers the driver's own numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.drivers: list[int] = []

    def next(self, driver_sequence: int, timestamp_ns: int) -> tuple[int, FrameStatus]:
        self.drivers.append(driver_sequence)
        return super().next(driver_sequence, timestamp_ns)


def lost_frames(percentage: int, frames: int) -> dict[str, Any]:
    """Frames that are missing in `sequence`, and in the driver's numbers."""
    counting = CountingContinuity()
    with patch.object(camera_module, "Continuity", lambda: counting), open_camera(fps=30) as camera:
        camera.controls.set({"percentage_of_dropped_buffers": percentage})
        read(camera).release()
        counting.drivers.clear()
        sequences, gaps = [], 0
        for number in range(frames):
            with read(camera) as frame:
                sequences.append(frame.sequence)
                gaps += "GAP" in (frame.status.name or str(frame.status)) if number else 0
        camera.controls.set({"percentage_of_dropped_buffers": 0})
    steps = [after - before for before, after in pairwise(sequences)]
    return {
        "frames": frames,
        "lost": sum(steps) - len(steps),
        "lost_by_driver": counting.drivers[-1] - counting.drivers[0] - (len(counting.drivers) - 1),
        "steps_over_one": sum(step > 1 for step in steps),
        "gap_flags": gaps,
    }


@check
def drops() -> dict[str, Any]:
    frames = 5000 if FULL else 200
    return {str(percentage): lost_frames(percentage, frames) for percentage in (0, 30, 60)}


@check
def sequence_overflow() -> dict[str, Any]:
    """The driver's 32-bit number overflows after 128 frames."""
    with open_camera() as camera:
        camera.controls.set({"wrap_sequence_number": 1})
    with open_camera() as camera:
        sequences = []
        for _ in range(200):
            with read(camera) as frame:
                sequences.append(frame.sequence)
        camera.controls.set({"wrap_sequence_number": 0})
    return {"first": sequences[0], "last": sequences[-1], "rising": sequences == sorted(set(sequences))}


@check
def errors() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with open_camera() as camera:
        read(camera).release()
        camera.controls.set({"inject_v4l2_buf_flag_error": 1})
        statuses = []
        for _ in range(10):
            with read(camera) as frame:
                statuses.append("CORRUPTED" in (frame.status.name or str(frame.status)))
        found["corrupted"] = statuses
        camera.controls.set({"inject_vidioc_reqbufs_error": 1})
    found["reqbufs"] = message(lambda: open_camera().close())
    with open_camera() as camera:
        camera.controls.set({"inject_vidioc_streamon_error": 1})
    found["streamon"] = message(lambda: open_camera().close())
    with open_camera() as camera:
        frame = read(camera)
        camera.controls.set({"inject_vidioc_qbuf_error": 1})
        frame.release()
        found["qbuf"] = message(lambda: camera.read(timeout_s=5))
    with open_camera() as camera:
        camera.controls.set({"inject_fatal_streaming_error": 1})

        def read_on() -> None:
            for _ in range(10):
                read(camera).release()

        found["fatal"] = message(read_on)
    with open_camera() as camera, read(camera) as frame:
        found["afterwards"] = frame.status.name or str(frame.status)
    return found


@check
def disconnect() -> dict[str, Any]:
    camera = open_camera()
    read(camera).release()
    held = read(camera)
    before = held.data.copy()
    camera.controls.set({"disconnect": 1})

    def read_on() -> None:
        for _ in range(10):
            read(camera).release()

    found: dict[str, Any] = {"read": message(read_on), "kind": CameraDisconnectedError.__name__}
    found["held_frame_is_whole"] = bool((held.data == before).all())
    held.release()
    camera.close()
    del held, camera
    begun_s = time.monotonic()
    while True:  # as a robot would: again and again, until it is back
        try:
            camera = open_camera()
            break
        except CameraError as error:
            found["meanwhile"] = f"{type(error).__name__}: {error}"
            assert time.monotonic() - begun_s < 30, found
            time.sleep(0.1)
    with camera:
        statuses = []
        for _ in range(5):
            with read(camera) as frame:
                statuses.append(frame.status.name or str(frame.status))
    found["afterwards"] = statuses
    return found


@check
def timeout() -> str:
    with open_camera(fps=1) as camera:
        read(camera).release()
        return message(lambda: camera.read(timeout_s=0.05))


@check
def adjusted() -> dict[str, str]:
    return {
        "size": message(lambda: open_camera(width=333)),
        "rate": message(lambda: open_camera(width=1280, height=720, fps=30)),
        "format": message(lambda: open_camera(pixel_format="pRAA")),
    }


@check
def controls() -> dict[str, Any]:
    with open_camera() as camera:
        camera.controls.set({"brightness": 7, "timestamp_source": "Start of Exposure"})
        return {
            "brightness": camera.controls.get("brightness"),
            "out_of_range": message(lambda: camera.controls.set({"brightness": 300})),
            "unknown": message(lambda: camera.controls.set({"brihgtness": 1}))[:80],
        }


@check
def dma_buf() -> dict[str, bool]:
    with open_camera() as camera, read(camera) as frame:
        descriptor = camera.export_dma_buf(frame)
        try:
            with mmap.mmap(descriptor, frame.format.frame_bytes, mmap.MAP_SHARED, mmap.PROT_READ) as mapping:
                return {"same_bytes": mapping[:] == frame.data.tobytes()}
        finally:
            os.close(descriptor)


@check
def media() -> dict[str, Any]:
    """The topology, and a set-up file that names the video device by its entity."""
    with MediaDevice("/dev/media0") as device:
        entities = {entity.name: entity.node for entity in device.entities}
        driver = device.driver
    video = next(name for name, node in entities.items() if node == "/dev/video0")
    path = Path("/tmp/setup.toml")
    path.write_text(f'media = "{driver}"\nvideo = "{video}"\n')
    with V4l2Camera(setup=path, black_level=0, pixel_format="RG10") as camera, read(camera) as frame:
        return {"driver": driver, "entities": entities, "source": frame.source}


@check
def conformance() -> str:
    check_camera(open_camera, timeout_s=60)
    return "passed"


@check
def leaks() -> dict[str, Any]:
    """File descriptors and memory over many frames."""

    def state() -> tuple[int, int]:
        status = Path("/proc/self/status").read_text()
        resident_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        return len(os.listdir("/proc/self/fd")), resident_kb

    def plateau(camera: V4l2Camera) -> tuple[int, int]:
        """The state after more frames, at its highest."""
        states = []
        for _ in range(10):
            for _ in range(40):
                read(camera).release()
            states.append(state())
        return max(descriptors for descriptors, _ in states), max(resident for _, resident in states)

    with open_camera() as camera:
        for _ in range(600):  # warms up what is loaded, cached and grown at first
            read(camera).release()
        (first, first_kb), (second, second_kb) = plateau(camera), plateau(camera)
    return {"descriptors": [first, second], "resident_kb": [first_kb, second_kb], "frames": 800}


def reload_vivid(multiplanar: int) -> None:
    subprocess.run(["modprobe", "-r", "vivid"], check=True)
    load_vivid(multiplanar)


def load_vivid(multiplanar: int = 1) -> None:
    options = ["n_devs=1", "node_types=0x1", "input_types=0", f"multiplanar={multiplanar}"]
    subprocess.run(["modprobe", "vivid", *options], check=True)
    # No text on the picture; stamps of the start of exposure, since those of the end are in the future.
    subprocess.run(["v4l2-ctl", "-d", "/dev/video0", "-c", "osd_text_mode=2,timestamp_source=1"], check=True)


@check
def multiplanar() -> dict[str, Any]:
    """The same driver with one plane in an array of planes."""
    reload_vivid(multiplanar=2)
    try:
        return {code: pixels(code) for code in ("RG10", "BA81", "BYR2")}
    finally:
        reload_vivid(multiplanar=1)


def driver_of(name: str) -> tuple[Path, str]:
    """A platform driver's folder in sysfs and the device that is bound to it."""
    folder = Path("/sys/bus/platform/drivers") / name
    return folder, next(path.name for path in folder.iterdir() if path.name.startswith(name + "."))


@check
def unbinding() -> dict[str, Any]:
    """The driver is taken from the device while frames come, as unplugging does."""
    folder, device = driver_of("vivid")
    camera = open_camera()
    read(camera).release()
    held = read(camera)
    before = held.data.copy()
    timer = threading.Timer(0.5, (folder / "unbind").write_text, (device,))
    timer.start()

    def read_on() -> None:
        while True:
            read(camera).release()

    begun_s = time.monotonic() + 0.5
    found: dict[str, Any] = {"read": message(read_on), "after_s": time.monotonic() - begun_s}
    found["held_frame_is_whole"] = bool((held.data == before).all())
    held.release()
    camera.close()
    del held, camera
    timer.join()
    found["opening"] = message(lambda: open_camera().close())
    (folder / "bind").write_text(device)
    while not Path("/dev/video0").exists():
        time.sleep(0.05)
    subprocess.run(["v4l2-ctl", "-d", "/dev/video0", "-c", "osd_text_mode=2,timestamp_source=1"], check=True)
    statuses = []
    with open_camera() as camera:
        for _ in range(5):
            with read(camera) as frame:
                statuses.append(frame.status.name or str(frame.status))
    found["afterwards"] = statuses
    return found


VIMC = """
media = "vimc"
video = "Raw Capture 0"
sensor = "Sensor A"
[[format]]
entity = "Sensor A"
pad = 0
code = "{code}"
width = 640
height = 480
# The sensor's other link is always on, so that this pad has to fit as well.
[[format]]
entity = "Debayer A"
pad = 0
"""


@check
def vimc() -> dict[str, Any]:
    """A sensor's sub-device and a video device that follows it (V4L2_CAP_IO_MC)."""
    insert("vimc")
    found: dict[str, Any] = {"formats": {}}
    path = Path("/tmp/vimc.toml")
    for code in ("SRGGB8_1X8", "SGRBG8_1X8"):
        path.write_text(VIMC.format(code=code))
        with V4l2Camera(setup=path, black_level=0) as camera, read(camera) as frame:
            found["formats"][code] = str(frame.format)
    (graph,) = [each for each in media_graphs() if each.driver == "vimc"]
    path.write_text(graph.setup or "")
    with V4l2Camera(setup=path, black_level=0) as camera, read(camera) as frame:
        found["proposed"] = f"{frame.format} {frame.status.name or frame.status}"
    subprocess.run(["rmmod", "vimc"], check=True)
    return found


@check
def loopback() -> dict[str, Any]:
    """Two buffers that a writer fills in turn, read or not."""
    insert("v4l2loopback", "video_nr=9", "max_buffers=4")
    layout = "width=640,height=480,pixelformat=RGGB"
    # In one command: the format goes with the last one who has the device open, unless it is kept.
    keep = ["v4l2-ctl", "-d", "/dev/video9", f"--set-fmt-video-out={layout}", "-c", "keep_format=1"]
    subprocess.run(keep, check=True)
    with open("/dev/video9", "wb", buffering=0) as writer:
        writer.write(bytes([1]) * (640 * 480))
        with V4l2Camera(9, black_level=0) as camera:
            values = []
            for value in range(2, 8):
                writer.write(bytes([value]) * (640 * 480))
                with read(camera) as frame:
                    values.append((value, sorted(set(frame.data.ravel().tolist()))))
            writer.write(bytes([200]) * (640 * 480))
            held = read(camera)
            before = held.data.copy()
            for value in range(100, 120):
                writer.write(bytes([value]) * (640 * 480))
            whole = bool((held.data == before).all())
            held.release()
            driver = CaptureDevice("/dev/video9")
            name = driver.driver
            driver.close()
    return {
        "driver": name,
        "frames_are_those_written": all(len(found) == 1 and found[0] <= value for value, found in values),
        "held_frame_is_whole": whole,
        "values": values,
    }


def insert(module: str, *options: str) -> None:
    """Loads a module that Debian's kernel lacks, see `Board`."""
    for needed in ("videodev", "videobuf2-v4l2", "videobuf2-vmalloc", "v4l2-tpg", "videobuf2-dma-contig"):
        subprocess.run(["modprobe", needed], check=False)
    subprocess.run(["insmod", f"/opt/modules/{module}.ko", *options], check=True)
    for _ in range(100):  # the device nodes come a moment later
        if any(Path(path).exists() for path in ("/dev/video9", "/dev/media1")):
            return
        time.sleep(0.05)


@check
def models() -> dict[str, Any]:
    from model_digest import MODELS, digests  # type: ignore[import-not-found]  # beside this file, on the board

    return {model: digests(model) for model in MODELS}


@check
def run() -> dict[str, Any]:
    spec = "v4l2:0,width=320,height=180,pixel_format=RG10,sensor=imx219,black_level=0"
    done = command("run", "--camera", spec, "--frames", "2", "--json")
    return {"status": done.returncode, "lines": done.stdout.splitlines(), "errors": done.stderr[-2000:]}


def main() -> None:
    sys.path.insert(0, str(SHARE))
    load_vivid()
    report: dict[str, Any] = {}
    for function in CHECKS:
        begun_s = time.monotonic()
        try:
            report[function.__name__] = function()
        except Exception:  # noqa: BLE001 (the report says it)
            report[function.__name__] = {"exception": traceback.format_exc()}
        print(f"{function.__name__}: {time.monotonic() - begun_s:.1f} s", flush=True)
        (SHARE / "report.json").write_text(json.dumps(report, indent=1))


main()
