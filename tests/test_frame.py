"""RawFormat refuses what cannot be; RawFrame gives its buffer back once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_isp.errors import FormatError
from edge_isp.frame import Cfa, FrameStatus, Packing, RawFormat, RawFrame


def make_format(**change: Any) -> RawFormat:
    values: dict[str, Any] = {"width": 64, "height": 48, "cfa": "RGGB", "bit_depth": 10, "packing": "csi2p"}
    return RawFormat(**(values | change))


def test_format_without_padding() -> None:
    layout = make_format()
    assert (layout.stride, layout.row_bytes, layout.frame_bytes) == (80, 80, 80 * 48)
    assert layout.cfa is Cfa.RGGB
    assert layout.packing is Packing.CSI2P
    assert str(layout) == "64x48 RGGB 10 bit csi2p"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 63}, "width must be even and at least 2, found 63"),
        ({"height": 47}, "height must be even and at least 2, found 47"),
        ({"width": 0}, "width must be even and at least 2, found 0"),
        ({"cfa": "RGBG"}, "cfa must be one of RGGB, GRBG, GBRG, BGGR, found 'RGBG'"),
        ({"packing": "raw10"}, "packing must be one of .*csi2p.*, found 'raw10'"),
        ({"bit_depth": 9}, "bit depth of packing 'csi2p' must be one of"),
        ({"stride": 79}, "stride must be at least 80 bytes for 64 pixels of packing 'csi2p' and 10 bits, found 79"),
    ],
)
def test_format_refuses_what_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        make_format(**change)


def test_frame_is_released_once() -> None:
    released: list[str] = []
    frame = RawFrame(
        data=np.zeros((48, 80), np.uint8),
        format=make_format(),
        source="test",
        sequence=0,
        timestamp_ns=0,
        black_level=(64, 64, 64, 64),
        white_level=1023,
        on_release=lambda: released.append("buffer"),
    )
    with frame:
        assert not released
    frame.release()
    assert released == ["buffer"]


def test_status_is_false_where_nothing_is_wrong() -> None:
    assert not FrameStatus.OK
    assert FrameStatus.GAP | FrameStatus.CORRUPTED
