"""`edge-isp calibrate`: what is known of a sensor, imported or measured."""

from __future__ import annotations

import datetime
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from edge_isp.cli import options
from edge_isp.errors import CalibrationError, ProfileError

if TYPE_CHECKING:
    from edge_isp.calibration.measure.stack import Stack
    from edge_isp.calibration.profile import SensorProfile

calibrate = typer.Typer(
    help="Import or measure what is known of a sensor: black level, noise, lens shading, colour.",
    no_args_is_help=True,
)

_CORNERS = 4


class Point(NamedTuple):
    """A point of a frame in pixels, as `--corner` has it."""

    x: float
    y: float


def parse_point(text: str | Point) -> Point:
    """The point of a text such as "120.5,80"; raises typer.BadParameter where it is none."""
    number = r"([0-9]{1,5}(?:\.[0-9]{1,9})?)"
    match = re.fullmatch(f"{number},{number}", str(text))
    if match is None:
        raise typer.BadParameter(f"expected X,Y in pixels, such as 120,80; found '{text}'")
    return Point(float(match[1]), float(match[2]))


_Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="The sensor profile to start from: the name of a shipped one, or the path of a .toml. By default it is "
        "that of --out if there is one, else the shipped one of the frames' sensor.",
    ),
]
_Frames = Annotated[
    int, typer.Option("--frames", metavar="N", min=1, help="Stop after N frames of each camera or recording.")
]
_Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.png",
        dir_okay=False,
        help="Draw what was measured into this file. This needs: pip install 'edge-isp[calibration]'.",
    ),
]
_Temperature = Annotated[
    float | None,
    typer.Option(
        "--colour-temperature",
        metavar="KELVIN",
        min=1000,
        max=20000,
        help="Colour temperature of the light. By default it is what the frames say.",
    ),
]
_Dark = Annotated[
    list[str] | None,
    typer.Option(
        "--dark",
        metavar="SPEC",
        help="Dark frames (lens cap on): a camera or recording as in 'edge-isp run --camera'. May be repeated.",
    ),
]


@calibrate.command("import")
def import_profile(
    file: Annotated[Path, typer.Argument(help="A libcamera tuning file (.json) or a DNG.")],
    out: options.OutProfile,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the sensor. By default it is the one in the file.")
    ] = None,
    bit_depth: Annotated[
        int,
        typer.Option(metavar="BITS", min=8, max=16, help="Bit depth; a tuning file has none."),
    ] = 10,
    cfa: Annotated[
        str, typer.Option(metavar="ORDER", help="Colour order from pixel (0,0); a tuning file has none.")
    ] = "RGGB",
) -> None:
    """Make a profile from libcamera's tuning file for a sensor, or from the tags of a DNG."""
    from edge_isp.calibration.dng import load_dng_profile
    from edge_isp.calibration.tuning import load_libcamera_tuning

    match file.suffix.lower():
        case ".json":
            profile = load_libcamera_tuning(file, name=name, bit_depth=bit_depth, cfa=cfa)
        case ".dng":
            profile = load_dng_profile(file)
        case _:
            raise ProfileError(f"{file}: expected a libcamera tuning file (.json) or a .dng")
    _finish(profile, out)


@calibrate.command("black-level")
def black_level(
    out: options.OutProfile,
    dark: _Dark = None,
    profile: _Profile = None,
    frames: _Frames = 16,
    plot: _Plot = None,
) -> None:
    """Measure black level, its drift with gain, patterns and hot pixels, from dark frames (lens cap on)."""
    from edge_isp.calibration.measure import black_level as black

    stacks = _stacks(dark, frames, "dark")
    found = black.measure_black_level(stacks)
    start = _start(profile, out, stacks[0])
    _finish(black.with_black_level(start, stacks, found, _today()), out)
    if plot:
        from edge_isp.calibration.measure import plots

        plots.plot_black_level(found, plot)
    print(f"black level R, Gr, Gb, B: {', '.join(f'{level:.2f}' for level in found.level)} codes")
    print(f"drift: {', '.join(f'{drift:.3f}' for drift in found.drift)} codes for each 1 of gain")
    dark_frames = found.by_gain[0]
    print(
        f"noise in time {dark_frames.variance**0.5:.2f}, rows {dark_frames.row_deviation:.3f}, columns "
        f"{dark_frames.column_deviation:.3f} codes; {len(found.hot)} hot pixels"
    )


@calibrate.command("noise")
def noise(
    out: options.OutProfile,
    flat: Annotated[
        list[str],
        typer.Option(
            metavar="SPEC", help="Flat frames, of one exposure or more: camera or recording. May be repeated."
        ),
    ],
    dark: _Dark = None,
    profile: _Profile = None,
    frames: _Frames = 16,
    plot: _Plot = None,
) -> None:
    """Measure shot and read noise, full well, PRNU and linearity, from flat frames at four exposures or more."""
    from edge_isp.calibration.measure import photon_transfer

    flats = _stacks(flat, frames, "flat")
    darks = _stacks(dark, frames, "dark") if dark else []
    start = _start(profile, out, flats[0])
    found = photon_transfer.measure_noise(flats, darks, start)
    _finish(photon_transfer.with_noise(start, [*flats, *darks], found, _today()), out)
    if plot:
        from edge_isp.calibration.measure import plots

        plots.plot_noise(found, plot)
    for fit, read in zip(found.fits, found.read_noise_electrons, strict=True):
        print(
            f"gain {fit.analogue_gain:g}: {fit.codes_per_electron:.4g} codes per electron, read noise {read:.2f} "
            "electrons"
        )
    linear = "not known (frames without exposure)" if found.linearity is None else f"within {found.linearity:.2%}"
    print(
        f"full well {found.full_well_electrons:.0f} electrons, PRNU {found.noise.pixel_response:.2%}, linearity "
        f"{linear}, {len(found.dead)} dead pixels"
    )


@calibrate.command("shading")
def shading(
    out: options.OutProfile,
    flat: Annotated[str, typer.Option(metavar="SPEC", help="Flat frames: evenly lit paper, or a diffuser.")],
    colour_temperature: _Temperature = None,
    profile: _Profile = None,
    frames: _Frames = 16,
    add: Annotated[bool, typer.Option("--add", help="Keep the profile's tables of other colour temperatures.")] = False,
    plot: _Plot = None,
) -> None:
    """Measure lens shading, from a flat field."""
    from edge_isp.calibration.measure import flat_field

    stack = _one(_stacks([flat], frames, "flat"))
    start = _start(profile, out, stack)
    kelvin = _kelvin(colour_temperature, stack)
    found = flat_field.measure_shading(stack, start, colour_temperature_k=kelvin)
    _finish(flat_field.with_shading(start, stack, found, _today(), keep_others=add), out)
    if plot:
        from edge_isp.calibration.measure import plots

        plots.plot_shading(found, plot)
    highest = ", ".join(f"{gain:.2f}" for gain in found.gains.max(axis=(1, 2)))
    print(f"highest gain R, Gr, Gb, B: {highest}; each cell within {found.error:.2%}")


@calibrate.command("colour")
def colour(
    out: options.OutProfile,
    chart: Annotated[str, typer.Option(metavar="SPEC", help="Frames of a 24-patch chart.")],
    corner: Annotated[
        list[Point] | None,
        typer.Option(
            metavar="X,Y",
            parser=parse_point,
            help="Centre of a patch in pixels. Given four times, for the patches dark skin, bluish green, black and "
            "white, in this order. Without it the chart is searched for.",
        ),
    ] = None,
    colour_temperature: _Temperature = None,
    profile: _Profile = None,
    frames: _Frames = 16,
    plot: _Plot = None,
) -> None:
    """Measure colour matrix and white balance, from a 24-patch colour chart."""
    from edge_isp.calibration.measure import colour_chart

    stack = _one(_stacks([chart], frames, "chart"))
    start = _start(profile, out, stack)
    kelvin = _kelvin(colour_temperature, stack)
    if corner and len(corner) != _CORNERS:
        raise typer.BadParameter(f"give it four times, found {len(corner)}", param_hint="'--corner'")
    places = (corner[0], corner[1], corner[2], corner[3]) if corner else colour_chart.find_chart(stack, start)
    found = colour_chart.measure_colour(stack, start, places)
    _finish(colour_chart.with_colour(start, stack, found, _today(), colour_temperature_k=kelvin), out)
    if plot:
        from edge_isp.calibration.measure import plots

        plots.plot_colour(found, plot)
    print(
        f"CIEDE2000 of 24 patches: mean {found.errors.mean():.2f}, largest {found.errors.max():.2f}; white balance red "
        f"{found.gains[0]:.3f}, blue {found.gains[2]:.3f}"
    )


def _stacks(specs: list[str] | None, frames: int, what: str) -> list[Stack]:
    """Frames of cameras or recordings, by exposure."""
    from edge_isp.calibration.measure.stack import read_stacks
    from edge_isp.cameras.spec import open_camera

    if not specs:
        raise CalibrationError(f"no {what} frames: give --{what} SPEC")
    stacks = []
    for spec in specs:
        with open_camera(spec) as camera:
            stacks.extend(read_stacks(itertools.islice(iter(camera.read, None), frames)))
    return stacks


def _one(stacks: list[Stack]) -> Stack:
    if len(stacks) > 1:
        raise CalibrationError(f"{stacks[0].source}: expected frames of one exposure, found {len(stacks)} exposures")
    return stacks[0]


def _start(profile: str | None, out: Path, stack: Stack) -> SensorProfile:
    """The profile to add a section to, at the frames' bit depth."""
    from edge_isp.calibration.profile import SensorProfile, load_profile, shipped_profiles

    if profile is not None:
        found = load_profile(profile)
    elif out.exists():
        found = load_profile(out)
    elif stack.sensor in shipped_profiles():
        found = load_profile(stack.sensor)
    else:
        name = stack.sensor or "unknown"
        found = SensorProfile(name, stack.bit_depth, stack.cfa, stack.black_level, stack.white_level)
    return found.at_bit_depth(stack.bit_depth)


def _finish(profile: SensorProfile, out: Path) -> None:
    from edge_isp.calibration.profile_file import save_profile

    if out.suffix != ".toml":
        raise ProfileError(f"{out}: a profile's file must end in .toml")
    save_profile(profile, out)
    print(f"{out}: {_summary(profile)}")


def _summary(profile: SensorProfile) -> str:
    have = [
        ("noise", profile.noise),
        ("AWB curve", profile.awb_curve),
        ("colour matrices", profile.colour_matrices),
        ("lens shading", profile.shading),
        (f"{len(profile.defects)} defects", profile.defects),
    ]
    known = ["black level", *(what for what, value in have if value)]
    return f"sensor profile '{profile.name}', {profile.bit_depth} bit: {', '.join(known)}"


def _kelvin(given: float | None, stack: Stack) -> float:
    kelvin = given or stack.colour_temperature_k
    if kelvin is None:
        raise CalibrationError(f"{stack.source}: no colour temperature in the frames: give --colour-temperature KELVIN")
    return kelvin


def _today() -> str:
    return datetime.date.today().isoformat()
