"""Stand-ins for the Python packages of vendors' runtimes, which nobody here has the hardware for.

They know only what the packages' documentation says, and compute with LiteRT what a compiled model would. Tests put
them on the path of an engine's process as the packages; `STAND_IN_FAILS` in the environment is the path of a file that
names what fails.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from edge_isp.engines.litert import LiteRtEngine

MODEL = Path(os.environ.get("STAND_IN_MODEL", ""))


def fails(stage: str) -> bool:
    """Whether a stage is to fail; where the file says "raise", with an exception that no documentation names."""
    said = Path(os.environ["STAND_IN_FAILS"]).read_text().split()
    if stage in said and "raise" in said:
        raise Exception(f"no NPU to {stage} on")
    return stage in said


def in_codes(values: list[Any]) -> list[Any]:
    """The model's outputs as Rockchip's runtime gives them: int8, channels before rows and columns."""
    (x,) = values
    assert x.dtype == np.int8
    with LiteRtEngine(MODEL, threads=1, shape=x.shape) as engine:
        return [np.ascontiguousarray(engine.run([x])[0].transpose(0, 3, 1, 2))]


def in_float(values: list[Any]) -> list[Any]:
    """The model's outputs as a vendor's runtime gives them, from inputs as it takes them."""
    (x,) = values
    assert x.dtype == np.uint8
    x = x.reshape(1, *x.shape[-3:])
    with LiteRtEngine(MODEL, threads=1, shape=x.shape) as engine:
        (out,) = engine.run([(x.astype(np.int16) - 128).astype(np.int8)])
        return [((out.astype(np.float32) - engine.outputs[0].zero_point) * engine.outputs[0].scale)]


class StandInRknnLite:
    """rknnlite.api.RKNNLite, as documented: failures are numbers and None."""

    def __init__(self) -> None:
        fails("create")

    def load_rknn(self, path: str) -> int:
        return -1 if fails("load") else 0

    def init_runtime(self, core_mask: int = 0) -> int:
        return -1 if fails("init") else 0

    def inference(self, inputs: list[Any], data_type: str, data_format: str) -> list[Any] | None:
        assert (data_type, data_format) == ("int8", "nhwc")
        return None if fails("run") else in_codes(inputs)

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
        if fails("create"):
            raise StandInHailoError("HAILO_OUT_OF_PHYSICAL_DEVICES")

    @staticmethod
    def create_params() -> Any:
        return type("Params", (), {})()

    def create_infer_model(self, path: str) -> Any:
        if fails("load"):
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
        if fails("run"):
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


class HailoSchedulingAlgorithm:
    """hailo_platform.HailoSchedulingAlgorithm."""

    ROUND_ROBIN = 1


class FormatType:
    """hailo_platform.FormatType."""

    UINT8, FLOAT32 = 1, 2
