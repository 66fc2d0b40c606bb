"""The simulation on the device is the one on the CPU within its noise, and training there needs little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch
from torch import nn

from edge_isp.calibration.profile import load_profile
from edge_isp.calibration.simulation import SensorModel
from edge_isp.errors import DatasetError
from edge_isp.training import trainer
from edge_isp.training.isp.architectures import ARCHITECTURES
from edge_isp.training.isp.device_simulation import Captures, DevicePairs, Tables, exposed, read_photos, read_tables
from edge_isp.training.isp.objective import Pictures, SeveralPictures
from edge_isp.training.isp.sensor_tables import sensor_tables, write_tables
from edge_isp.training.simulation.samples import LINEAR_LIGHT, Capture, Sample, simulate

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SENSORS = [SensorModel(load_profile(name)) for name in ("imx219", "imx477", "imx708")]


def photo(seed: int = 0, size: int = 96) -> np.typing.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("gain", [1.0, 16.0])
@pytest.mark.parametrize("exposure", [0.02, 1.0, 4.0])
@pytest.mark.parametrize("lens", [(1.0, 1.0, 1.0), (2.1, 1.7, 1.9)])
def test_means_variances_and_rounding_are_the_cpus(
    gain: float, exposure: float, lens: tuple[float, float, float]
) -> None:
    """Flat patches of several colours: each plane's mean, deviation and values, of either simulation."""
    kelvin, error = 4000.0, 1.2
    tables = Tables.of(sensor_tables(SENSORS, [kelvin]), CPU)
    colours = np.array([(20, 20, 20), (128, 90, 200), (240, 240, 235)], np.uint8)
    for index, sensor in enumerate(SENSORS):
        for colour in colours:
            patch = np.full((128, 128, 3), colour, np.uint8)
            capture = Capture(kelvin, exposure, gain, lens_gains=lens, noise_error=error)
            ours = simulate(patch, sensor, capture, np.random.default_rng(1))

            def one(value: float) -> torch.Tensor:
                return torch.tensor([value])

            captures = Captures(
                sensor=torch.tensor([index]),
                light=torch.tensor([0]),
                exposure=one(exposure),
                analogue_gain=one(gain),
                lens_gains=torch.tensor([lens]),
                defects=one(0.0),
                noise_error=one(error),
            )
            linear = torch.from_numpy(LINEAR_LIGHT[patch])[None]
            theirs = exposed(linear, tables, captures, torch.Generator().manual_seed(2))
            a, b = ours.inputs, theirs.inputs[0].numpy()
            spread = a[:4].std((1, 2))
            np.testing.assert_allclose(
                b[:4].mean((1, 2)), a[:4].mean((1, 2)), atol=float(0.1 * spread.max() + 0.5 / 255)
            )
            np.testing.assert_allclose(b[:4].std((1, 2)), spread, rtol=0.06, atol=0.3 / 255)
            np.testing.assert_allclose(b * 255, np.rint(b * 255), atol=1e-3)  # the input's steps
            np.testing.assert_allclose(b[4:, 0, 0], a[4:, 0, 0], atol=1.01 / 255)
            np.testing.assert_allclose(theirs.target[0].numpy(), ours.target, atol=1e-5)
            np.testing.assert_allclose(theirs.matrix[0].numpy(), ours.matrix, atol=1e-6)


def pairs(seed: int = 1) -> DevicePairs:
    tables = Tables.of(sensor_tables(SENSORS, [3000.0, 6000.0]), CPU)
    return DevicePairs([photo(), photo(1)], tables, crop=32, batch=4, seed=seed)


def test_a_batch_depends_on_seed_and_number_only() -> None:
    made = list(pairs().batches(0, 3))
    (again,) = pairs().batches(2, 3)
    assert torch.equal(made[2].inputs, again.inputs)
    assert torch.equal(made[2].target, again.target)
    assert not torch.equal(made[0].inputs, made[1].inputs)
    assert not torch.equal(made[0].inputs, pairs(2).make(0).inputs)
    assert made[0].inputs.shape == (4, 8, 16, 16)
    assert made[0].target.shape == (4, 3, 32, 32)
    values = torch.cat([sample.inputs for sample in pairs().batches(0, 20)])
    assert values.min() >= 0
    assert values.max() <= 1
    with pytest.raises(DatasetError, match="no photograph is larger than a crop of 128"):
        DevicePairs([photo()], pairs().tables, crop=128, batch=2, seed=0)


def test_crops_lie_in_photographs() -> None:
    """Photographs of one colour each: every crop has one colour, unless it is a pattern."""
    colours = [(10, 10, 10), (90, 90, 90), (200, 200, 200)]
    photos = [np.full((40 + 8 * i, 64 - 8 * i, 3), colour, np.uint8) for i, colour in enumerate(colours)]
    made = DevicePairs(photos, pairs().tables, crop=32, batch=64, seed=3)
    crops = made._crops(torch.Generator().manual_seed(0))
    flat = [crop for crop in crops if crop.float().std() < 1]
    assert 48 <= len(flat) < 64
    assert {int(crop[0, 0, 0]) for crop in flat} >= {10, 90, 200}


def objective(name: str) -> Pictures:
    return Pictures(pairs(), {"gain1": pairs(9).make(0)}, ARCHITECTURES[name].colour)


def test_networks_side_by_side_learn_as_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gradient is limited by itself: with another network in the run, weights are the same."""
    # What is drawn again depends on what was drawn for the other network before.
    monkeypatch.setattr("edge_isp.training.isp.objective.reinitialise_dead_channels", lambda network, x: 0)
    names = ("rfdcsanet-t", "cells2x2")
    schedule = trainer.Schedule(steps=6, batch=4, crop=32, learning_rate=1e-3, warm_up=2)

    def built(name: str) -> nn.Module:
        torch.manual_seed(3)
        return ARCHITECTURES[name].build()

    together = trainer.train(
        nn.ModuleDict({name: built(name) for name in names}),
        SeveralPictures({name: objective(name) for name in names}),
        schedule,
        tmp_path / "together",
    )
    assert isinstance(together, nn.ModuleDict)
    for name in names:
        torch.manual_seed(3)
        alone = trainer.train(built(name), objective(name), schedule, tmp_path / name)
        for a, b in zip(together[name].parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)


def test_a_training_stops_in_time_and_goes_on_exactly(tmp_path: Path) -> None:
    schedule = trainer.Schedule(steps=5, batch=4, crop=32, learning_rate=1e-3, warm_up=2)

    def run(folder: Path, *, parts: bool) -> tuple[nn.Module, list[int]]:
        torch.manual_seed(0)
        steps: list[int] = []
        network = trainer.train(
            ARCHITECTURES["rfdcsanet-t"].build(),
            objective("rfdcsanet-t"),
            schedule,
            folder,
            lambda progress: steps.append(progress.step),
            until=0.0 if parts else float("inf"),
        )
        return network, steps

    whole, steps = run(tmp_path / "whole", parts=False)
    assert steps == [1, 2, 3, 4, 5]
    resumed = whole
    for step in steps:
        resumed, made = run(tmp_path / "parts", parts=True)
        assert made == [step]
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


_WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"numba", "scipy", "cv2", "rich", "typer", "ai_edge_litert", "flatbuffers", "rawpy"}:
            raise ModuleNotFoundError(f"{name} is not there", name=name)
sys.meta_path.insert(0, Nothing())
sys.argv = ["train-on-gpu", *sys.argv[1:]]
import runpy
runpy.run_path(%r, run_name="__main__")
"""


def test_the_script_needs_only_pytorch_numpy_and_pillow(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(photo(size=256)).save(photos / "one.png")
    sample = pairs(9).make(0)
    validation = {"gain1": Sample(sample.inputs.numpy(), sample.target.numpy(), sample.matrix.numpy())}
    write_tables(tmp_path / "tables.npz", SENSORS[:1], validation)
    tables, read = read_tables(tmp_path / "tables.npz", CPU)
    assert tables.levels.shape == (1, 5)
    assert torch.equal(read["gain1"].inputs, sample.inputs)
    command = [sys.executable, "-c", _WITHOUT % str(ROOT / "scripts" / "train-on-gpu"), "train"]
    command += ["--tables", str(tmp_path / "tables.npz"), "--photos", str(photos), "--out", str(tmp_path / "run")]
    command += ["--network", "rfdcsanet-t", "--steps", "3", "--batch", "2", "--crop", "32"]
    first = subprocess.run([*command, "--minutes", "0"], check=True, capture_output=True, text=True)
    assert "1 of 3 steps are done; the same command continues from" in first.stdout
    done = subprocess.run([*command, "--minutes", "5"], check=True, capture_output=True, text=True)
    assert "step 3 of 3" in done.stdout
    assert "rfdcsanet-t gain1" in done.stdout
    assert "continues" not in done.stdout
    again = subprocess.run([*command, "--minutes", "5"], check=True, capture_output=True, text=True)
    assert again.stdout == ""
    network = ARCHITECTURES["rfdcsanet-t"].build()
    network.load_state_dict(torch.load(tmp_path / "run" / "rfdcsanet-t-float.pt", weights_only=True))


@pytest.mark.parametrize("entry", ["rfdcsanet-x=weights.pt", "weights.pt", "rfdcsanet-t="])
def test_weights_of_no_network_of_the_run_are_an_error(tmp_path: Path, entry: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train-on-gpu"), "train", "--tables", "-", "--photos", "-"]
    command += ["--out", str(tmp_path / "run"), "--minutes", "0", "--network", "rfdcsanet-t", "--init", entry]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == (
        f"train-on-gpu: error: --init: expected NAME=FILE of a --network (rfdcsanet-t), found '{entry}'\n"
    )
    assert not (tmp_path / "run").exists()


def test_hidden_files_beside_photographs_are_passed_over(tmp_path: Path) -> None:
    """As those that file managers leave, which are no pictures."""
    Image.fromarray(photo(size=64)).save(tmp_path / "one.png")
    (tmp_path / "._one.png").write_bytes(b"no picture")
    (tmp_path / "folder.png").mkdir()
    assert [read.shape for read in read_photos(tmp_path)] == [(32, 32, 3), (16, 16, 3)]


def test_what_is_no_photograph_or_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no photographs"):
        read_photos(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="broken.png: cannot be read"):
        read_photos(tmp_path)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("other.npz", "missing.npz"):
        with pytest.raises(DatasetError, match=f"{name}: expected tables"):
            read_tables(tmp_path / name, CPU)
