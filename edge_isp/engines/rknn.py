"""Rockchip's NPU, by rknn-toolkit-lite2. Written by its documentation; not yet run on a board.

`edge-isp compile` has the compiler keep the model's integers: int8 goes in and comes out. The compiled model is NCHW,
so that its outputs are; the runtime takes inputs NHWC all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rknnlite.api import RKNNLite

from edge_isp.engines.vendor import VendorEngine
from edge_isp.errors import EngineError


class RknnEngine(VendorEngine):
    """A `.rknn` model in the runtime of Rockchip; it has one size of frames.

    Args:
        path: path of the compiled model.
        threads: not used: the runtime decides.
        delegate: says also what the model's tensors are, since the runtime does not know scales.
        shape: shape of the first input.

    Raises:
        EngineError: the model cannot be loaded, or there is no device.
    """

    name = f"rknn-toolkit-lite2 {version('rknn-toolkit-lite2')}"

    _channels_first = True

    _runtime: Any = None

    def _unload(self) -> None:
        if self._runtime is not None:
            self._runtime.release()
        self._runtime = None

    def _load(self) -> None:
        self._runtime = RKNNLite()
        # Both report on standard error what went wrong, and return a number.
        if self._runtime.load_rknn(str(self.path)) != 0:
            raise EngineError(f"{self.path}: rknn-toolkit-lite2 cannot load this model")
        cores = self._delegate.options.get("core_mask", "0")
        if not cores.isdigit() or self._runtime.init_runtime(core_mask=int(cores)) != 0:
            raise EngineError(
                f"{self.path}: rknn-toolkit-lite2 cannot start on cores {cores}: the NPU's driver is missing, or the "
                "model is for another SoC"
            )

    def _infer(self, inputs: list[NDArray[np.int8]]) -> Sequence[NDArray[Any]]:
        outputs: Sequence[NDArray[Any]] | None = self._runtime.inference(
            inputs=inputs, data_type="int8", data_format="nhwc"
        )
        if outputs is None:
            raise EngineError(f"{self.path}: rknn-toolkit-lite2 failed to run this model")
        return outputs
