"""Input that is not good enough is refused, with what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_isp.calibration.measure.black_level import measure_black_level, unrounded
from edge_isp.calibration.measure.colour_chart import measure_colour, patch_centres
from edge_isp.calibration.measure.flat_field import measure_shading, with_shading
from edge_isp.calibration.measure.photon_transfer import measure_noise
from edge_isp.calibration.measure.stack import Stack, read_stacks
from edge_isp.calibration.profile import SensorProfile, load_profile
from edge_isp.calibration.simulation import Flicker, Imperfections
from edge_isp.errors import CalibrationError
from edge_isp.frame import Cfa, Packing, RawFormat, RawFrame
from edge_isp.kernels.pack import pack
from tests.calibration.sensors import TEMPERATURE_K, chart_scene, grey, random_shading, stack_of

HEIGHT, WIDTH = 128, 192
LEVELS = (0.05, 0.1, 0.2, 0.4)


@pytest.fixture
def sensor() -> SensorProfile:
    return replace(load_profile("imx219"), shading=None)


def flats(sensor: SensorProfile, levels: tuple[float, ...] = LEVELS, frames: int = 4) -> list[Stack]:
    scene = grey(1, HEIGHT, WIDTH)
    return [
        stack_of(sensor, scene, frames, exposure=e, seed=i, exposure_ns=round(e * 1e7)) for i, e in enumerate(levels)
    ]


def moving(sensor: SensorProfile) -> Stack:
    still, moved = grey(1, HEIGHT, WIDTH), grey(1, HEIGHT, WIDTH)
    moved[20:60, 30:70] = 0.7
    parts = [stack_of(sensor, scene, 2, exposure=0.4, seed=i) for i, scene in enumerate((still, moved))]
    return replace(parts[0], codes=np.concatenate([part.codes for part in parts]))


def banded(sensor: SensorProfile) -> Stack:
    parts = [
        stack_of(
            sensor,
            grey(1, HEIGHT, WIDTH),
            1,
            exposure=0.4,
            seed=i,
            imperfections=Imperfections(flicker=Flicker(100, 0.3, 2e-2 / HEIGHT, 1e-3, phase)),
        )
        for i, phase in enumerate((0.0, 2.0, 4.0, 1.0))
    ]
    return replace(parts[0], codes=np.concatenate([part.codes for part in parts]))


def test_good_flats_are_measured(sensor: SensorProfile) -> None:
    found = measure_noise(flats(sensor), [], sensor)
    assert sensor.noise is not None
    assert found.noise.shot == pytest.approx(sensor.noise.shot, rel=0.02)


def test_several_gains_tell_read_noise_before_and_after_the_gain(sensor: SensorProfile) -> None:
    assert sensor.noise is not None
    known = replace(sensor, noise=replace(sensor.noise, read_pre_gain=4e-7, read_post_gain=1.5e-6))
    scene = grey(1, HEIGHT, WIDTH)
    stacks = [
        stack_of(known, scene, 8, exposure=e, gain=gain, seed=i) for gain in (1.0, 4.0) for i, e in enumerate(LEVELS)
    ]
    darks = [stack_of(known, grey(0, HEIGHT, WIDTH), 16, gain=gain) for gain in (1.0, 4.0)]
    noise = measure_noise(stacks, darks, known).noise
    assert noise.shot == pytest.approx(sensor.noise.shot, rel=0.02)
    assert noise.read_pre_gain == pytest.approx(4e-7, rel=0.1)
    assert noise.read_post_gain == pytest.approx(1.5e-6, rel=0.1)


def test_black_level_drift_is_measured(sensor: SensorProfile) -> None:
    drifting = replace(sensor, black_level_drift=(0.5, 0.0, -0.25, 1.0))
    darks = [stack_of(drifting, grey(0, HEIGHT, WIDTH), 8, gain=gain) for gain in (1.0, 4.0, 8.0)]
    found = measure_black_level(darks)
    assert found.drift == pytest.approx(drifting.black_level_drift, abs=0.02)
    assert found.level == pytest.approx(sensor.black_level, abs=0.1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda s: flats(s, LEVELS[:3]), "too few exposures at gain 1: expected at least 4, found 3"),
        (lambda s: flats(s, frames=1), "too few frames: expected at least 2 alike, found 1"),
        (lambda s: flats(s, (0.3, 0.35, 0.4, 0.45)), "the brightest exposure at gain 1 must be at least 3 times"),
        (lambda s: flats(s, (*LEVELS, 1.2)), "saturated"),
        (lambda s: [*flats(s), moving(s)], "something moves"),
        (lambda s: [*flats(s), banded(s)], "flicker: bands"),
        (
            lambda s: [*flats(s), stack_of(s, grey(1, HEIGHT, WIDTH), 4, exposure=0.4, changes=(1, 1.05, 0.97, 1))],
            "flicker: brightness changes",
        ),
        (lambda s: [replace(stack, codes=stack.codes[:1].repeat(4, 0)) for stack in flats(s)], "does not grow"),
        (lambda s: [], "too few exposures"),
    ],
)
def test_bad_flats_are_refused(sensor: SensorProfile, bad: object, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        measure_noise(bad(sensor), [], sensor)  # type: ignore[operator]


def test_bad_darks_are_refused(sensor: SensorProfile) -> None:
    with pytest.raises(CalibrationError, match="too few frames: expected at least 4"):
        measure_black_level([stack_of(sensor, grey(0, HEIGHT, WIDTH), 3)])
    with pytest.raises(CalibrationError, match="not dark"):
        measure_black_level([stack_of(sensor, grey(0.8, HEIGHT, WIDTH), 4)])
    leak = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    leak[:40, :60] = 0.05
    with pytest.raises(CalibrationError, match="light gets in"):
        measure_black_level([stack_of(sensor, leak, 4)])
    with pytest.raises(CalibrationError, match="clipped at 0"):
        measure_black_level([stack_of(replace(sensor, black_level=(0, 0, 0, 0)), grey(0, HEIGHT, WIDTH), 4)])


def test_bad_flat_fields_are_refused(sensor: SensorProfile) -> None:
    def measure(stack: Stack) -> None:
        measure_shading(stack, sensor, colour_temperature_k=TEMPERATURE_K)

    with pytest.raises(CalibrationError, match="too few frames or too dark"):
        measure(stack_of(sensor, grey(1, HEIGHT, WIDTH), 2, exposure=0.05))
    scene = grey(1, HEIGHT, WIDTH)
    scene[:, :100] = 0.4
    with pytest.raises(CalibrationError, match="no flat field: brightness jumps"):
        measure(stack_of(sensor, scene, 8, exposure=0.8))
    with pytest.raises(CalibrationError, match="saturated"):
        measure(stack_of(sensor, grey(1, HEIGHT, WIDTH), 4, exposure=1.3))
    with pytest.raises(CalibrationError, match="needs frames of at least"):
        measure(stack_of(sensor, grey(1, 32, 48), 4, exposure=0.8))


def test_shading_of_a_second_temperature_joins_the_first(sensor: SensorProfile) -> None:
    shaded = replace(sensor, shading=random_shading(np.random.default_rng(2)))
    stack = stack_of(shaded, grey(1, HEIGHT, WIDTH), 32, exposure=0.8)
    warm = measure_shading(stack, sensor, colour_temperature_k=3000, rows=6, columns=8)
    cold = measure_shading(stack, sensor, colour_temperature_k=6500, rows=6, columns=8)
    both = with_shading(with_shading(sensor, stack, cold, "d"), stack, warm, "d", keep_others=True)
    assert both.shading is not None
    assert [entry.colour_temperature_k for entry in both.shading.colour] == [3000, 6500]
    other = measure_shading(stack, sensor, colour_temperature_k=4000, rows=3, columns=4)
    with pytest.raises(CalibrationError, match="cannot be joined"):
        with_shading(both, stack, other, "d", keep_others=True)


def test_bad_charts_are_refused(sensor: SensorProfile) -> None:
    pytest.importorskip("colour", reason="colour-science is not installed (extra calibration)")
    from edge_isp.calibration.measure.colour_chart import reference_srgb

    scene, corners = chart_scene(reference_srgb())
    good = stack_of(sensor, scene, 2, exposure=0.85)
    assert measure_colour(good, sensor, corners).errors.mean() < 1
    upside_down = (corners[2], corners[3], corners[0], corners[1])
    with pytest.raises(CalibrationError, match="grey patches must grow darker"):
        measure_colour(good, sensor, upside_down)
    with pytest.raises(CalibrationError, match="is not even"):
        measure_colour(good, sensor, tuple((x + 12.0, y + 12.0) for x, y in corners))  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="must lie inside"):
        measure_colour(good, sensor, tuple((x + 500.0, y) for x, y in corners))  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="saturated"):
        measure_colour(stack_of(sensor, scene, 2, exposure=3.0), sensor, corners)
    with pytest.raises(CalibrationError, match="span a quadrilateral"):
        patch_centres(((0, 0), (1, 1), (2, 2), (3, 3)))


def test_frames_become_stacks_by_exposure() -> None:
    layout = RawFormat(64, 32, Cfa.RGGB, 10, Packing.CSI2P)

    def frame(code: int, exposure_ns: int, raw_format: RawFormat = layout) -> RawFrame:
        codes = np.full((raw_format.height, raw_format.width), code, np.uint16)
        data = pack(codes, packing=raw_format.packing, bit_depth=10)
        return RawFrame(data, raw_format, "box", 0, 0, (64,) * 4, 1023.0, exposure_ns=exposure_ns)

    stacks = read_stacks([frame(100, 1), frame(101, 1), frame(200, 2)])
    assert [(s.codes.shape, int(s.codes.max()), s.exposure_ns) for s in stacks] == [
        ((2, 32, 64), 101, 1),
        ((1, 32, 64), 200, 2),
    ]
    with pytest.raises(CalibrationError, match="no frame"):
        read_stacks([])
    with pytest.raises(CalibrationError, match="one size"):
        read_stacks([frame(1, 1), frame(1, 2, RawFormat(32, 32, Cfa.RGGB, 10, Packing.CSI2P))])


@pytest.mark.parametrize("deviation", [0.3, 0.5, 2.0])
@pytest.mark.parametrize("centre", [64.0, 64.25, 64.5])
def test_rounding_is_taken_out(centre: float, deviation: float) -> None:
    codes = np.rint(np.random.default_rng(5).normal(centre, deviation, 400_000))
    mean, variance = unrounded(float(codes.mean()), float(codes.var()))
    assert mean == pytest.approx(centre, abs=0.01)
    assert np.sqrt(variance) == pytest.approx(deviation, rel=0.02)
