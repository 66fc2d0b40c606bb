"""`edge-isp calibrate`, from recordings to a profile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge_isp.calibration.measure.stack import Stack
from edge_isp.calibration.profile import Defect, SensorProfile, load_profile
from edge_isp.cli.main import app
from edge_isp.errors import EdgeIspError
from edge_isp.kernels.pack import pack
from tests.calibration.sensors import TEMPERATURE_K, chart_scene, grey, random_shading, stack_of

HEIGHT, WIDTH = 128, 192


@pytest.fixture
def sensor() -> SensorProfile:
    """A sensor that nobody knows."""
    return replace(
        load_profile("imx219"),
        name="mystery",
        black_level=(60.25, 61.5, 62.0, 63.75),
        shading=None,
        defects=(Defect(20, 30, 1.0, 0.2),),
    )


def record(path: Path, stack: Stack) -> str:
    """A `.raw` recording of a stack; returns its path as a camera specification."""
    layout = f"width = {stack.codes.shape[2]}\nheight = {stack.codes.shape[1]}\n"
    layout += f'cfa = "{stack.cfa}"\nbit_depth = {stack.bit_depth}\npacking = "csi2p"\n'
    frame = f"analogue_gain = {stack.gain}\ncolour_temperature_k = {TEMPERATURE_K}\n"
    if stack.exposure_ns:
        frame += f"exposure_ns = {stack.exposure_ns}\n"
    path.with_suffix(".toml").write_text(
        f"[format]\n{layout}[sensor]\nblack_level = [64, 64, 64, 64]\nwhite_level = 1023\n[frame]\n{frame}"
    )
    path.write_bytes(b"".join(pack(c, packing="csi2p", bit_depth=stack.bit_depth).tobytes() for c in stack.codes))
    return str(path)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["calibrate", *arguments])
    if isinstance(result.exception, EdgeIspError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def is_png(path: Path) -> bool:
    return path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 2000


def levels(sensor: SensorProfile, folder: Path, values: Sequence[float]) -> list[str]:
    arguments = []
    for i, level in enumerate(values):
        stack = stack_of(sensor, grey(1, HEIGHT, WIDTH), 8, exposure=level, seed=i, exposure_ns=round(level * 1e7))
        arguments += ["--flat", record(folder / f"flat{i}.raw", stack)]
    return arguments


def test_from_a_sensor_nobody_knows_to_a_profile(sensor: SensorProfile, tmp_path: Path) -> None:
    pytest.importorskip("colour", reason="colour-science is not installed (extra calibration)")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra calibration)")
    from edge_isp.calibration.measure.colour_chart import reference_srgb

    out, plot = tmp_path / "mystery.toml", tmp_path / "plot.png"
    dark = record(tmp_path / "dark.raw", stack_of(sensor, grey(0, HEIGHT, WIDTH), 16))
    run("black-level", "--dark", dark, "--out", str(out), "--plot", str(plot))
    assert is_png(plot)
    profile = load_profile(out)
    assert profile.black_level == pytest.approx(sensor.black_level, abs=0.1)
    assert [(d.x, d.y) for d in profile.defects] == [(20, 30)]

    run(
        "noise",
        *levels(sensor, tmp_path, (0.05, 0.1, 0.2, 0.4)),
        "--dark",
        dark,
        "--out",
        str(out),
        "--plot",
        str(plot),
    )
    assert is_png(plot)
    noise = load_profile(out).noise
    assert noise is not None
    assert sensor.noise is not None
    assert noise.shot == pytest.approx(sensor.noise.shot, rel=0.02)

    shaded = replace(sensor, shading=random_shading(np.random.default_rng(4), 12, 16))
    flat = record(tmp_path / "flat.raw", stack_of(shaded, grey(1, 2 * HEIGHT, 2 * WIDTH), 32, exposure=0.8))
    run("shading", "--flat", flat, "--frames", "32", "--out", str(out), "--plot", str(plot))
    assert is_png(plot)
    shading = load_profile(out).shading
    assert shading is not None
    assert shaded.shading is not None
    ratio = shading.gains(TEMPERATURE_K) / shaded.shading.gains(TEMPERATURE_K)
    assert ratio == pytest.approx(1, abs=0.02)

    scene, corners = chart_scene(reference_srgb())
    chart = record(tmp_path / "chart.raw", stack_of(sensor, scene, 4, exposure=0.85))
    places = [argument for x, y in corners for argument in ("--corner", f"{x},{y}")]
    run("colour", "--chart", chart, *places, "--out", str(out), "--plot", str(plot))
    assert is_png(plot)
    measured = load_profile(out)
    assert measured.name == "unknown"
    assert measured.colour_matrix(TEMPERATURE_K) == pytest.approx(sensor.colour_matrix(TEMPERATURE_K), abs=0.15)
    sections = {origin.section: origin for origin in measured.provenance}
    assert set(sections) == {"black_level", "defects", "noise", "shading", "colour_matrix", "awb"}
    assert all(origin.source == "measured" and origin.date and origin.conditions for origin in sections.values())
    assert all(origin.confidence for origin in sections.values())


def test_a_refusal_leaves_the_profile_alone(sensor: SensorProfile, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    bright = record(tmp_path / "bright.raw", stack_of(sensor, grey(0.9, HEIGHT, WIDTH), 8))
    with pytest.raises(EdgeIspError, match="not dark"):
        run("black-level", "--dark", bright, "--out", str(out))
    assert not out.exists()
    with pytest.raises(EdgeIspError, match=r"must end in \.toml"):
        run("black-level", "--dark", record(tmp_path / "d.raw", stack_of(sensor, grey(0, 64, 64), 8)), "--out", "x.txt")
    with pytest.raises(EdgeIspError, match="no dark frames"):
        run("black-level", "--out", str(out))
    for given, message in ((["1,2,3"], "expected X,Y in pixels"), (["1,2"] * 3, "give it four times, found 3")):
        corners = [argument for place in given for argument in ("--corner", place)]
        result = CliRunner().invoke(app, ["calibrate", "colour", "--chart", bright, *corners, "--out", str(out)])
        assert result.exit_code == 2
        assert message in result.output


def test_import(tmp_path: Path) -> None:
    data = os.environ.get("EDGE_ISP_DATA")
    if not data:
        pytest.skip("EDGE_ISP_DATA is not set: no tuning files")
    out = tmp_path / "imx477.toml"
    tuning = Path(data) / "tuning" / "vc4_imx477.json"
    result = run("import", str(tuning), "--bit-depth", "12", "--out", str(out))
    assert "lens shading" in result.output
    imported, shipped = load_profile(out), load_profile("imx477")
    assert (imported.shading, imported.awb_curve) == (shipped.shading, shipped.awb_curve)
    assert imported.colour_matrices == shipped.colour_matrices
    with pytest.raises(EdgeIspError, match="expected a libcamera tuning file"):
        run("import", "x.txt", "--out", str(out))
