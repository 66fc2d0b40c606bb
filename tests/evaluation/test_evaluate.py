"""Picture quality is measured right: metrics, classical pictures, networks at every stage, figures that are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for package, extra in (
    ("torch", "train"),
    ("skimage", "evaluate"),
    ("cv2", "evaluate"),
    ("colour_demosaicing", "evaluate"),
):
    pytest.importorskip(package, reason=f"{package} is not installed: the extra [{extra}] brings it")

import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from edge_isp.calibration.profile import Noise, load_profile  # noqa: E402
from edge_isp.calibration.simulation import SensorModel  # noqa: E402
from edge_isp.cli.main import app  # noqa: E402
from edge_isp.errors import EvaluationError, ModelError  # noqa: E402
from edge_isp.evaluation.exposures import SimulatedExposure, expose_image  # noqa: E402
from edge_isp.evaluation.isp import classical, metrics  # noqa: E402
from edge_isp.evaluation.isp.methods import Develop, Rgb, model_method  # noqa: E402
from edge_isp.evaluation.isp.run import GAINS, capture, picture_plan  # noqa: E402
from edge_isp.evaluation.isp.weights import network_inputs, weights_methods  # noqa: E402
from edge_isp.evaluation.store import Method, Store  # noqa: E402
from edge_isp.kernels.layout import CELL_PLANES  # noqa: E402
from edge_isp.training.graph import trace  # noqa: E402
from edge_isp.training.isp import quantise as calibration  # noqa: E402
from edge_isp.training.isp.architectures import ARCHITECTURES, Architecture  # noqa: E402
from edge_isp.training.isp.card import write_isp_model  # noqa: E402
from edge_isp.training.isp.colour import CALIBRATED, END_TO_END, Colour  # noqa: E402
from edge_isp.training.isp.psnr import psnr_db  # noqa: E402
from edge_isp.training.networks.calibrated import PlainNetwork  # noqa: E402
from edge_isp.training.networks.ecb import merge  # noqa: E402
from edge_isp.training.quantisation.arithmetic import save_quantised  # noqa: E402
from edge_isp.training.quantisation.post_training import quantise  # noqa: E402
from edge_isp.training.simulation.samples import Capture, Sample, simulate  # noqa: E402

IMX219 = SensorModel(load_profile("imx219"))


def grey(value: int) -> NDArray[np.uint8]:
    return np.full((32, 32, 3), value, np.uint8)


def smooth_scene() -> NDArray[np.uint8]:
    """Colours that change over the whole picture, differently in both directions."""
    y, x = np.mgrid[0:96, 0:128].astype(np.float64)
    channels = (110 + 60 * np.sin(x / 20), 120 + 50 * np.cos(y / 17), 100 + 60 * np.sin((x + 2 * y) / 30))
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, picture in enumerate((smooth_scene(), smooth_scene()[::-1, :100])):
        Image.fromarray(picture).save(folder / f"scene{i}.png")
    return folder


def exposure_without_noise(tmp_path: Path, cfa: str) -> SimulatedExposure:
    quiet = replace(
        IMX219.profile, cfa=cfa, noise=Noise(shot=1e-9), bit_depth=12, black_level=(256.0,) * 4, white_level=4095
    )
    path = tmp_path / "smooth.png"
    Image.fromarray(smooth_scene()).save(path)
    return expose_image(path, SensorModel(quiet), capture(5700, 1))


def test_metrics_of_known_pictures() -> None:
    a, b = grey(100), grey(110)
    assert psnr_db(a / 255, b / 255) == pytest.approx(20 * np.log10(255 / 10))
    # Flat pictures differ in their means alone: the luminance term of SSIM, with its constant (0.01 * 255)**2.
    assert metrics.ssim(a, b) == pytest.approx((2 * 100 * 110 + 6.5025) / (100**2 + 110**2 + 6.5025), abs=1e-6)
    assert metrics.ssim(a, a) == 1
    assert metrics.ciede2000(a, a) == 0
    # Pure lightness: CIEDE2000 is the difference of L* over S_L.
    low, high = (116 * np.cbrt(((v / 255 + 0.055) / 1.055) ** 2.4) - 16 for v in (100, 110))
    middle = ((low + high) / 2 - 50) ** 2
    expected = (high - low) / (1 + 0.015 * middle / np.sqrt(20 + middle))
    assert metrics.ciede2000(a, b) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
@pytest.mark.parametrize("demosaicing", classical.DEMOSAICINGS)
def test_classical_pictures_of_a_smooth_scene(tmp_path: Path, demosaicing: str, cfa: str) -> None:
    exposure = exposure_without_noise(tmp_path, cfa)
    assert psnr_db(classical.picture(exposure, demosaicing) / 255, exposure.photo / 255) > 40


def test_denoising_tunes_itself_and_helps() -> None:
    truth = smooth_scene()
    noise = np.random.default_rng(0).normal(0, 8, truth.shape)
    noisy = np.clip(np.rint(truth + noise), 0, 255).astype(np.uint8)
    found = classical.tune([(noisy, truth)])
    before, after = (psnr_db(p / 255, truth / 255) for p in (noisy, classical.denoise(noisy, found)))
    assert after > before + 3
    # No other strengths do better: `tune` takes a shorter way than OpenCV's function for coloured pictures.
    others = [(h, c) for h in (4, 8, 14) for c in (3, 20)]
    assert all(psnr_db(classical.denoise(noisy, o) / 255, truth / 255) <= after for o in others)


def test_denoising_needs_strengths_for_the_sensor() -> None:
    unknown = SensorModel(replace(IMX219.profile, name="imaginary"))
    (method,) = (m for m in classical.classical_methods(classical.STRENGTHS) if m.name == "Menon, NLM")
    assert method.made_with(IMX219, capture(5700, 4)).startswith("h ")
    with pytest.raises(EvaluationError, match="sensor 'imaginary' at analogue gain 4; give photographs .*--tune-on"):
        method.made_with(unknown, capture(5700, 4))
    for sensor in ("imx219", "imx477", "imx708", "ov5647"):
        for gain in GAINS:
            for name in classical.DENOISED:
                assert (name, sensor, gain) in classical.STRENGTHS


def test_an_exposure_depends_on_image_sensor_and_capture_only(images: Path) -> None:
    first, again = (expose_image(images / "scene0.png", IMX219, capture(5700, 4)) for _ in range(2))
    np.testing.assert_array_equal(first.codes, again.codes)
    assert not np.array_equal(first.codes, expose_image(images / "scene0.png", IMX219, capture(5700, 16)).codes)


@pytest.mark.parametrize("cfa", list(CELL_PLANES))
def test_networks_see_what_they_were_trained_on(tmp_path: Path, cfa: str) -> None:
    """Mirrored to RGGB: the planes of the scene, mirrored, as training encodes them."""
    exposure = exposure_without_noise(tmp_path, cfa)
    photo = exposure.photo
    if cfa in ("GBRG", "BGGR"):
        photo = photo[::-1]
    if cfa in ("GRBG", "BGGR"):
        photo = photo[:, ::-1]
    sensor = SensorModel(replace(exposure.sensor.profile, cfa="RGGB"))
    expected = simulate(photo, sensor, exposure.capture, np.random.default_rng(0)).inputs
    np.testing.assert_allclose(network_inputs(exposure), expected, atol=1.01 / 255)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Model and weights of a small network, "tiny", that was not trained, as `edge-isp train isp` would write them."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    architecture = Architecture(lambda: PlainNetwork(8, 1), CALIBRATED)
    network = architecture.build().eval()
    torch.save(network.state_dict(), folder / "tiny-generic-float.pt")
    quantised = quantise(trace(merge(network)), [torch.rand(2, 8, 32, 32)], output=architecture.colour.output)
    save_quantised(quantised, folder / "tiny-generic-int8.pt")
    write_isp_model(
        quantised, folder, name="tiny-generic", sensor="generic", colour=architecture.colour, training={}, quality={}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", architecture)
        yield folder


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG"])
def test_every_stage_of_a_network_makes_nearly_the_same_picture(run_folder: Path, tmp_path: Path, cfa: str) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(smooth_scene()).save(path)
    sensor = SensorModel(replace(IMX219.profile, cfa=cfa))
    exposure = expose_image(path, sensor, capture(4000, 4))
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (66, 66, 3), dtype=np.uint8)
    Image.fromarray(noise.repeat(8, 0).repeat(8, 1)).save(photos / "photo.png")
    methods = [
        *weights_methods(run_folder / "tiny-generic-float.pt", "tiny", photos),
        *weights_methods(run_folder / "tiny-generic-int8.pt", "tiny", None),
        model_method(str(run_folder / "tiny-generic.tflite")),
    ]
    assert [method.name.removeprefix("tiny-generic, ") for method in methods] == [
        "float",
        "merged",
        "ptq",
        "qat",
        "int8",
    ]
    pictures = []
    for method in methods:
        with method.open(sensor) as develop:
            pictures.append(develop(exposure))
    branches, merged, ptq, qat, board = (picture.astype(int) for picture in pictures)
    assert np.abs(branches - merged).max() <= 1
    assert np.abs(qat - board).max() <= 2  # the board rounds to entries of tables on its way
    assert psnr_db(merged / 255, ptq / 255) > 35
    assert psnr_db(merged / 255, qat / 255) > 35
    assert psnr_db(branches / 255, exposure.photo / 255) > 20


@pytest.mark.parametrize("network", ["rfdcsanet-t", "rfdcsanet-csa"])
@pytest.mark.parametrize("cfa", ["RGGB", "BGGR"])
def test_pictures_of_sizes_that_are_not_whole_cells(tmp_path: Path, network: str, cfa: str) -> None:
    """As the board makes them: mirrored up to whole cells, and cut."""
    path = tmp_path / "scene.png"
    Image.fromarray(smooth_scene()[:90, :106]).save(path)
    sensor = SensorModel(replace(IMX219.profile, cfa=cfa))
    exposure = expose_image(path, sensor, capture(4000, 4))
    torch.manual_seed(0)
    architecture = ARCHITECTURES[network]
    built = architecture.build().eval()
    torch.save(built.state_dict(), tmp_path / "cells-float.pt")
    graph = trace(merge(built))
    side = architecture.colour.cell // 2 * graph.input_multiple
    height, width = (math.ceil(pixels / 2 / side) * side for pixels in (90, 106))
    inputs = np.pad(network_inputs(exposure), ((0, 0), (0, height - 45), (0, width - 53)), mode="symmetric")
    samples = architecture.colour.network_input(torch.from_numpy(inputs)[None])
    quantised = quantise(graph, [samples], output=architecture.colour.output)
    write_isp_model(
        quantised, tmp_path, name="cells", sensor="generic", colour=architecture.colour, training={}, quality={}
    )
    pictures = []
    for method in (
        *weights_methods(tmp_path / "cells-float.pt", network, None),
        model_method(str(tmp_path / "cells.tflite")),
    ):
        with method.open(sensor) as develop:
            pictures.append(develop(exposure))
    assert [picture.shape for picture in pictures] == [(90, 106, 3)] * 3
    branches, merged, board = (picture.astype(int) for picture in pictures)
    assert np.abs(branches - merged).max() <= 1
    assert psnr_db(merged / 255, board / 255) > 35
    assert psnr_db(merged[-16:] / 255, board[-16:] / 255) > 35
    assert psnr_db(merged[:, -16:] / 255, board[:, -16:] / 255) > 35


def test_weights_are_quantised_once_for_all_sensors(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless their colours are learnt, which are of one sensor."""
    quantised: list[list[SensorModel]] = []

    def samples(photos: list[NDArray[np.uint8]], sensors: list[SensorModel]) -> list[list[Sample]]:
        quantised.append(sensors)
        return [[simulate(photo(), IMX219, capture(5700, 1), np.random.default_rng(0))]]

    def photo() -> NDArray[np.uint8]:
        return smooth_scene()

    monkeypatch.setattr(calibration, "calibration_samples", samples)
    monkeypatch.setattr(calibration, "post_training_quantised", lambda *_: "quantised")
    monkeypatch.setattr("edge_isp.evaluation.isp.weights.round_weights", lambda quantised, inputs: quantised)
    monkeypatch.setattr("edge_isp.evaluation.isp.weights.Integers", lambda quantised: quantised)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(smooth_scene()).save(photos / "photo.png")
    sensors = [IMX219, SensorModel(load_profile("imx477"))]

    def opened(colour: Colour) -> int:
        monkeypatch.setitem(ARCHITECTURES, "tiny", replace(ARCHITECTURES["tiny"], colour=colour))
        quantised.clear()
        (method,) = (
            method
            for method in weights_methods(run_folder / "tiny-generic-float.pt", "tiny", photos)
            if method.name.endswith("ptq")
        )
        for sensor in (*sensors, sensors[0]):
            with method.open(sensor):
                pass
        return len(quantised)

    assert opened(CALIBRATED) == 1
    assert opened(END_TO_END) == 3
    assert [len(used) for used in quantised] == [1, 1, 1]


def test_weights_of_another_network(run_folder: Path, tmp_path: Path) -> None:
    for kind in ("float", "int8"):
        with pytest.raises(ModelError, match=f"tiny-generic-{kind}.pt: expected weights of the network 'rfdcsanet-s'"):
            weights_methods(run_folder / f"tiny-generic-{kind}.pt", "rfdcsanet-s", None)
    with pytest.raises(ModelError, match="no network 'imaginary'; there are "):
        weights_methods(run_folder / "tiny-generic-float.pt", "imaginary", None)
    (tmp_path / "text-float.pt").write_text("no weights")
    with pytest.raises(ModelError, match=r"text-float\.pt: expected weights that 'edge-isp train' wrote"):
        weights_methods(tmp_path / "text-float.pt", "tiny", None)


def counting_method(developed: list[Capture], stop_at: int = 0, made_with: str = "") -> Method[Rgb]:
    """Gives the photograph back; interrupts itself at its n-th picture."""

    @contextmanager
    def opened(sensor: SensorModel) -> Iterator[Develop]:
        def develop(exposure: SimulatedExposure) -> Rgb:
            developed.append(exposure.capture)
            if len(developed) == stop_at:
                raise KeyboardInterrupt
            return exposure.photo

        yield develop

    return Method("counting", lambda sensor, capture: made_with, opened)


def test_figures_are_kept_and_not_measured_again(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "results" / "figures.json"
    captures = [capture(5700, gain) for gain in GAINS]
    paths = sorted(images.iterdir())

    def run(method: Method[Rgb]) -> int:
        plan, store = picture_plan([method], [IMX219], captures, paths), Store(path, "pictures")
        missing = plan.missing(store)
        plan.measure(store)
        return missing

    developed: list[Capture] = []
    with pytest.raises(KeyboardInterrupt):
        run(counting_method(developed, stop_at=5))  # one that is not timed, then three figures
    assert run(counting_method(developed)) == 3
    assert len(developed) == 5 + 1 + 3
    assert run(counting_method(developed)) == 0
    assert len(developed) == 9
    document = json.loads(path.read_text())
    assert len(document["results"]) == 6
    assert len(document["software"]) == 1
    assert {"commit", "numpy", "python"} <= set(document["software"][0])
    assert document["results"][0] | {"seconds": 0} == {
        "method": "counting",
        "made_with": "",
        "sensor": "imx219",
        "cfa": "RGGB",
        "colour_temperature_k": 5700.0,
        "analogue_gain": 1.0,
        "exposure": 1.0,
        "image": "scene0",
        "values": {"psnr_db": pytest.approx(168.13, abs=0.01), "ssim": 1.0, "ciede2000": 0.0},
        "seconds": 0,
        "software": 0,
    }
    # A figure holds for what it was made with, and for nothing else.
    assert run(counting_method(developed, made_with="other weights")) == 6
    assert len(json.loads(path.read_text())["results"]) == 6


def test_a_file_that_holds_no_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("[1, 2]")
    with pytest.raises(EvaluationError, match=r"figures\.json: expected results that 'edge-isp evaluate' wrote"):
        Store(path, "pictures")


def test_images_of_one_name(images: Path) -> None:
    Image.fromarray(smooth_scene()).save(images / "scene0.jpg")
    with pytest.raises(EvaluationError, match="two images are called 'scene0'"):
        picture_plan([], [IMX219], [capture(5700, 1)], sorted(images.iterdir()))


def test_the_evaluate_command(images: Path, tmp_path: Path, run_folder: Path) -> None:
    path = tmp_path / "figures.json"
    arguments = ["evaluate", "isp", "--images", images, "--sensor", "ov5647", "--results", path, "--network", "tiny"]
    arguments += ["--model", run_folder / "tiny-generic.tflite", "--weights", run_folder / "tiny-generic-float.pt"]
    arguments += ["--classical", "--tune-on", images / "scene1.png", "--colour-temperature", "2900"]
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "ov5647, 2900 K: mean of 2 images" in result.output
    assert "('Menon on roots', 'ov5647', 16.0): (" in result.output  # the strengths that were found
    figures = [entry | entry["values"] for entry in json.loads(path.read_text())["results"]]
    assert len(figures) == (3 + len(classical.DEMOSAICINGS) + len(classical.DENOISED)) * len(GAINS) * 2
    menon = [f for f in figures if f["method"] == "Menon on roots, NLM" and f["analogue_gain"] == 1]
    assert all(f["psnr_db"] > 30 and f["made_with"].startswith("h ") for f in menon)
    row = next(line for line in result.output.splitlines() if "tiny-generic, int8" in line)
    mean = np.mean([f["psnr_db"] for f in figures if f["method"] == "tiny-generic, int8"][:2])
    assert f"{mean:.2f}" in row
    # As JSON, from the file: nothing is measured again, so that the strengths need not be found.
    result = CliRunner().invoke(app, [*(str(a) for a in arguments[:12]), "--colour-temperature", "2900", "--json"])
    assert result.exit_code == 0, result.output
    (first, *others) = json.loads(result.stdout)
    assert len(others) == len(GAINS) - 1
    assert first["method"] == "tiny-generic, int8"
    assert first["psnr_db"] == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sensor", "imx296", "--classical"], "no strengths of NLM are known for sensor 'imx296'"),
        (["--model", "a.toml", "--model", "a.toml"], "called 'a, int8'; rename a file"),
    ],
)
def test_the_evaluate_command_says_what_is_wrong(images: Path, arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", "isp", "--images", str(images), *arguments], env={"COLUMNS": "200"})
    assert isinstance(result.exception, EvaluationError)
    assert complaint in str(result.exception)


def test_a_temperature_is_a_number(images: Path) -> None:
    arguments = ["evaluate", "isp", "--images", str(images), "--colour-temperature", "warm"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "Invalid value for '--colour-temperature'" in result.output


def test_the_plot_command(tmp_path: Path) -> None:
    for stage in ("float", "int8"):
        (tmp_path / stage).mkdir()
        lines = [{"step": s, "loss": 1 / s, "validation_psnr_db": {"gain1": 30.0 + s}, "seconds": s} for s in (1, 2, 2)]
        (tmp_path / stage / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = CliRunner().invoke(app, ["train", "plot", str(tmp_path)])
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.width == 800
    result = CliRunner().invoke(app, ["train", "plot", str(tmp_path / "float")], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "found no folder with a log.jsonl" in result.output
