"""What the engines of vendors' own runtimes have in common: they know a model's tensors by its card only.

Where a compiler has kept the integers of the model, outputs are the card's codes. One that quantises anew gives values,
which are quantised as the card says. Runtimes may give channels before rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import ClosingEngine, EngineReport, TensorInfo, check_inputs, read_model
from edge_isp.engines.delegates import Delegate
from edge_isp.errors import EngineError


class VendorEngine(ClosingEngine):
    """A compiled model in the runtime of its vendor; it has one size of frames.

    Args:
        path: path of the compiled model.
        threads: not used: the runtime decides.
        delegate: says also what the model's tensors are, since the runtime does not know scales.
        shape: shape of the first input.
        sha256: of the file, hexadecimal; None verifies nothing. The vendor's runtime then reads the file again.

    Raises:
        EngineError: the model cannot be loaded, or there is no device.
    """

    name = ""
    # Whether outputs have channels before rows and columns where their shapes do not tell.
    _channels_first = False

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        delegate: Delegate | None = None,
        shape: tuple[int, ...] | None = None,
        sha256: str | None = None,
    ) -> None:
        self.path = Path(path)
        if delegate is None:
            raise EngineError(
                f"{self.path}: a compiled model is run with --delegate and the card of the model it is of"
            )
        self.inputs, self.outputs = delegate.inputs, delegate.outputs
        for tensor in self.inputs:
            if (tensor.dtype, tensor.zero_point) != ("int8", -128):
                raise EngineError(
                    f"{self.path}: a compiled model takes int8 with zero point -128, and the model's input is "
                    f"{tensor.dtype} with {tensor.zero_point}"
                )
        self.report = EngineReport(self.name, delegate.name, threads or 1)
        self._delegate, self._closed = delegate, False
        if sha256 is not None:
            read_model(self.path, sha256)
        try:
            self._load()
        except EngineError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise self._translated("load", error) from error

    def resize(self, shape: tuple[int, ...]) -> None:
        """See `Engine.resize`."""
        if shape != self.inputs[0].shape:
            raise EngineError(f"{self.path}: is compiled for inputs of {self.inputs[0].shape}, asked for {shape}")

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        if self._closed:
            raise EngineError(f"{self.path}: the engine is closed")
        check_inputs(self.path, inputs, self.inputs)
        try:
            values = self._infer(inputs)
        except EngineError:
            raise
        except Exception as error:
            raise self._translated("run", error) from error
        if len(values) != len(self.outputs):
            raise EngineError(f"{self.path}: expected {len(self.outputs)} outputs, found {len(values)}")
        arranged = _with_channels_last(values, self.outputs, self._channels_first)
        return [_quantised(self.path, value, info) for value, info in zip(arranged, self.outputs, strict=True)]

    def close(self) -> None:
        """See `Engine.close`; EngineError where the vendor's package fails."""
        self._closed = True
        try:
            self._unload()
        except Exception as error:
            raise self._translated("unload", error) from error

    def _translated(self, doing: str, error: Exception) -> EngineError:
        """What a vendor's package raises, which may be anything."""
        return EngineError(f"{self.path}: {self.name} cannot {doing} this model: {type(error).__name__}: {error}")

    def _load(self) -> None:
        raise NotImplementedError

    def _unload(self) -> None:
        raise NotImplementedError

    def _infer(self, inputs: list[NDArray[np.int8]]) -> Sequence[NDArray[Any]]:
        raise NotImplementedError


def unsigned(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes as uint8, 128 higher, which a compiler that quantises anew was set to divide by 255.

    Args:
        codes: of an input, int8.
    """
    return np.bitwise_xor(codes.view(np.uint8), np.uint8(0x80))


def _with_channels_last(
    values: Sequence[NDArray[Any]], tensors: Sequence[TensorInfo], channels_first: bool
) -> list[NDArray[Any]]:
    """Outputs NHWC. Those whose shape does not tell, as 80 channels of 80x80, are arranged like the others."""
    orders = {_order(value.shape, tensor.shape) for value, tensor in zip(values, tensors, strict=True)}
    if "nchw" not in orders and ("nhwc" in orders or not channels_first):
        return list(values)
    return [
        np.ascontiguousarray(np.moveaxis(value, 1, -1)) if _order(value.shape, tensor.shape) in ("nchw", "") else value
        for value, tensor in zip(values, tensors, strict=True)
    ]


def _order(found: tuple[int, ...], nhwc: tuple[int, ...]) -> str:
    """The order of a tensor's axes: "nhwc", "nchw", "" where it may be both, "unknown" where it is another tensor."""
    if len(found) != 4 or len(nhwc) != 4:
        return "unknown"
    nchw = (nhwc[0], nhwc[3], *nhwc[1:3])
    if found == nhwc == nchw:
        return ""
    return "nhwc" if found == nhwc else "nchw" if found == nchw else "unknown"


def _quantised(path: Path, value: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
    if value.shape != tensor.shape and value.size == np.prod(tensor.shape) and value.shape == tensor.shape[1:]:
        value = value[None]  # a batch of one
    if value.shape != tensor.shape:
        raise EngineError(f"{path}: output '{tensor.name}' must be {tensor.shape}, the NPU gave {value.shape}")
    if not tensor.scale or value.dtype == tensor.dtype:
        return value.astype(tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    steps = np.rint(value / np.float32(tensor.scale)) + tensor.zero_point
    codes: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(tensor.dtype)
    return codes
