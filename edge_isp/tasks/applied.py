"""What a task applies to a frame, in words."""

from __future__ import annotations

from edge_isp.calibration.frame_colour import colour_temperature_k
from edge_isp.calibration.light import digital_gain
from edge_isp.calibration.profile import SensorProfile
from edge_isp.calibration.readout import sensor_window
from edge_isp.calibration.tone import tone_origin
from edge_isp.corrections import AppliedCorrections, Correction
from edge_isp.errors import ProfileError
from edge_isp.frame import RawFrame
from edge_isp.tasks.lens_shading import shading_window

_NOT_OF_A_DETECTOR = Correction("not for a detector")


def applied_to_picture(
    frame: RawFrame,
    profile: SensorProfile | None,
    *,
    correct_shading: bool,
    correct_defects: bool,
    calibrated: bool,
    tone: str,
) -> AppliedCorrections:
    """What `IspTask` applies to a frame.

    Args:
        frame: with white balance and noise, as it was encoded.
        profile: of its sensor; None where there is none.
        correct_shading: whether lens shading is corrected where it is known.
        correct_defects: whether defective pixels are replaced.
        calibrated: whether the model is of calibrated colour; an end-to-end model has noise and colours in its weights.
        tone: one of `calibration.tone.TONES`.
    """
    in_weights = Correction("in the model's weights", "model")
    return AppliedCorrections(
        black_level=_black_level(frame),
        defects=_defects(frame, profile) if correct_defects else Correction("off, as asked for"),
        white_balance=_white_balance(frame),
        brightness=_brightness(frame),
        lens_shading=_lens_shading(frame, profile) if correct_shading else Correction("off, as asked for"),
        noise=_noise(frame, profile) if calibrated else in_weights,
        colour_matrix=_colour_matrix(frame, profile) if calibrated else in_weights,
        tone=Correction(f"{tone} curve", tone_origin(tone, profile)),
        orientation=_orientation(frame),
    )


def applied_to_detector(frame: RawFrame) -> AppliedCorrections:
    """What `DetectTask` applies to a frame.

    Args:
        frame: with white balance, as it was encoded.
    """
    return AppliedCorrections(
        black_level=_black_level(frame),
        defects=_NOT_OF_A_DETECTOR,
        white_balance=_white_balance(frame),
        brightness=_brightness(frame),
        lens_shading=_NOT_OF_A_DETECTOR,
        noise=_NOT_OF_A_DETECTOR,
        colour_matrix=_NOT_OF_A_DETECTOR,
        tone=_NOT_OF_A_DETECTOR,
        orientation=_orientation(frame),
    )


def _black_level(frame: RawFrame) -> Correction:
    levels = ", ".join(f"{level:g}" for level in frame.black_level)
    return Correction(
        f"R, Gr, Gb, B {levels}; white {frame.white_level:g} ({frame.format.bit_depth} bits)",
        frame.origins.of("black_level"),
    )


def _defects(frame: RawFrame, profile: SensorProfile | None) -> Correction:
    found = "those that stand out"
    if profile is None or not profile.defects:
        return Correction(f"{found}; none are listed", "estimate")
    try:
        sensor_window(frame, profile)
    except ProfileError as error:
        return Correction(f"{found}; {len(profile.defects)} are listed, but {error}", "estimate")
    return Correction(f"{found}, and {len(profile.defects)} listed of the whole sensor", _of(profile))


def _white_balance(frame: RawFrame) -> Correction:
    if frame.colour_gains is None:
        return Correction("none")
    red, blue = frame.colour_gains
    kelvin = f", {frame.colour_temperature_k:.0f} K" if frame.colour_temperature_k is not None else ""
    return Correction(f"red {red:.3f}, blue {blue:.3f}{kelvin}", frame.origins.of("colour_gains"))


def _brightness(frame: RawFrame) -> Correction:
    parts, origins = [], []
    if frame.digital_gain is not None:
        parts.append(f"digital gain {frame.digital_gain:.3g}")
        origins.append(frame.origins.of("digital_gain"))
    if frame.baseline_exposure_ev is not None:
        parts.append(f"baseline exposure {frame.baseline_exposure_ev:+.3g} EV")
        origins.append(frame.origins.of("baseline_exposure_ev"))
    if frame.auto_brightness != 1:
        parts.append(f"automatic {frame.auto_brightness:.3g}")
        origins.append("estimate")
    factor = digital_gain(frame) * frame.auto_brightness
    return Correction(
        f"factor {factor:.3g}{': ' if parts else ''}{', '.join(parts)}", ", ".join(dict.fromkeys(origins))
    )


def _lens_shading(frame: RawFrame, profile: SensorProfile | None) -> Correction:
    try:
        profile, window = shading_window(frame, profile)
    except ProfileError as error:
        return Correction(f"not corrected: {error}")
    light = f"light of {colour_temperature_k(frame, profile):.0f} K"
    return Correction(f"{window}, {light}", _of(profile))


def _noise(frame: RawFrame, profile: SensorProfile | None) -> Correction:
    if frame.noise_profile is not None:
        shot, read = frame.noise_profile
        return Correction(f"variance {shot:.2e} * light + {read:.2e}", frame.origins.of("noise_profile"))
    model = _of(profile) if profile is not None and profile.noise is not None else "typical small sensor"
    gain = 1.0 if frame.analogue_gain is None else frame.analogue_gain
    return Correction(f"analogue gain {gain:g}", f"{frame.origins.of('analogue_gain')}, {model}")


def _colour_matrix(frame: RawFrame, profile: SensorProfile | None) -> Correction:
    if profile is not None and profile.colour_matrices:
        return Correction(f"light of {colour_temperature_k(frame, profile):.0f} K", _of(profile))
    if frame.colour_matrix is not None:
        return Correction("as given for this frame", frame.origins.of("colour_matrix"))
    return Correction("none: colours are off")


def _orientation(frame: RawFrame) -> Correction:
    return (
        Correction(f"{frame.orientation}", frame.origins.of("orientation"))
        if frame.orientation != 1
        else Correction("1: upright")
    )


def _of(profile: SensorProfile) -> str:
    return f"profile '{profile.name}'"
