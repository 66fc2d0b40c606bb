"""The detector's first convolution, made even."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch
from torch.nn import functional as F

from edge_isp.training.detector.equalise_stem import equalise_stem
from edge_isp.training.networks.yolox import YoloxNano
from edge_isp.training.quantisation.silu import active_range


def stem_of(student: YoloxNano, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the first SiLU reads, by channel, and what the depthwise convolution after it says, without the border."""
    with torch.no_grad():
        values = student.stem.convolution(x)
        said = student.stage2[0][0].convolution(F.silu(values))
    return values.transpose(0, 1).flatten(1), said[:, :, 1:-1, 1:-1]


def test_channels_of_uneven_range_become_even_and_say_the_same() -> None:
    torch.manual_seed(0)
    student = YoloxNano()
    samples = [torch.rand(2, 4, 48, 48) for _ in range(2)]
    with torch.no_grad():
        ranges, _ = stem_of(student, samples[0])
        wanted = torch.logspace(-0.3, 1.9, 16) / ranges.abs().amax(1)
        student.stem.convolution.weight.mul_(wanted[:, None, None, None])
        student.stem.convolution.bias.mul_(wanted)
    x = torch.rand(2, 4, 48, 48)
    before, said = stem_of(student, x)
    assert active_range(before).max() > 50 * active_range(before).min()
    equalise_stem(student, samples)
    after, says = stem_of(student, x)
    assert active_range(after).max() < 4 * active_range(after).min()
    error, size = (says - said).square().mean((0, 2, 3)), said.var((0, 2, 3))
    assert (error / size).max() < 0.1
    equalise_stem(student, samples)  # nothing is left to do
    _, again = stem_of(student, x)
    torch.testing.assert_close(again, says, atol=0.05 * float(says.std()), rtol=0)


def test_the_widest_channel_is_left_alone() -> None:
    torch.manual_seed(1)
    student = YoloxNano()
    with torch.no_grad():
        student.stem.convolution.weight[5] *= 100
    kept = student.stem.convolution.weight[5].clone(), student.stage2[0][0].convolution.weight[5].clone()
    equalise_stem(student, [torch.rand(1, 4, 32, 32)])
    torch.testing.assert_close(student.stem.convolution.weight[5], kept[0])
    torch.testing.assert_close(student.stage2[0][0].convolution.weight[5], kept[1], rtol=1e-3, atol=1e-5)
