"""Pictures in shared memory: the newest, whole, under load, after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edge_isp
from edge_isp.errors import SinkError
from edge_isp.sinks.shared import SharedMemorySink
from edge_isp.sinks.spec import open_sink
from edge_isp.testing import check_sink
from edge_isp.testing.sink import picture_result
from tests.sinks.streams import replace_picture

if not os.access("/dev/shm", os.W_OK):
    pytest.skip("needs /dev/shm", allow_module_level=True)


@pytest.fixture
def name() -> Iterator[str]:
    """A name of this test's own."""
    own = f"edge-isp-test-{os.getpid()}"
    yield own
    Path(f"/dev/shm/{own}.ppm").unlink(missing_ok=True)


def test_it_conforms(name: str) -> None:
    check_sink(lambda: open_sink(f"shm:{name}"), spec=f"shm:{name}")


def test_the_newest_picture_is_read(name: str) -> None:
    sink = open_sink(f"shm:{name}")
    with pytest.raises(SinkError, match=f"{name}.ppm: cannot be read: No such file"):
        edge_isp.read_shared(name)
    for number in (3, 7):
        sink.write(picture_result(number))
        found, expected = edge_isp.read_shared(name), picture_result(number).picture
        np.testing.assert_array_equal(found.rgb, expected.rgb)
        assert (found.sequence, found.timestamp_ns, found.source) == (number, expected.timestamp_ns, "check_sink.raw")
    with Image.open(f"/dev/shm/{name}.ppm") as image:  # what any other program reads
        np.testing.assert_array_equal(np.asarray(image), expected.rgb)
    found.rgb[:] = 0  # belongs to the reader
    assert edge_isp.read_shared(name).rgb.any()
    sink.close()
    assert not Path(f"/dev/shm/{name}.ppm").exists()


def test_no_picture_is_ever_torn(name: str) -> None:
    """Pictures of one colour each, of two sizes, while two readers read as fast as they can."""
    sink = open_sink(f"shm:{name}")
    base, done, read = picture_result(0), threading.Event(), [0, 0]
    torn: list[object] = []
    sink.write(replace_picture(base, np.zeros((480, 640, 3), np.uint8)))

    def look(reader: int) -> None:
        while not done.is_set():
            try:
                rgb = edge_isp.read_shared(name).rgb
            except SinkError as error:  # of a part of a file
                torn.append(error)
                return
            read[reader] += 1
            if rgb.min() != rgb.max():
                torn.append("two pictures in one")

    readers = [threading.Thread(target=look, args=(reader,)) for reader in range(2)]
    for reader in readers:
        reader.start()
    number = 0
    while not torn and (number < 150 or min(read) < 20):
        number += 1
        sink.write(replace_picture(base, np.full((480 - 240 * (number % 2), 640, 3), number % 256, np.uint8)))
    done.set()
    for reader in readers:
        reader.join()
    sink.close()
    assert torn == []


def test_a_name_has_one_writer(name: str) -> None:
    sink = open_sink(f"shm:{name}")
    sink.write(picture_result(1))
    with pytest.raises(SinkError, match=f"shm:{name}: another sink has this name"):
        open_sink(f"shm:{name}")
    assert edge_isp.read_shared(name).sequence == 1
    sink.close()
    open_sink(f"shm:{name}").close()


def test_after_a_kill_the_name_is_free_and_nothing_is_left(name: str) -> None:
    program = f"""
from edge_isp.sinks.spec import open_sink
from edge_isp.testing.sink import picture_result
sink = open_sink("shm:{name}")
number = 0
while True:
    sink.write(picture_result(number))
    if number == 0:
        print("writing", flush=True)
    number += 1
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert edge_isp.read_shared(name).rgb.shape == (48, 64, 3)  # the last one, whole
    sink = SharedMemorySink(name)
    with pytest.raises(SinkError, match="No such file"):  # an old picture is not shown as a new one
        edge_isp.read_shared(name)
    sink.close()


@pytest.mark.parametrize("wrong", ["", "a/b", "../x", ".hidden", "a b", "x" * 200, "ä", "a\n"])
def test_names_stay_in_their_folder(wrong: str) -> None:
    with pytest.raises(SinkError, match="the name must be of letters"):
        SharedMemorySink(wrong)
    with pytest.raises(SinkError, match="the name must be of letters"):
        edge_isp.read_shared(wrong)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"P6\n64 48\n255\n",
        b"P6\n# sequence=1 timestamp_ns=2 source=x\n4 4\n255\n123",
        b"P6\n# sequence=1 timestamp_ns=2 source=x\n999999 999999\n255\n123",
    ],
)
def test_foreign_files_are_refused(content: bytes, name: str) -> None:
    Path(f"/dev/shm/{name}.ppm").write_bytes(content)
    with pytest.raises(SinkError, match=f"{name}.ppm: "):
        edge_isp.read_shared(name)


def test_any_source_is_one_line(name: str) -> None:
    sink = open_sink(f"shm:{name}")
    made = picture_result(0)
    sink.write(replace(made, result=replace(made.picture, source="a\nP6\n1 1\r\n\udcff")))
    assert edge_isp.read_shared(name).rgb.shape == (48, 64, 3)
    sink.close()


def test_the_longest_name_can_be_used_and_a_longer_one_is_refused() -> None:
    longest = f"edge-isp-test-{os.getpid()}-".ljust(94, "x")
    sink = open_sink(f"shm:{longest}")
    sink.write(picture_result(1))
    assert edge_isp.read_shared(longest).sequence == 1
    sink.close()
    for open_it in (SharedMemorySink, edge_isp.read_shared):
        with pytest.raises(SinkError, match="at most 94, found"):
            open_it(f"{longest}x")
