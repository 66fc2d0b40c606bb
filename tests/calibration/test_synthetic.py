"""The synthetic camera shows what a real sensor shows, where it is asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edge_isp.calibration.measure.stack import read_stacks
from edge_isp.cameras.spec import open_camera


def test_imperfections_of_the_synthetic_camera(tmp_path: Path) -> None:
    photo = tmp_path / "white.png"
    Image.fromarray(np.full((480, 640, 3), 200, np.uint8)).save(photo)
    spec = f"synthetic:{photo},fps=none,frames=2,width=320,height=240"
    with open_camera(spec) as ideal, open_camera(f"{spec},imperfections=1") as real:
        (flat,), (shaded,) = (read_stacks(iter(camera.read, None)) for camera in (ideal, real))

    def corner_to_centre(codes: np.ndarray) -> float:
        light = codes.astype(np.float64) - 64
        return float(light[:, :20, :20].mean() / light[:, 110:130, 150:170].mean())

    assert abs(corner_to_centre(flat.codes) - 1) < 0.02
    assert corner_to_centre(shaded.codes) < 0.5
