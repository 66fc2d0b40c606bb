"""Fits the table of `edge_isp.metering.white_balance` on photographs, and writes it into the package.

Each photograph is exposed by simulated sensors under random lights along their AWB curves, at random exposures and
gains, and measured as at run time. The table is what makes the right light the likeliest and the expected error of the
gains small (a softmax over the lights; Adam), held smooth and small, since it has more points than there are
photographs.

    python scripts/fit_white_balance.py PHOTOS... [--held-out N]

With --held-out N every Nth photograph is left out and the error on it is printed; nothing is written then.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.correlate import REACH
from edge_isp.kernels.pack import pack
from edge_isp.metering.light import measure
from edge_isp.metering.white_balance import EDGES, FINE, evidence, lights_of, usable_blocks

SENSORS = ("imx219", "imx477", "imx708", "ov5647", "imx296", "imx500", "imx708_wide", "imx462")
TABLE = Path(__file__).parents[1] / "edge_isp" / "metering" / "white_balance.npy"
LONG_SIDE = 768  # photographs are brought to this many pixels: blocks then show about as much as those of a frame
DRAWS = 7  # exposures of each photograph
BRIGHTNESSES, POINTS = 3, 25
SMOOTHNESS, SMALLNESS = 3.0, 0.3
EPOCHS, BATCH, RATE = 40, 256, 0.08
SCALE = 20.0  # of the scores, while fitting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="PHOTOS", help="Folders of photographs.")
    parser.add_argument("--held-out", type=int, metavar="N", help="Leave out every Nth photograph; see above.")
    arguments = parser.parse_args()
    files = [p for f in arguments.folders for p in sorted(f.iterdir()) if p.suffix.lower() in (".jpg", ".png")]
    rng = np.random.default_rng(5)
    histograms, errors, photos = [], [], []
    for index, file in enumerate(files):
        for frame, gains in exposures(file, rng):
            seen, angles = example(frame, gains)
            if seen is not None:
                histograms.append(seen)
                errors.append(angles)
                photos.append(index)
        print(f"\r{index + 1} of {len(files)} photographs", end="", file=sys.stderr)
    seen, angles = torch.tensor(np.array(histograms)), torch.tensor(np.array(errors), dtype=torch.float32)
    if arguments.held_out:
        left_out = torch.tensor(np.array(photos) % arguments.held_out == 0)
        table = fit(seen[~left_out], angles[~left_out])
        found = (torch.softmax(seen[left_out].float() @ table * SCALE, 1) * angles[left_out].abs()).sum(1)
        print(f"\nexpected error on what was left out: median {found.median():.2f}, mean {found.mean():.2f} degrees")
        return
    table = fit(seen, angles) * SCALE
    np.save(TABLE, table.numpy().reshape(BRIGHTNESSES + 1, POINTS, POINTS).astype(np.float32))


def exposures(file: Path, rng: np.random.Generator) -> list[tuple[RawFrame, tuple[float, float]]]:
    """Frames of a photograph under random lights, with the right gains."""
    image = Image.open(file).convert("RGB")
    factor = LONG_SIDE / max(image.size)
    size = [round(side * factor / 4) * 4 for side in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC)
    scene = srgb_decode(np.asarray(image, np.float32) / np.float32(255)).astype(np.float32)
    found = []
    for _ in range(DRAWS):
        profile = load_profile(SENSORS[rng.integers(len(SENSORS))])
        coolest, warmest = (1e6 / profile.awb_curve[end].colour_temperature_k for end in (-1, 0))
        temperature_k, gain = 1e6 / rng.uniform(coolest, warmest), 2 ** rng.uniform(0, 4)
        exposure = 1.0 if rng.random() < 0.4 else 2 ** rng.uniform(-2.5, 0.5)
        codes = SensorModel(profile).codes(
            scene, rng, colour_temperature_k=temperature_k, exposure=exposure, analogue_gain=gain
        )
        layout = RawFormat(codes.shape[1], codes.shape[0], Cfa(profile.cfa), profile.bit_depth, Packing.U16)
        data = pack(codes, packing=layout.packing, bit_depth=layout.bit_depth)
        levels = (profile.black_level, profile.white_level)
        frame = RawFrame(data, layout, str(file), 0, 0, *levels, sensor=profile.name)
        found.append((frame, profile.colour_gains(temperature_k)))
    return found


def example(frame: RawFrame, gains: tuple[float, float]) -> tuple[NDArray[np.float16] | None, NDArray[np.float64]]:
    """What the colours of a frame are under each light, (lights, points of the table), and each light's error, with a
    sign: negative for warmer ones."""
    profile, light = load_profile(str(frame.sensor)), measure(frame)
    usable = usable_blocks(light)
    lights = lights_of(profile)
    own = np.array([profile.colour_gains(1e6 / mired) for mired in lights.mireds])
    angles = angle(own, np.array(gains)) * np.where(own[:, 0] > gains[0], 1, -1)
    if np.count_nonzero(usable) < 8:
        return None, angles
    colours, weights, levels = evidence(light.colours, usable)
    planes = np.where(levels == EDGES, BRIGHTNESSES, levels / (EDGES - 1) * (BRIGHTNESSES - 1))
    return np.array([histogram(colours @ matrix.T, weights, planes) for matrix in lights.matrices], np.float16), angles


def histogram(
    colours: NDArray[np.floating], weights: NDArray[np.floating], planes: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Weighted colours in the cells of the table, each shared among its neighbouring points."""
    total = colours.sum(axis=1)
    lit = total > 1e-6
    colours, weights, planes, total = colours[lit], weights[lit], planes[lit], total[lit]
    end = np.arcsinh(REACH / FINE)
    places = [planes]
    for channel in (0, 2):
        distance = np.arcsinh((colours[:, channel] / total - 1 / 3) / FINE) / end
        places.append(np.clip((distance + 1) * (POINTS - 1) / 2, 0, POINTS - 1))
    counts = np.zeros((BRIGHTNESSES + 1) * POINTS * POINTS)
    for corner in np.ndindex(2, 2, 2):
        index, share = np.zeros(len(weights), np.int64), weights.astype(np.float64)
        for place, step, size in zip(places, corner, (BRIGHTNESSES + 1, POINTS, POINTS), strict=True):
            below = np.minimum(np.floor(place).astype(np.int64), size - 2)
            share = share * (place - below if step else 1 - (place - below))
            index = index * size + below + step
        counts += np.bincount(index, share, minlength=len(counts))
    return counts


def fit(seen: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """The table, flat, for scores times `SCALE`."""
    table = torch.zeros(seen.shape[2], requires_grad=True)
    optimiser = torch.optim.Adam([table], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    shuffled = torch.Generator().manual_seed(0)
    errors = angles.abs()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(seen), generator=shuffled).split(BATCH):
            scores = seen[batch].float() @ table * SCALE
            right = torch.softmax(-(errors[batch] ** 2), 1)
            loss = (torch.softmax(scores, 1) * errors[batch]).sum(1).mean()
            loss = loss - 0.3 * (right * torch.log_softmax(scores, 1)).sum(1).mean()
            planes = table.view(-1, POINTS, POINTS)
            roughness = planes.diff(dim=1).square().mean() + planes.diff(dim=2).square().mean()
            optimiser.zero_grad()
            (loss + SMOOTHNESS * roughness + SMALLNESS * table.square().mean()).backward()
            optimiser.step()
        schedule.step()
    return table.detach()


def angle(gains: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between the lights' colours (1 / red, 1, 1 / blue), in degrees."""
    first, second = (np.stack([1 / g[..., 0], np.ones(g.shape[:-1]), 1 / g[..., 1]], axis=-1) for g in (gains, right))
    cosine = (first * second).sum(-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)
    degrees: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return degrees


if __name__ == "__main__":
    main()
