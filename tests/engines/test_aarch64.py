"""The tests' NPU and Mesa's Teflon on aarch64, under qemu-user; see make_aarch64.sh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.npu_tools import SMALL

HERE = Path(__file__).parent
FRAMES = 4

# Runs a stream of frames, each another, and the same on the CPU; prints what became of it.
PROGRAM = """
import json, sys
import numpy as np
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.errors import EdgeIspError
model, delegate, python, limit_s, frames = json.loads(sys.argv[1])
def stream(name, limit_s=None):
    made = []
    with FallbackEngine(model, threads=1, delegation=Delegation(name, time_limit_s=limit_s, python=python)) as fallback:
        fallback.resize((1, 12, 12, 8))
        for seed in range(frames):
            x = np.random.default_rng(seed).integers(-128, 128, (1, 12, 12, 8)).astype(np.int8)
            made.append((fallback.run([x])[0].astype(int), fallback.report.delegate))
        return made, fallback.report
try:
    (made, report), (by_cpu, _) = stream(delegate, limit_s), stream("none")
except EdgeIspError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({
        "spread": max(int(abs(a - b).max()) for (a, _), (b, _) in zip(made, by_cpu)),
        "makers": [maker for _, maker in made],
        "frames": dict(report.frames),
        "taken": {partition.executor: dict(partition.operators) for partition in report.partitions},
        "events": [(event.kind, event.delegate, event.reason) for event in report.events],
    }))
"""


@pytest.fixture(scope="module")
def python() -> str:
    """A Python for aarch64."""
    folder = os.environ.get("EDGE_ISP_AARCH64")
    if not folder:
        pytest.skip("EDGE_ISP_AARCH64 is not set: it names the folder that tests/engines/make_aarch64.sh makes")
    return str(Path(folder) / "python")


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tests' NPU for aarch64."""
    gcc = shutil.which("aarch64-linux-gnu-gcc")
    if not gcc:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
    library = tmp_path_factory.mktemp("npu") / "libnpu.so"
    subprocess.run([gcc, "-O2", "-shared", "-fPIC", HERE / "npu.c", "-lm", "-o", library], check=True)
    return str(library)


def streamed(python: str, delegate: str, limit_s: float | None = None) -> dict[str, Any]:
    request = json.dumps([str(SMALL.path), delegate, python, limit_s, FRAMES])
    done = subprocess.run([python, "-c", PROGRAM, request], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_part_or_all_of_the_graph(python: str, npu: str) -> None:
    whole = streamed(python, npu)
    assert whole["taken"] == {"npu": {"CONV_2D": 14, "CONCATENATION": 2}}
    assert whole["spread"] <= 1
    part = streamed(python, f"{npu},operators=concat")
    assert part["taken"] == {"npu": {"CONCATENATION": 2}, "XNNPACK": {"CONV_2D": 14}}
    assert part["spread"] <= 1
    assert part["makers"] == ["npu"] * FRAMES


@pytest.mark.parametrize(
    ("failure", "limit_s", "reason"),
    [
        ("fail=invoke", None, "device lost"),
        ("fail=invoke,how=wrong", None, "disagrees with the CPU"),
        ("fail=invoke,how=crash", 30.0, "ended with signal SIGABRT"),
        ("fail=invoke,how=hang", 5.0, "did not answer within 5.0 s; its process was ended"),
    ],
)
def test_a_delegate_that_is_lost(failure: str, limit_s: float | None, reason: str, python: str, npu: str) -> None:
    # All of the graph is one subset; two inferences choose it, and one frame follows.
    told = streamed(python, f"{npu},{failure},after={2 if 'wrong' in failure else 3}", limit_s)
    made = 1 if "wrong" in failure else 2
    assert told["makers"] == ["npu"] * made + ["XNNPACK"] * (FRAMES - made)
    assert told["frames"] == {"npu": made, "XNNPACK": FRAMES - made}
    assert told["spread"] <= 1
    assert [kind for kind, delegate, _ in told["events"] if delegate == "npu"] == ["chosen", "dropped"]
    assert reason in told["events"][-1][2]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [("fail=create", "device /dev/npu0 not found"), ("fail=prepare", "out of device memory")],
)
def test_a_delegate_that_never_works(failure: str, reason: str, python: str, npu: str) -> None:
    assert reason in streamed(python, f"{npu},{failure}")["error"]


def test_teflon_without_its_device(python: str) -> None:
    told = streamed(python, "auto")
    assert told["makers"] == ["XNNPACK"] * FRAMES
    (reason,) = [reason for kind, name, reason in told["events"] if name == "teflon" and kind == "absent"]
    assert reason.startswith("there is no /dev/accel/accel* or /dev/dri/renderD*")
    # Mesa itself says so where it is loaded all the same.
    loaded = streamed(python, "/usr/lib/teflon/libteflon.so")["error"]
    assert "delegate 'teflon' cannot be used: delegate 'teflon' cannot be created" in loaded
    program = "import json; from edge_isp.doctor import examine; print(json.dumps(examine()))"
    page = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout
    found = json.loads(page)
    assert found["system"]["machine"] == "aarch64"
    (teflon,) = [delegate for delegate in found["delegates"] if delegate["name"] == "teflon"]
    assert not teflon["found"]
    assert teflon["library"] == "/usr/lib/teflon/libteflon.so"
    assert teflon["why"] == reason


def test_a_library_of_another_architecture(python: str, tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if not gcc:
        pytest.skip("gcc is not installed")
    library = tmp_path / "libnpu.so"
    subprocess.run([gcc, "-O2", "-shared", "-fPIC", HERE / "npu.c", "-lm", "-o", library], check=True)
    message = streamed(python, str(library))["error"]
    assert "libnpu.so: is for " in message
    assert message.endswith("this Python is for aarch64 (64 bit)")
