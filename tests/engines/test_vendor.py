"""Engines of vendors' own runtimes, over stand-ins for their Python packages: nobody here has the hardware.

The stand-ins know only what the packages' documentation says, and compute with LiteRT what a compiled model would.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_isp import plugins
from edge_isp.engines import delegates
from edge_isp.engines.base import TensorInfo
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.vendor import _with_channels_last
from edge_isp.errors import EngineError, MissingDependencyError
from tests.engines.npu_tools import SMALL, codes

# The vendors' packages, by the path of their files.
PACKAGES = {
    "rknnlite/__init__.py": "",
    "rknnlite/api.py": "from vendor_packages import StandInRknnLite as RKNNLite",
    "rknn_toolkit_lite2-0.dist-info/METADATA": "Metadata-Version: 2.1\nName: rknn-toolkit-lite2\nVersion: 0\n",
    "hailo_platform/__init__.py": "from vendor_packages import FormatType, HailoSchedulingAlgorithm\n"
    "from vendor_packages import StandInHailo as VDevice",
    "hailo_platform/pyhailort/__init__.py": "",
    "hailo_platform/pyhailort/pyhailort.py": "from vendor_packages import StandInHailoError as HailoRTException",
}


class Vendor:
    """Opens a fallback that must use a vendor's NPU, over the stand-in of its package.

    Args:
        name: of the vendor's engine.
        compiled: the path of the model's variant.
        fails: the path of a file that names what fails.
    """

    def __init__(self, name: str, compiled: Path, fails: Path) -> None:
        self.name, self._compiled, self._fails = name, compiled, fails

    def fail(self, *stages: str) -> None:
        """Makes stages fail from now on; with "raise" among them, with an exception that nobody expects."""
        self._fails.write_text(" ".join(stages))

    def open(self, delegate: str = "", size: int = 12) -> FallbackEngine:
        fallback = FallbackEngine(
            SMALL.path,
            threads=1,
            delegation=Delegation(delegate or self.name),
            variant=lambda npu, shape: self._compiled,
            live=False,
        )
        fallback.resize((1, size, size, 8))
        return fallback


@pytest.fixture(params=["rknn", "hailo"])
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Vendor:
    """The stand-ins of the vendors' packages are on the path of engines' processes."""
    for name, content in PACKAGES.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    shutil.copy(Path(__file__).with_name("vendor_packages.py"), tmp_path / "packages")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'packages'}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("STAND_IN_MODEL", str(SMALL.path))
    monkeypatch.setenv("STAND_IN_FAILS", str(tmp_path / "fails"))
    name = request.param
    spec = delegates.DelegateSpec(name, f"a stand-in for {name}", name, {"*": "compiled"}, package="json")
    monkeypatch.setattr(delegates, "DELEGATES", (spec,))
    compiled = tmp_path / "compiled.bin"
    compiled.touch()
    made = Vendor(name, compiled, tmp_path / "fails")
    made.fail()
    return made


def test_values_become_the_cards_codes(vendor: Vendor) -> None:
    with vendor.open() as fallback, LiteRtEngine(SMALL.path, threads=1, shape=(1, 12, 12, 8)) as here:
        for seed in range(3):
            np.testing.assert_array_equal(
                fallback.run([codes(12, 12, seed=seed)])[0], here.run([codes(12, 12, seed=seed)])[0]
            )
        assert fallback.report.delegate in ("rknn", "hailo")
        # Rockchip's runtime does not tell; Hailo's runs all of a file on the chip.
        assert [p.operators for p in fallback.report.partitions] == ([(("HEF", 1),)] if vendor_is_hailo() else [])


def vendor_is_hailo() -> bool:
    return delegates.DELEGATES[0].name == "hailo"


def tensor(*shape: int) -> TensorInfo:
    return TensorInfo("x", shape, "int8", 0.5, 3)


@pytest.mark.parametrize(
    ("others", "channels_first", "moved"),
    [((), True, True), ((), False, False), (((1, 2, 3, 4),), True, False), (((1, 4, 2, 3),), False, True)],
)
def test_an_output_whose_shape_does_not_tell_is_arranged_like_the_others(
    others: tuple[tuple[int, ...], ...], channels_first: bool, moved: bool
) -> None:
    """80 classes in 80x80 cells, as a detector of 640x640 pixels has them."""
    cube = np.arange(125, dtype=np.int8).reshape(1, 5, 5, 5)
    values = [cube, *(np.zeros(shape, np.int8) for shape in others)]
    tensors = [tensor(1, 5, 5, 5), *(tensor(1, 2, 3, 4) for _ in others)]
    found = _with_channels_last(values, tensors, channels_first)
    np.testing.assert_array_equal(found[0], cube.transpose(0, 2, 3, 1) if moved else cube)
    assert [array.shape for array in found] == [info.shape for info in tensors]


@pytest.mark.parametrize("how", ["as documented", "raise"])
@pytest.mark.parametrize("stage", ["create", "load", "init", "run"])
def test_failures_refuse_the_delegate(vendor: Vendor, stage: str, how: str) -> None:
    if (stage, vendor.name) == ("init", "hailo") or (stage, vendor.name, how) == ("create", "rknn", "as documented"):
        pytest.skip("it has no such stage")
    vendor.fail(stage, how.split()[0])
    with (
        vendor.open() as fallback,
        pytest.raises(
            EngineError, match="cannot be used: .*compiled.bin: (rknn-toolkit-lite2|HailoRT|hailort).*(cannot|failed)"
        ),
    ):
        fallback.run([codes(12, 12)])
    with vendor.open("auto") as fallback:
        for seed in range(5):
            fallback.run([codes(12, 12, seed=seed)])
        assert fallback.settle(60)
        fallback.run([codes(12, 12)])
        assert fallback.report.delegate == "XNNPACK"
        assert [event.kind for event in fallback.report.events] == ["refused"]


@pytest.mark.parametrize("how", ["as documented", "raise"])
def test_a_device_that_is_lost(vendor: Vendor, how: str) -> None:
    with vendor.open() as fallback:
        expected = fallback.run([codes(12, 12)])
        vendor.fail("run", how.split()[0])
        np.testing.assert_array_equal(fallback.run([codes(12, 12)])[0], expected[0])
        assert fallback.report.delegate == "XNNPACK"
        assert fallback.report.events[-1].kind == "dropped"


@pytest.mark.parametrize(("name", "package"), [("rknn", "rknnlite"), ("hailo", "hailo_platform")])
def test_without_the_vendors_package(name: str, package: str) -> None:
    with pytest.raises(MissingDependencyError, match=f"'{name}' needs the package '{package}', .* hardware's vendor"):
        plugins.load("engines", name)
