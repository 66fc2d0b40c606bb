"""RAW dumps with Broadcom's header of 32 KiB before the frame, as raspiraw (`--header`) writes them."""

from __future__ import annotations

import struct
from pathlib import Path

from edge_isp.calibration.profile import profile_of
from edge_isp.cameras.sidecar import FrameConditions, Sidecar
from edge_isp.corrections import Origins
from edge_isp.errors import FormatError
from edge_isp.frame import Cfa, Packing, RawFormat
from edge_isp.kernels.layout import row_bytes

_MAGIC = b"BRCM"
_HEADER_BYTES, _MODE_OFFSET = 0x8000, 0xB0
# Of the mode: name, width, height, padding to the right and below, unused, transform, format, order, bits.
_MODE = "<32sHHHH24xHHBB"
_BAYER = 33
_ORDERS = {0: Cfa.RGGB, 1: Cfa.GBRG, 2: Cfa.BGGR, 3: Cfa.GRBG}
_BITS = {2: 8, 3: 10, 4: 12, 5: 14}


def read_header(path: Path) -> Sidecar | None:
    """What the header of a dump says; None where the file has none.

    Args:
        path: of the dump.

    Raises:
        FormatError: it cannot be read, is not of a Bayer sensor, or nothing is known of the sensor's levels.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_MODE_OFFSET + struct.calcsize(_MODE))
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head.startswith(_MAGIC) or len(head) < _MODE_OFFSET + struct.calcsize(_MODE):
        return None
    name, width, height, right, below, _, kind, order, bits = struct.unpack_from(_MODE, head, _MODE_OFFSET)
    if kind != _BAYER or order not in _ORDERS or bits not in _BITS:
        raise FormatError(f"{path}: a Broadcom header of format {kind}, order {order}, bits {bits}: not Bayer RAW")
    bit_depth = _BITS[bits]
    packing = Packing.U8 if bit_depth == 8 else Packing.CSI2P
    # Rows are padded to 32 bytes, the frame to 16 rows.
    stride = -(-row_bytes(packing, bit_depth, max(width + right, 1)) // 32) * 32
    try:
        layout = RawFormat(width, height, _ORDERS[order], bit_depth, packing, stride)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    sensor = name.split(b"\0")[0].decode("ascii", "replace").strip().lower()
    profile = profile_of(sensor)
    if profile is None:
        raise FormatError(
            f"{path}: its header names the mode '{sensor}', of which no sensor's profile is known: add a sidecar "
            f"{path.with_suffix('.toml').name} with offset = {_HEADER_BYTES} and the sensor's name"
        )
    levels = profile.at_bit_depth(bit_depth)
    return Sidecar(
        format=layout,
        sensor=sensor,
        black_level=levels.black_level,
        white_level=levels.white_level,
        conditions=(FrameConditions(),),
        offset=_HEADER_BYTES,
        frame_bytes=stride * (-(-(height + below) // 16) * 16),
        window=None,
        lens_shading=True,
        origins=Origins("file", {name: f"profile '{profile.name}'" for name in ("black_level", "white_level")}),
    )
