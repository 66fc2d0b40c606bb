"""The synthetic camera's fast simulation: it agrees with the sensor model, its noise is new in each frame, and its view
stays within the scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_isp.calibration.light import srgb_decode
from edge_isp.calibration.profile import Defect, SensorProfile, load_profile
from edge_isp.calibration.simulation import Imperfections, SensorModel
from edge_isp.cameras.scene import SceneRenderer, load_scene, view_at
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.errors import CameraError
from edge_isp.frame import Cfa, Packing, RawFormat
from edge_isp.kernels.layout import RawLayout
from edge_isp.kernels.simulate import Conversion, View, ideal_pixels, simulate_frame
from edge_isp.kernels.unpack import unpack

WIDTH, HEIGHT = 320, 240
LIGHT_K = 5000.0
COMMON_SIZES = (
    (320, 240), (640, 360), (640, 480), (800, 600), (1024, 768), (1280, 720), (1280, 960), (1332, 990), (1366, 768),
    (1456, 1088), (1536, 864), (1640, 1232), (1920, 1080), (2028, 1520), (2304, 1296), (2592, 1944), (3280, 2464),
    (3840, 2160), (4000, 3000), (4056, 3040), (4608, 2592),
)  # fmt: skip


def renderer(
    scene: NDArray[np.uint8], profile: SensorProfile, *, imperfections: Imperfections | None = None, seed: int = 3
) -> tuple[SceneRenderer, RawFormat]:
    packing = Packing.CSI2P if profile.bit_depth in (10, 12) else Packing.U16
    height, width, _ = scene.shape
    layout = RawFormat(width, height, Cfa(profile.cfa), profile.bit_depth, packing)
    return SceneRenderer(scene, profile, layout, seed=seed, imperfections=imperfections), layout


def codes_of(made: tuple[SceneRenderer, RawFormat], index: int, *, exposure: float, gain: float) -> NDArray[np.float64]:
    render, layout = made
    data = render.render(index, time_s=0.0, colour_temperature_k=LIGHT_K, exposure=exposure, analogue_gain=gain)
    codes = unpack(data, layout.layout)
    return codes.astype(np.float64)


def grey(level: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def linear(scene: NDArray[np.uint8]) -> NDArray[np.float32]:
    return srgb_decode(scene.astype(np.float32) / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize("bit_depth", [10, 12, 14])
@pytest.mark.parametrize("gain", [1.0, 4.0, 16.0])
def test_noise_has_the_mean_and_variance_of_the_sensor_model(gain: float, bit_depth: int) -> None:
    profile = load_profile("imx219").at_bit_depth(bit_depth)
    for level in (0, 20, 70, 130, 200):
        fast = codes_of(renderer(grey(level), profile), 0, exposure=0.9, gain=gain)
        exact = SensorModel(profile).codes(
            linear(grey(level)),
            np.random.default_rng(1),
            colour_temperature_k=LIGHT_K,
            exposure=0.9,
            analogue_gain=gain,
        )
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ours, theirs = fast[y::2, x::2], exact[y::2, x::2].astype(np.float64)
            deviation = theirs.std()
            assert abs(ours.mean() - theirs.mean()) < 5 * deviation * np.sqrt(2 / ours.size), (level, y, x)
            assert ours.var() == pytest.approx(theirs.var(), rel=0.06), (level, y, x)


def test_bright_light_clips_at_white_level() -> None:
    codes = codes_of(renderer(grey(255), load_profile("imx219")), 0, exposure=4.0, gain=1.0)
    assert codes.min() == codes.max() == 1023


def test_imperfections_are_those_of_the_sensor_model() -> None:
    defects = (Defect(x=5, y=7, response=0.0, offset=0.0), Defect(x=10, y=8, response=1.0, offset=0.5))
    profile = replace(load_profile("imx219"), defects=(*defects, Defect(x=5000, y=1, response=0.0, offset=0.0)))
    imperfections, frames = Imperfections(4), 24
    made = renderer(grey(130), profile, imperfections=imperfections)
    fast = np.mean([codes_of(made, index, exposure=0.9, gain=2.0) for index in range(frames)], 0)
    model, rng = SensorModel(profile), np.random.default_rng(2)
    exact = np.mean(
        [
            model.codes(
                linear(grey(130)),
                rng,
                colour_temperature_k=LIGHT_K,
                exposure=0.9,
                analogue_gain=2.0,
                imperfections=imperfections,
            )
            for _ in range(frames)
        ],
        0,
    )
    assert fast[7, 5] == exact[7, 5] or abs(fast[7, 5] - exact[7, 5]) < 2  # the dead one
    assert fast[8, 10] > fast[8, 14] + 100  # the hot one
    blocks = [image.reshape(HEIGHT // 20, 20, WIDTH // 20, 20).mean((1, 3)) for image in (fast, exact)]
    np.testing.assert_allclose(blocks[0], blocks[1], rtol=0.01)  # the shading
    # What is left of the pixels' pattern is the same.
    left = [image[2::2, 2::2] - image[2::2, 2::2].mean() for image in (fast, exact)]
    assert np.corrcoef(left[0].ravel(), left[1].ravel())[0, 1] > 0.9


def test_row_noise_is_in_the_rows() -> None:
    profile = load_profile("imx219")
    assert profile.noise is not None
    noisy = replace(profile, noise=replace(profile.noise, row=0.01))
    codes = codes_of(renderer(grey(0), noisy, imperfections=Imperfections()), 0, exposure=1.0, gain=1.0)
    assert codes.mean(1).std() == pytest.approx(0.01 * (1023 - 64), rel=0.2)
    assert codes.mean(0).std() < 1


def test_noise_does_not_repeat_within_64_frames() -> None:
    made = renderer(grey(100, 64, 48), load_profile("imx219"))
    frames = np.array([codes_of(made, index, exposure=0.9, gain=8.0).ravel() for index in range(64)])
    noise = frames - frames.mean(0)
    correlation = np.corrcoef(noise) - np.eye(64)
    assert np.abs(correlation).max() < 5 / np.sqrt(frames.shape[1])
    rows = frames.reshape(64 * 48, 64)
    assert len(np.unique(rows, axis=0)) == len(rows)  # neither in the same row nor in another
    # Nor across rows and columns of one frame.
    for shift in (1, 2, 4):
        image = noise[0].reshape(48, 64)
        for a, b in ((image[shift:], image[:-shift]), (image[:, shift:], image[:, :-shift])):
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


def test_a_seed_makes_the_noise() -> None:
    made = [renderer(grey(100), load_profile("imx219"), seed=seed) for seed in (1, 1, 2)]
    first, again, other = (codes_of(each, 5, exposure=0.9, gain=4.0) for each in made)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.8


@pytest.mark.parametrize("cfa", list(Cfa))
def test_each_pixel_sees_its_own_colour(cfa: Cfa) -> None:
    profile = replace(load_profile("imx219"), cfa=str(cfa))
    scene = grey(0)
    scene[..., 0] = 200
    scene[..., 2] = 90
    fast = codes_of(renderer(scene, profile), 0, exposure=0.9, gain=1.0)
    exact = SensorModel(profile).codes(
        linear(scene), np.random.default_rng(0), colour_temperature_k=LIGHT_K, exposure=0.9
    )
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert fast[y::2, x::2].mean() == pytest.approx(exact[y::2, x::2].mean(), abs=0.5)


@pytest.mark.parametrize("width", [66, 68])
def test_a_width_that_is_no_whole_group_of_packed_pixels(width: int) -> None:
    """RAW10 packs four pixels into five bytes."""
    codes = codes_of(renderer(grey(130, width, 48), load_profile("imx219")), 0, exposure=0.9, gain=1.0)
    assert codes.shape == (48, width)
    assert codes[0::2, -1].mean() == pytest.approx(codes[0::2, -3].mean(), rel=0.05)


def test_the_view_is_the_photograph_pixel_by_pixel_where_it_has_the_size_of_a_frame() -> None:
    rng = np.random.default_rng(0)
    scene = np.repeat(np.repeat(rng.integers(0, 256, (24, 32, 1), np.uint8), 2, 0), 2, 1).repeat(3, 2)
    fast = codes_of(renderer(scene, load_profile("imx219")), 0, exposure=0.9, gain=1.0)
    exact = SensorModel(load_profile("imx219")).codes(
        linear(scene), np.random.default_rng(0), colour_temperature_k=LIGHT_K, exposure=0.9
    )
    assert np.corrcoef(fast.ravel(), exact.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("frame", COMMON_SIZES)
def test_the_view_is_within_the_scene_for_10000_frames(frame: tuple[int, int]) -> None:
    scenes = [size for size in COMMON_SIZES if size[0] >= frame[0] and size[1] >= frame[1]]
    for scene in scenes:
        for index in range(10_000):
            view = view_at(index / 30, scene, frame)
            assert 0 <= view.x <= view.x + view.width <= scene[0]
            assert 0 <= view.y <= view.y + view.height <= scene[1]
            assert min(view.width / frame[0], view.height / frame[1]) >= 1
    assert frame in scenes


def test_frame_390_of_a_photograph_that_is_a_little_wider_than_a_frame(tmp_path: Path) -> None:
    """Its view was one unit in the last place greater than the photograph."""
    Image.new("RGB", (1366, 768)).save(tmp_path / "photo.png")
    found = []
    for frame in ((640, 360), (1332, 748), (1280, 720)):
        scene = load_scene(tmp_path / "photo.png", frame)
        made = SceneRenderer(
            scene,
            load_profile("imx219"),
            RawFormat(*frame, Cfa.BGGR, 10, Packing.CSI2P),
            seed=0,
            imperfections=None,
        )
        found.append(made.render(390, time_s=13.0, colour_temperature_k=LIGHT_K, exposure=1.0, analogue_gain=1.0).shape)
    assert found == [(360, 800), (748, 1665), (720, 1600)]


def test_a_view_outside_the_scene_is_refused() -> None:
    planes = np.zeros((3, 10, 10), np.float32)

    def simulate(layout: RawLayout, view: View) -> NDArray[np.uint8]:
        conversion = Conversion(1.0, 0.001, 0.0, (64.0,) * 4, 1023.0)
        errors, row_noise = ideal_pixels(), np.zeros(8, np.float32)
        return simulate_frame(
            planes, layout, view=view, conversion=conversion, errors=errors, row_noise=row_noise, key=0
        )

    assert simulate(RawLayout(8, 8, "u16", 10, "RGGB"), View(2.0, 2.0, 8.0, 8.0)).shape == (8, 16)
    with pytest.raises(ValueError, match="does not lie within the scene of 10x10"):
        simulate(RawLayout(8, 8, "u16", 10, "RGGB"), View(3.0, 0.0, 8.0, 8.0))
    with pytest.raises(ValueError, match="frames of 'csi2p' and 14 bits cannot be simulated"):
        simulate(RawLayout(8, 8, "csi2p", 14, "RGGB"), View(0.0, 0.0, 8.0, 8.0))


def test_the_scene_moves_and_its_light_keeps_pace(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).resize((160, 120)).save(photo)
    with SyntheticCamera(photo, width=64, height=48, fps=None, frames=60) as camera:
        first = camera.read()
        camera.illuminate(light=0.25)
        second = camera.read()
        for _ in range(40):
            last = camera.read()
        assert first is not None and second is not None and last is not None  # noqa: PT018
        bright, dark = (frame.data.reshape(-1, 5)[:, :4].mean() - 16 for frame in (first, second))
        assert dark < 0.4 * bright  # what is brighter than white level clips
        assert np.abs(last.data.astype(float) - second.data).mean() > 5
        for wrong in ({"light": -1.0}, {"light": float("nan")}, {"colour_temperature_k": float("inf")}):
            with pytest.raises(CameraError, match="must be a positive number"):
                camera.illuminate(**wrong)
