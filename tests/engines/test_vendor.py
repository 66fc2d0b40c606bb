"""Engines of vendors' own runtimes, over stand-ins for their Python packages: nobody here has the hardware.

The stand-ins know only what the packages' documentation says, and compute with LiteRT what a compiled model would.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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

STAND_IN_FAILS: dict[str, bool] = {}


def in_codes(values: list[Any]) -> list[Any]:
    """The model's outputs as Rockchip's runtime gives them: int8, channels before rows and columns."""
    (x,) = values
    assert x.dtype == np.int8
    with LiteRtEngine(SMALL.path, threads=1, shape=x.shape) as engine:
        return [np.ascontiguousarray(engine.run([x])[0].transpose(0, 3, 1, 2))]


def in_float(values: list[Any]) -> list[Any]:
    """The model's outputs as a vendor's runtime gives them, from inputs as it takes them."""
    (x,) = values
    assert x.dtype == np.uint8
    x = x.reshape(1, *x.shape[-3:])
    with LiteRtEngine(SMALL.path, threads=1, shape=x.shape) as engine:
        (out,) = engine.run([(x.astype(np.int16) - 128).astype(np.int8)])
        return [((out.astype(np.float32) - engine.outputs[0].zero_point) * engine.outputs[0].scale)]


class StandInRknnLite:
    """rknnlite.api.RKNNLite, as documented: failures are numbers and None."""

    def load_rknn(self, path: str) -> int:
        return -1 if STAND_IN_FAILS.get("load") else 0

    def init_runtime(self, core_mask: int = 0) -> int:
        return -1 if STAND_IN_FAILS.get("init") else 0

    def inference(self, inputs: list[Any], data_type: str, data_format: str) -> list[Any] | None:
        assert (data_type, data_format) == ("int8", "nhwc")
        return None if STAND_IN_FAILS.get("run") else in_codes(inputs)

    def release(self) -> None:
        pass


class StandInHailoError(Exception):
    pass


class StandInHailo:
    """hailo_platform's VDevice, InferModel, ConfiguredInferModel and Bindings in one."""

    input_names = ("model/input",)
    output_names = ("model/output",)
    shape = (12, 12, 8)

    def __init__(self, settings: Any = None) -> None:
        self.buffers: dict[str, Any] = {}

    @staticmethod
    def create_params() -> Any:
        return type("Params", (), {})()

    def create_infer_model(self, path: str) -> Any:
        if STAND_IN_FAILS.get("load"):
            raise StandInHailoError("HAILO_OUT_OF_PHYSICAL_DEVICES")
        return self

    def configure(self) -> Any:
        return self

    def create_bindings(self) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def input(self, name: str) -> Any:
        return _Port(self, name)

    output = input

    def run(self, bindings: list[Any], limit_ms: int) -> None:
        if STAND_IN_FAILS.get("run"):
            raise StandInHailoError("HAILO_TIMEOUT")
        self.buffers["model/output"][...] = in_float([self.buffers["model/input"]])[0][0]


class _Port:
    shape = StandInHailo.shape

    def __init__(self, hailo: StandInHailo, name: str) -> None:
        self.hailo, self.name = hailo, name

    def set_format_type(self, kind: str) -> None:
        pass

    def set_buffer(self, array: Any) -> None:
        self.hailo.buffers[self.name] = array


@pytest.fixture(params=["rknn", "hailo"])
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Opens a fallback that must use the vendor's NPU, over the stand-in of its package."""
    name = request.param
    STAND_IN_FAILS.clear()
    rknn, api = ModuleType("rknnlite"), ModuleType("rknnlite.api")
    api.RKNNLite = StandInRknnLite  # type: ignore[attr-defined]
    hailo, inner = ModuleType("hailo_platform"), ModuleType("hailo_platform.pyhailort.pyhailort")
    inner.HailoRTException = StandInHailoError  # type: ignore[attr-defined]
    for key, value in {
        "VDevice": StandInHailo,
        "HailoSchedulingAlgorithm": type("Algorithm", (), {"ROUND_ROBIN": 1}),
        "FormatType": type("FormatType", (), {"UINT8": 1, "FLOAT32": 2}),
    }.items():
        setattr(hailo, key, value)
    for module in (rknn, api, hailo, ModuleType("hailo_platform.pyhailort"), inner):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("importlib.metadata.version", lambda package: "0 (stand-in)")
    spec = delegates.DelegateSpec(name, f"a stand-in for {name}", name, {"*": "compiled"}, package="json")
    monkeypatch.setattr(delegates, "DELEGATES", (spec,))
    compiled = tmp_path / "compiled.bin"
    compiled.touch()

    def open_fallback(delegate: str = name, size: int = 12) -> FallbackEngine:
        fallback = FallbackEngine(
            SMALL.path, threads=1, delegation=Delegation(delegate), variant=lambda npu, shape: compiled
        )
        fallback.resize((1, size, size, 8))
        return fallback

    yield open_fallback
    sys.modules.pop(f"edge_isp.engines.{name}", None)


def test_values_become_the_cards_codes(vendor: Any) -> None:
    with vendor() as fallback, LiteRtEngine(SMALL.path, threads=1, shape=(1, 12, 12, 8)) as here:
        for seed in range(3):
            np.testing.assert_array_equal(
                fallback.run([codes(12, 12, seed=seed)])[0], here.run([codes(12, 12, seed=seed)])[0]
            )
        assert fallback.report.delegate in ("rknn", "hailo")
        assert fallback.report.partitions == ()  # these runtimes do not tell


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


@pytest.mark.parametrize("stage", ["load", "init", "run"])
def test_failures_are_engine_errors(vendor: Any, stage: str) -> None:
    STAND_IN_FAILS[stage] = True
    with vendor() as fallback:
        if stage == "init" and delegates.DELEGATES[0].name == "hailo":
            return  # it has no such stage
        with pytest.raises(
            EngineError, match="cannot be used: .*compiled.bin: (rknn-toolkit-lite2|HailoRT) (cannot|failed)"
        ):
            fallback.run([codes(12, 12)])
    with vendor("auto") as fallback:
        fallback.run([codes(12, 12)])
        assert fallback.report.delegate == "XNNPACK"


def test_a_device_that_is_lost(vendor: Any) -> None:
    with vendor() as fallback:
        expected = fallback.run([codes(12, 12)])
        STAND_IN_FAILS["run"] = True
        np.testing.assert_array_equal(fallback.run([codes(12, 12)])[0], expected[0])
        assert fallback.report.delegate == "XNNPACK"
        assert fallback.report.events[-1].kind == "dropped"


@pytest.mark.parametrize(("name", "package"), [("rknn", "rknnlite"), ("hailo", "hailo_platform")])
def test_without_the_vendors_package(name: str, package: str) -> None:
    with pytest.raises(MissingDependencyError, match=f"'{name}' needs the package '{package}', .* hardware's vendor"):
        plugins.load("engines", name)
