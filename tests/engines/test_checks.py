"""Outputs that do not follow the input, where the differences themselves are within the limits."""

from __future__ import annotations

from typing import Any

import pytest

from edge_isp.engines.checks import SpotChecks, part_size
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.engines.parity import DisagreementError, ParityLimits, compare
from tests.engines.npu_tools import SMALL, codes

BROKEN_FROM, FRAMES = 20, 50


def found_at(fault: str, size: tuple[int, int], radius: int | None, *, xnnpack: bool) -> tuple[int, str]:
    """The number of the frame on which a fault is found, and what is said; (0, "") where none is."""
    now_s = [0.0]
    with (
        LiteRtEngine(SMALL.path, threads=1, shape=(1, *size, 8), xnnpack=xnnpack) as npu,
        LiteRtEngine(SMALL.path, threads=1, shape=(1, *size, 8)) as whole,
        LiteRtEngine(SMALL.path, threads=1, shape=(1, *part_size(npu.inputs, npu.outputs, radius, 1), 8)) as cpu,
    ):
        first = [codes(*size)]
        usual = compare(npu.run(first), whole.run(first), npu.outputs)
        checks = SpotChecks(
            cpu,
            inputs=npu.inputs,
            outputs=npu.outputs,
            limits=ParityLimits((50.0,), (50.0,)),
            radius=radius or 0,
            multiple=1,
            usual_rms_lsb=[output.rms_lsb for output in usual.outputs],
            same_results=lambda found, reference: "",
            clock=lambda: now_s[0],
        )
        earlier: list[Any] = []
        for number in range(FRAMES):
            inputs = [codes(*size, seed=number)]
            outputs = npu.run(inputs)
            given = earlier if fault and number >= BROKEN_FROM else outputs
            if fault != "frozen" or number < BROKEN_FROM:
                earlier = outputs
            try:
                checks.check(inputs, given)
            except DisagreementError as error:
                return number, str(error)
            now_s[0] += 1 / 30
    return 0, ""


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize(("size", "radius"), [((64, 72), 17), ((12, 16), None)])
def test_outputs_that_stand_still_or_are_late_are_found(
    size: tuple[int, int], radius: int | None, xnnpack: bool
) -> None:
    assert found_at("", size, radius, xnnpack=xnnpack) == (0, "")
    for fault, reason in (("frozen", "stand still"), ("stale", "those of earlier frames")):
        number, said = found_at(fault, size, radius, xnnpack=xnnpack)
        assert reason in said
        assert BROKEN_FROM <= number < BROKEN_FROM + 30
