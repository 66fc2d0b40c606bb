"""`edge-isp calibrate`: what is known of a sensor, imported or measured."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge_isp.calibration.dng import load_dng_profile
from edge_isp.calibration.measure import black_level as black
from edge_isp.calibration.measure import colour_chart, flat_field, photon_transfer, plots
from edge_isp.calibration.measure.stack import Stack, read_stacks
from edge_isp.calibration.profile import SensorProfile, load_profile, profile_of
from edge_isp.calibration.profile_file import save_profile
from edge_isp.calibration.tuning import load_libcamera_tuning
from edge_isp.cameras.spec import open_camera
from edge_isp.errors import CalibrationError, ProfileError

calibrate = typer.Typer(
    help="Import or measure what is known of a sensor: black level, noise, lens shading, colour.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option(metavar="FILE.toml", help="The profile to write.")]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The profile to start from, shipped or a path. By default --out's, else the sensor's own."
    ),
]
Frames = Annotated[int, typer.Option(min=1, help="How many to take of each camera or recording.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Plot what was measured (the extra calibration).")]
Temperature = Annotated[
    float | None, typer.Option(min=1000, max=20000, help="Of the light, in kelvin; by default the frames' own.")
]
Dark = Annotated[
    list[str] | None,
    typer.Option(metavar="SPEC", help="Dark frames: a camera or recording as in `run --camera`. May be repeated."),
]


@calibrate.command("import")
def import_profile(
    file: Annotated[Path, typer.Argument(help="A libcamera tuning file (.json) or a DNG.")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="Of the sensor; by default the file's.")] = None,
    bit_depth: Annotated[int, typer.Option(min=8, max=16, help="Of the codes; a tuning file does not say.")] = 10,
    cfa: Annotated[str, typer.Option(help="Colour order from pixel (0,0); a tuning file does not say.")] = "RGGB",
) -> None:
    """Make a profile out of libcamera's tuning file for a sensor, or out of a DNG's tags."""
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
    out: Out,
    dark: Dark = None,
    profile: Profile = None,
    frames: Frames = 16,
    plot: Plot = None,
) -> None:
    """Black level, its drift with gain, patterns and hot pixels, from dark frames (lens cap on)."""
    stacks = _stacks(dark, frames, "dark")
    found = black.measure_black_level(stacks)
    start = _start(profile, out, stacks[0])
    _finish(black.with_black_level(start, stacks, found, _today()), out)
    if plot:
        plots.plot_black_level(found, plot)
    console = Console()
    console.print(f"black level R, Gr, Gb, B: {', '.join(f'{level:.2f}' for level in found.level)} codes")
    console.print(f"drift: {', '.join(f'{drift:.3f}' for drift in found.drift)} codes for each 1 of gain")
    dark_frames = found.by_gain[0]
    console.print(
        f"noise in time {dark_frames.variance**0.5:.2f}, rows {dark_frames.row_deviation:.3f}, columns "
        f"{dark_frames.column_deviation:.3f} codes; {len(found.hot)} hot pixels"
    )


@calibrate.command("noise")
def noise(
    out: Out,
    flat: Annotated[
        list[str], typer.Option(metavar="SPEC", help="Flat frames under one exposure or more. Repeat for others.")
    ],
    dark: Dark = None,
    profile: Profile = None,
    frames: Frames = 16,
    plot: Plot = None,
) -> None:
    """Shot and read noise, full well, PRNU and linearity, from flat frames at four exposures or more."""
    flats = _stacks(flat, frames, "flat")
    darks = _stacks(dark, frames, "dark") if dark else []
    start = _start(profile, out, flats[0])
    found = photon_transfer.measure_noise(flats, darks, start)
    _finish(photon_transfer.with_noise(start, [*flats, *darks], found, _today()), out)
    if plot:
        plots.plot_noise(found, plot)
    console = Console()
    for fit, read in zip(found.fits, found.read_noise_electrons, strict=True):
        console.print(
            f"gain {fit.analogue_gain:g}: {fit.codes_per_electron:.4g} codes per electron, read noise {read:.2f} "
            "electrons"
        )
    linear = "not known (frames without exposure)" if found.linearity is None else f"within {found.linearity:.2%}"
    console.print(
        f"full well {found.full_well_electrons:.0f} electrons, PRNU {found.noise.pixel_response:.2%}, linearity "
        f"{linear}, {len(found.dead)} dead pixels"
    )


@calibrate.command("shading")
def shading(
    out: Out,
    flat: Annotated[str, typer.Option(metavar="SPEC", help="Flat frames: evenly lit paper, or a diffuser.")],
    colour_temperature: Temperature = None,
    profile: Profile = None,
    frames: Frames = 16,
    add: Annotated[bool, typer.Option("--add", help="Keep the profile's tables of other colour temperatures.")] = False,
    plot: Plot = None,
) -> None:
    """Lens shading, from a flat field."""
    stack = _one(_stacks([flat], frames, "flat"))
    start = _start(profile, out, stack)
    kelvin = _kelvin(colour_temperature, stack)
    found = flat_field.measure_shading(stack, start, colour_temperature_k=kelvin)
    _finish(flat_field.with_shading(start, stack, found, _today(), keep_others=add), out)
    if plot:
        plots.plot_shading(found, plot)
    highest = ", ".join(f"{gain:.2f}" for gain in found.gains.max(axis=(1, 2)))
    Console().print(f"highest gain R, Gr, Gb, B: {highest}; each cell within {found.error:.2%}")


@calibrate.command("colour")
def colour(
    out: Out,
    chart: Annotated[str, typer.Option(metavar="SPEC", help="Frames of a 24-patch chart.")],
    corners: Annotated[
        str | None,
        typer.Option(
            metavar="x,y,x,y,x,y,x,y",
            help="Centres of the patches dark skin, bluish green, black and white, in pixels. Without it the chart is "
            "looked for.",
        ),
    ] = None,
    colour_temperature: Temperature = None,
    profile: Profile = None,
    frames: Frames = 16,
    plot: Plot = None,
) -> None:
    """Colour matrix and white balance, from a 24-patch colour chart."""
    stack = _one(_stacks([chart], frames, "chart"))
    start = _start(profile, out, stack)
    kelvin = _kelvin(colour_temperature, stack)
    places = _corners(corners) if corners else colour_chart.find_chart(stack, start)
    found = colour_chart.measure_colour(stack, start, places)
    _finish(colour_chart.with_colour(start, stack, found, _today(), colour_temperature_k=kelvin), out)
    if plot:
        plots.plot_colour(found, plot)
    Console().print(
        f"CIEDE2000 of 24 patches: mean {found.errors.mean():.2f}, largest {found.errors.max():.2f}; white balance red "
        f"{found.gains[0]:.3f}, blue {found.gains[2]:.3f}"
    )


def _stacks(specs: list[str] | None, frames: int, what: str) -> list[Stack]:
    """Frames of cameras or recordings, by exposure."""
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
    if profile is not None:
        found = load_profile(profile)
    elif out.exists():
        found = load_profile(out)
    else:
        found = profile_of(stack.sensor) or SensorProfile(
            stack.sensor or "unknown", stack.bit_depth, stack.cfa, stack.black_level, stack.white_level
        )
    return found.at_bit_depth(stack.bit_depth)


def _finish(profile: SensorProfile, out: Path) -> None:
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
        raise CalibrationError(f"{stack.source}: the frames do not say their light's: give --colour-temperature")
    return kelvin


def _corners(text: str) -> colour_chart.Corners:
    try:
        x0, y0, x1, y1, x2, y2, x3, y3 = (float(number) for number in text.split(","))
    except ValueError:
        raise CalibrationError(f"--corners must be eight numbers x,y,x,y,x,y,x,y, found '{text}'") from None
    return (x0, y0), (x1, y1), (x2, y2), (x3, y3)


def _today() -> str:
    return datetime.date.today().isoformat()
