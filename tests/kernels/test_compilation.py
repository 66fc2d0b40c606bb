"""The suite without compilation, and the cache that `edge-isp warmup` fills."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.sampling import COMPILED

FOLDER = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="this is that run")
def test_the_suite_passes_without_compilation() -> None:
    modules = [FOLDER / f"test_{name}.py" for name in ("layouts", "encode", "shaded", "defects", "pictures", "detect")]
    done = subprocess.run(
        # The buffers' tests compile in any case.
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *modules],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        cwd=FOLDER.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_after_a_warm_up_nothing_is_compiled(tmp_path: Path) -> None:
    # Only what a pipeline needs: compiling everything takes the better part of a minute.
    program = """
import logging
from edge_isp.kernels import progress, warmup
logging.basicConfig(level="INFO", format="log %(message)s")
warmup.compile_pipeline_kernels()
print("counts", *warmup.counts())
progress.set_listener(lambda compilation: print("progress", compilation.done, compilation.total, compilation.kernel))
warmup.compile_pipeline_kernels("detector")
print("counts", *warmup.counts())
"""
    runs = []
    for _ in range(2):
        runs.append(
            subprocess.run(
                [sys.executable, "-c", program],
                env=os.environ | {"EDGE_ISP_CACHE": str(tmp_path)},
                capture_output=True,
                text=True,
                check=True,
            )
        )
    first, second = runs
    isp, *detector, both = first.stdout.splitlines()
    assert re.fullmatch(r"counts [1-9]\d* 0", isp)
    assert re.fullmatch(r"counts [1-9]\d* 0", both)
    # What metering needs is there from the other task.
    assert detector == ["progress 2 4 encode_resampled to int8", "progress 3 4 detect", "progress 4 4 "]
    begun, ended = first.stderr.splitlines()
    assert re.match(r"log compiling \d+ kernels", begun)
    assert re.fullmatch(r"log compiled the kernels in [\d.]+ s", ended)

    isp, both = second.stdout.splitlines()  # no progress
    assert re.fullmatch(r"counts 0 [1-9]\d*", isp)
    assert re.fullmatch(r"counts 0 [1-9]\d*", both)
    assert second.stderr == ""


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_recording_and_its_previews_compile_nothing_of_their_own(tmp_path: Path) -> None:
    """Nor do pictures of the live view without a network: all is there before the first frame."""
    pytest.importorskip("mcap", reason="needs the extra [recording]")
    program = """
import sys
from edge_isp.cameras.spec import demo_recording, open_camera
from edge_isp.kernels import warmup
from edge_isp.sinks.preview import Previewer
from edge_isp.tasks.classical import ClassicalIsp
warmup.compile_recording_kernels()
before = sum(warmup.counts())
assert before > 0
made = []
from edge_isp.sinks.mcap import McapSink
sink, previewer = McapSink(sys.argv[1]), Previewer(1000, None, lambda *preview: made.append(preview))
with open_camera(demo_recording()) as camera:
    frame = camera.read()
    sink.frame_arrived(frame)
    previewer.offer(frame, "camera")
    previewer.close()
sink.close()
assert len(made) == 1
print(sum(warmup.counts()) - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "x.mcap")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
