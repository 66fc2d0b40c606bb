"""Several networks on one Hailo, over a stand-in for HailoRT that knows how devices may be shared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edge_isp.engines.base import TensorInfo
from edge_isp.engines.delegates import Delegate
from edge_isp.errors import EngineError

INPUT = TensorInfo("input", (1, 12, 12, 8), "int8", 1 / 255, -128)
OUTPUT = TensorInfo("output", (1, 12, 12, 12), "int8", 1 / 255, -128)


class HailoRTError(Exception):
    pass


@dataclass
class Chip:
    """The one that this machine has.

    Attributes:
        service_runs: whether HailoRT's service does.
        taken: whether another process has the chip.
        alone: how many devices are open that share it with no other.
        services: whether each device was opened by the service.
    """

    service_runs: bool = False
    taken: bool = False
    alone: int = 0
    services: list[bool] = field(default_factory=list)

    def open(self, settings: Any) -> Any:
        """VDevice: a device of a group shares the chip with those of the group, one by the service with all others."""
        by_service = getattr(settings, "multi_process_service", False)
        if by_service and not self.service_runs:
            raise HailoRTError("HAILO_RPC_FAILED")
        shares = getattr(settings, "group_id", None) is not None
        if (self.taken and not by_service) or (self.alone and not shares):
            raise HailoRTError("HAILO_DEVICE_IN_USE")
        self.alone += not shares
        self.services.append(by_service)
        return Device()


class Device:
    """VDevice, InferModel and ConfiguredInferModel in one."""

    input_names = ("input",)
    output_names = ("output",)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def create_infer_model(self, path: str) -> Any:
        return self

    configure = create_bindings = lambda self: self

    def input(self, name: str) -> Any:
        return SimpleNamespace(shape=INPUT.shape[1:], set_format_type=lambda kind: None)

    output = input


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chip]:
    """The chip behind the stand-in for HailoRT's Python package."""
    made = Chip()
    hailo, inner = ModuleType("hailo_platform"), ModuleType("hailo_platform.pyhailort.pyhailort")
    inner.HailoRTException = HailoRTError  # type: ignore[attr-defined]
    device = type("VDevice", (), {"__new__": lambda kind, settings: made.open(settings)})
    device.create_params = staticmethod(SimpleNamespace)  # type: ignore[attr-defined]
    hailo.VDevice = device  # type: ignore[attr-defined]
    hailo.HailoSchedulingAlgorithm = SimpleNamespace(ROUND_ROBIN=1)  # type: ignore[attr-defined]
    hailo.FormatType = SimpleNamespace(UINT8=1, FLOAT32=2)  # type: ignore[attr-defined]
    for module in (hailo, ModuleType("hailo_platform.pyhailort"), inner):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield made
    sys.modules.pop("edge_isp.engines.hailo", None)


def open_engine(tmp_path: Path) -> Any:
    from edge_isp.engines.hailo import HailoEngine

    (tmp_path / "model.hef").touch()
    return HailoEngine(tmp_path / "model.hef", delegate=Delegate("hailo", inputs=(INPUT,), outputs=(OUTPUT,)))


def test_two_networks_share_a_chip(chip: Chip, tmp_path: Path) -> None:
    with open_engine(tmp_path) as first, open_engine(tmp_path) as second:
        for engine in (first, second):
            assert engine.report.delegate == "hailo"
            assert engine.report.nodes_delegated == engine.report.nodes == 1
    assert chip.services == [False, False]


def test_processes_share_a_chip_by_the_service_alone(chip: Chip, tmp_path: Path) -> None:
    chip.taken = True
    with pytest.raises(EngineError, match="HAILO_DEVICE_IN_USE; where another process .* enable --now hailort"):
        open_engine(tmp_path)
    chip.service_runs = True
    open_engine(tmp_path).close()
    assert chip.services == [True]
