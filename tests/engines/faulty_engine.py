"""Engines for the tests of the fallback engine: an NPU with faults that tests switch on, and a slow CPU.

They are loaded in the process of an engine by an entry point, see the fixture `faulty_npu`, so that this file must do
without the tests' packages.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.engines.base import EngineReport, Partition
from edge_isp.engines.delegates import Delegate
from edge_isp.engines.litert import LiteRtEngine


class FaultyEngine(LiteRtEngine):
    """LiteRT under the name of an NPU.

    Args:
        delegate: its options are `fault` (what goes wrong), `at` (where a hang or an exception is: "load", "run" or
            "unload"), `flag` (the path of a file, without which nothing goes wrong) and `milliseconds` (how long an
            inference takes at least).
    """

    def __init__(self, path: str | Path, *, delegate: Delegate, **settings: Any) -> None:
        self._options = dict(delegate.options)
        self._misbehave("load")
        super().__init__(path, xnnpack=self._options.get("arithmetic") != "plain", **settings)
        self._earlier: list[NDArray[Any]] | None = None
        nodes = Partition(delegate.name, (("NODE", self._report.nodes),))
        self._report = EngineReport("faulty", delegate.name, 1, (nodes,))

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        self._misbehave("run")
        if self._options.get("fault") != "first" or self._earlier is None:
            time.sleep(float(self._options.get("milliseconds", "0")) / 1000)
        outputs = super().run(inputs)
        if not self._is_on():
            self._earlier = outputs
            return outputs
        earlier = self._earlier or outputs
        match self._options.get("fault"):
            case "frozen":
                self._earlier = earlier
                return earlier
            case "stale":
                self._earlier = outputs
                return earlier
            case "shifted":
                return [np.roll(outputs[0], 1, axis=2), *outputs[1:]]
            case "swapped":
                return [np.roll(output, output.shape[2] // 2, axis=2) for output in outputs]
            case "offset":
                return [np.clip(output.astype(np.int16) - 18, -128, 127).astype(np.int8) for output in outputs]
            case "late":
                time.sleep(0.4)
        self._earlier = outputs
        return outputs

    def close(self) -> None:
        """See `Engine.close`."""
        super().close()

    def __del__(self) -> None:
        self._misbehave("unload")

    def _is_on(self) -> bool:
        return "flag" not in self._options or os.path.exists(self._options["flag"])

    def _misbehave(self, stage: str) -> None:
        if self._options.get("at") != stage or not self._is_on():
            return
        match self._options.get("fault"):
            case "hang":
                while True:
                    time.sleep(3600)
            case "exception":
                raise Exception("the vendor's package failed")


class SlowEngine(LiteRtEngine):
    """A CPU on which a row and column of the input takes 3 microseconds."""

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Engine.run`."""
        time.sleep(3e-6 * inputs[0].shape[1] * inputs[0].shape[2])
        return super().run(inputs)
