"""The kernels alone: RAW10 bytes to the int8 tensor of a network, without camera, engine or pipeline."""

from __future__ import annotations

import numpy as np

from edge_isp import load_profile
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import RawLayout
from edge_isp.kernels.tables import encoding_table


def main() -> None:
    width, height = 1920, 1080
    raw = np.random.default_rng(0).integers(0, 256, (height, width * 5 // 4), dtype=np.uint8)
    profile = load_profile("imx219")
    tables = encoding_table(
        bit_depth=profile.bit_depth,
        black_level=profile.black_level,
        white_level=profile.white_level,
        gains=profile.normalised_gains(5000),
        curve="sqrt",
        scale=1 / 255,
        zero_point=-128,
    )
    tensor = np.empty((height // 2, width // 2, 4), np.int8)
    encode(raw, tensor, RawLayout(width, height, "csi2p", 10, "RGGB"), tables=tables)
    print(tensor.shape, tensor.dtype, "planes R, Gr, Gb, B:", tensor.mean((0, 1)).round(1))


if __name__ == "__main__":
    main()
