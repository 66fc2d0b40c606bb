"""The student's first convolution, its channels made even, so that one scale of int8 suits them all.

Of YOLOX-Nano's sixteen first channels one reaches 88 and another 0.4, and SiLU, y = x * sigmoid(x), lets no factor
through. But what SiLU makes of a narrow channel can be fitted closely by a wide SiLU with another bias, all but a
ReLU, and what is read of it is divided again. A short training then takes the rest of the difference away. It costs
no time, where a convolution for the gates (`silu.equalise_silus`) costs a tenth of the network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_isp.training.networks.yolox import YoloxNano
from edge_isp.training.quantisation.silu import active_range

# Shifts that are tried for a channel.
_SHIFTS = tuple(i / 8 for i in range(-8, 49))
# One in this many of a channel's values counts for the fit.
_EVERY = 37
_SMALLEST_RANGE = 0.5
# As `_fit` gives it, for a channel that says nothing.
_UNCHANGED = (0.0, 0.0, 1.0, 1.0, 0.0)


@torch.no_grad()
def equalise_stem(student: YoloxNano, samples: Sequence[Tensor]) -> None:
    """Gives all channels of the first convolution the largest one's range.

    Args:
        student: is changed in place.
        samples: mosaics (batch, 4, height / 2, width / 2).
    """
    first, reader = student.stem.convolution, _reader(student)
    values = torch.cat([first(sample).transpose(0, 1).flatten(1) for sample in samples], 1)
    ranges = active_range(values)
    widest = float(ranges.max())
    assert first.bias is not None
    assert reader.bias is not None
    for channel, own in enumerate(values[:, ::_EVERY]):
        fits = [_fit(own, shift, widest / max(_SMALLEST_RANGE, float(ranges[channel]) + shift)) for shift in _SHIFTS]
        _, shift, factor, slope, offset = min((fit for fit in fits if fit[3] > 0), default=_UNCHANGED)
        first.weight[channel] *= factor
        first.bias[channel] = (first.bias[channel] + shift) * factor
        reader.bias[channel] += offset * reader.weight[channel].sum()
        reader.weight[channel] *= slope


def _reader(student: YoloxNano) -> nn.Conv2d:
    """The depthwise convolution that reads the stem."""
    return next(module for module in student.stage2.modules() if isinstance(module, nn.Conv2d))


def _fit(x: Tensor, shift: float, factor: float) -> tuple[float, float, float, float, float]:
    """SiLU(x) as slope * SiLU(factor * (x + shift)) + offset, by least squares.

    A factor below 1 would make the SiLU softer, which fits nothing: then there is neither factor nor shift.

    Returns:
        mean squared error, shift, factor, slope, offset.
    """
    if factor < 1:
        shift, factor = 0.0, 1.0
    terms = torch.stack([F.silu(factor * (x + shift)), torch.ones_like(x)], 1)
    wanted = F.silu(x)
    slope, offset = torch.linalg.lstsq(terms, wanted[:, None]).solution[:, 0].tolist()
    error = float((terms @ torch.tensor([slope, offset]) - wanted).square().mean())
    return error, shift, factor, slope, offset
