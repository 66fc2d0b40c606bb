"""Hailo's NPUs, by HailoRT's Python package. Written by its documentation; not yet run on a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hailo_platform
import numpy as np
from hailo_platform.pyhailort.pyhailort import HailoRTException
from numpy.typing import NDArray

from edge_isp.engines.base import Partition
from edge_isp.engines.vendor import VendorEngine, unsigned
from edge_isp.errors import EngineError

_LIMIT_MS = 60_000
# Devices of one group are one chip, which HailoRT's scheduler shares between the networks; by default a device is the
# chip's only one, and a second network finds it in use.
_GROUP = "SHARED"


class HailoEngine(VendorEngine):
    """A `.hef` model in the runtime of Hailo; it has one size of frames.

    Networks share a chip: those of one process in any case, those of several by HailoRT's service, where it runs.

    Args:
        path: path of the compiled model.
        threads: not used: the runtime decides.
        delegate: says also what the model's tensors are, since the runtime does not know scales.
        shape: shape of the first input.

    Raises:
        EngineError: the model cannot be loaded, or there is no device.
    """

    name = f"hailort {getattr(hailo_platform, '__version__', '')}".strip()

    _device: Any = None
    _configured: Any = None

    def _unload(self) -> None:
        for held in (self._configured, self._device):  # in this order
            if held is not None:
                held.__exit__(None, None, None)
        self._configured = self._device = None

    def _load(self) -> None:
        try:
            self._device = _open_device(self.path)
            model = self._device.create_infer_model(str(self.path))
            self._input_names, self._output_names = list(model.input_names), list(model.output_names)
            for name in self._input_names:
                model.input(name).set_format_type(hailo_platform.FormatType.UINT8)
            for name in self._output_names:
                model.output(name).set_format_type(hailo_platform.FormatType.FLOAT32)
            shapes = [(1, *model.input(name).shape) for name in self._input_names]
            if shapes != [tensor.shape for tensor in self.inputs]:
                raise EngineError(
                    f"{self.path}: is for input {shapes}, and these frames need {[t.shape for t in self.inputs]}"
                )
            self._configured = model.configure().__enter__()
            self._bindings = self._configured.create_bindings()
            # All of a .hef runs on the chip: Hailo's compiler refuses a model of which it cannot place a part.
            self.report = replace(self.report, partitions=(Partition(self._delegate.name, (("HEF", 1),)),))
        except HailoRTException as error:
            raise EngineError(f"{self.path}: HailoRT cannot load this model: {error}") from error

    def _infer(self, inputs: list[NDArray[np.int8]]) -> Sequence[NDArray[Any]]:
        outputs = [np.empty(tensor.shape[1:], np.float32) for tensor in self.outputs]
        try:
            for name, array in zip(self._input_names, inputs, strict=True):
                self._bindings.input(name).set_buffer(np.ascontiguousarray(unsigned(array)[0]))
            for name, output in zip(self._output_names, outputs, strict=True):
                self._bindings.output(name).set_buffer(output)
            self._configured.run([self._bindings], _LIMIT_MS)
        except HailoRTException as error:
            raise EngineError(f"{self.path}: HailoRT failed to run this model: {error}") from error
        return outputs


def _open_device(model: Path) -> Any:
    """The chip, by HailoRT's service, which shares it between processes, or without it, for this process alone."""
    settings = hailo_platform.VDevice.create_params()
    settings.scheduling_algorithm = hailo_platform.HailoSchedulingAlgorithm.ROUND_ROBIN
    settings.group_id = _GROUP
    settings.multi_process_service = True
    try:
        return hailo_platform.VDevice(settings).__enter__()
    except HailoRTException:  # the service does not run
        settings.multi_process_service = False
    try:
        return hailo_platform.VDevice(settings).__enter__()
    except HailoRTException as error:
        raise EngineError(
            f"{model}: HailoRT cannot open the chip: {error}; where another process uses it, HailoRT's service shares "
            "it: sudo systemctl enable --now hailort"
        ) from error
