"""RAW to RGB: the task of a model that replaces the image signal processor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.frame_colour import colour_matrix
from edge_isp.calibration.light import noise_deviation
from edge_isp.calibration.profile import SensorProfile, profile_of
from edge_isp.calibration.tone import check_tone, tone_curve, tone_of_srgb, tone_table
from edge_isp.engines.base import TensorInfo
from edge_isp.errors import ModelError, ProfileError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.decode import decode_rgb, output_table
from edge_isp.kernels.defects import DefectPlan
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import flips_to_rggb
from edge_isp.kernels.residual import TONE_ENTRIES, decode_residual
from edge_isp.kernels.residual_codes import FINE_SCALE, RESIDUAL_SCALE
from edge_isp.kernels.shaded import encode_shaded
from edge_isp.kernels.tables import Factors, steps
from edge_isp.models.card import ModelCard
from edge_isp.orientation import upright_picture
from edge_isp.results import Picture
from edge_isp.tasks.applied import applied_to_picture
from edge_isp.tasks.defects import frame_defects
from edge_isp.tasks.encoding import (
    darkening,
    frame_noise,
    frame_steps,
    frame_tables,
    levels,
    normalised_gains,
    verify_entries,
    verify_input,
    verify_task,
    verify_tensors,
)
from edge_isp.tasks.lens_shading import frame_factors

_log = logging.getLogger(__name__)

# Layouts and channels of input and output for each way to colour, see `TensorCard`.
_TENSORS = {
    "end-to-end": ((("rggb", 4), ("planes12", 12)),),
    "calibrated": (
        (("rggb-noise", 8), ("residual12", 12)),
        (("rggb-noise", 8), ("residual24", 24)),
        (("rggb4x4-noise", 20), ("residual48", 48)),
    ),
}


@dataclass(frozen=True, slots=True)
class _Plain:
    """What `kernels.encode.encode` takes besides the frame: its tables, the noise's constants, and its defects."""

    tables: NDArray[np.int8]
    constants: NDArray[np.int8] | None
    defects: DefectPlan | None


@dataclass(frozen=True, slots=True)
class _Shaded:
    """What `kernels.shaded.encode_shaded` takes besides the frame: lens shading multiplies tables and constants."""

    tables: NDArray[np.uint16]
    constants: NDArray[np.uint16] | None
    factors: Factors
    defects: DefectPlan | None


class IspTask:
    """Encodes frames for a RAW-to-RGB model and decodes its pictures, as the model's card says.

    Frames of every CFA order are mirrored to RGGB on their way in, and the picture back (see
    `kernels.layout.flips_to_rggb`).

    Args:
        card: of the model.
        profile: of the sensor; None is the shipped profile of the frame's sensor.
        correct_shading: whether the lens shading that the profile describes is corrected. None corrects it where the
            profile has it and the part of the sensor that a frame shows is known (see `calibration.readout`); where
            not, one line of the log says why. True makes that an error.
        correct_defects: whether defective pixels are replaced: those that stand out from their neighbours by more than
            the sensor's noise explains, and those that the profile lists.
        tone: "camera" for the camera's own tone curve, see `calibration.tone`; "srgb" for sRGB's transfer curve alone,
            which evaluation and training use.

    Raises:
        ModelError: the card is of another task, or asks for something that this version does not know.
        ProfileError: lens shading must be corrected and the given profile has none, or there is no such tone.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        profile: SensorProfile | None = None,
        correct_shading: bool | None = None,
        correct_defects: bool = True,
        tone: str = "camera",
    ) -> None:
        _verify_card(card)
        self.tone = tone
        if correct_shading and profile is not None and profile.shading is None:
            raise ProfileError(f"sensor profile '{profile.name}' has no lens shading to correct")
        self.card = card
        self._profile, self._correct_shading, self._correct_defects = profile, correct_shading, correct_defects
        self._warned_of: set[str | None] = set()  # sensors without a profile
        self._uncorrected: set[tuple[str, str]] = set()  # what was not corrected, and why
        self._output_table = output_table(card.outputs[0].scale, card.outputs[0].zero_point)
        self._encoding: _Plain | _Shaded | None = None
        self._encoding_of: tuple[Any, ...] | None = None

    @property
    def tone(self) -> str:
        """Of the pictures that are decoded from now on; it may be set at any time, in any thread.

        Raises:
            ProfileError: there is no such tone.
        """
        return self._tone

    @tone.setter
    def tone(self, tone: str) -> None:
        check_tone(tone)
        self._tone = tone

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """See `Task.verify`."""
        verify_tensors(self.card, inputs, outputs)

    def input_shape(self, raw_format: RawFormat) -> tuple[int, int, int, int]:
        """See `Task.input_shape`."""
        return (1, *self.card.input_size(raw_format.width, raw_format.height), self.card.input.shape[3])

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """See `Task.encode`, and `kernels.encode` and `kernels.shaded` for how it is done."""
        encoding = self._encoding_for(frame)
        flips = flips_to_rggb(frame.format.cfa)
        if isinstance(encoding, _Shaded):
            encode_shaded(
                frame.data,
                out[0],
                frame.format.layout,
                tables=encoding.tables,
                factors=encoding.factors,
                zero_point=self.card.input.zero_point,
                flip_vertical=flips.vertical,
                flip_horizontal=flips.horizontal,
                constants=encoding.constants,
                cell=self.card.cell,
                multiple=self.card.input_multiple,
                defects=encoding.defects,
            )
        else:
            encode(
                frame.data,
                out[0],
                frame.format.layout,
                tables=encoding.tables,
                flip_vertical=flips.vertical,
                flip_horizontal=flips.horizontal,
                constants=encoding.constants,
                cell=self.card.cell,
                multiple=self.card.input_multiple,
                defects=encoding.defects,
            )

    def decode(self, outputs: Sequence[NDArray[np.int8]], frame: RawFrame, tensor: NDArray[np.int8]) -> Picture:
        """Decodes the output tensor as a picture of the frame's size; see `Task.decode`.

        Args:
            outputs: of the model.
            frame: that was encoded.
            tensor: the input, to which a calibrated output is the residual.
        """
        rgb = np.empty((frame.format.height, frame.format.width, 3), np.uint8)
        flips = flips_to_rggb(frame.format.cfa)
        profile, brightness = self._profile_of(frame), darkening(frame)
        tone = self._tone
        curve = tone_curve(tone, profile)
        if self.card.colour == "calibrated":
            decode_residual(
                outputs[0][0],
                tensor[0],
                rgb,
                matrix=colour_matrix(frame, profile),
                tone=tone_table(curve, TONE_ENTRIES, brightness),
                cell=self.card.cell,
                multiple=self.card.input_multiple,
                flip_vertical=flips.vertical,
                flip_horizontal=flips.horizontal,
            )
        else:
            decode_rgb(
                outputs[0][0],
                rgb,
                tone_of_srgb(curve, brightness)[self._output_table],
                flip_vertical=flips.vertical,
                flip_horizontal=flips.horizontal,
            )
        applied = applied_to_picture(
            frame,
            profile,
            correct_shading=self._correct_shading is not False,
            correct_defects=self._correct_defects,
            calibrated=self.card.colour == "calibrated",
            tone=tone,
        )
        upright = upright_picture(rgb, frame.orientation)
        return Picture(upright, frame.source, frame.sequence, frame.timestamp_ns, applied)

    def _profile_of(self, frame: RawFrame) -> SensorProfile | None:
        """The profile of the frame's sensor; warns once if there is none."""
        profile = profile_of(frame.sensor, self._profile)
        if profile is None and self.card.colour == "calibrated" and frame.sensor not in self._warned_of:
            self._warned_of.add(frame.sensor)
            _log.warning(
                "%s: there is no profile of sensor %s: %s; noise is estimated; lens shading stays. A profile is made "
                "by 'edge-isp calibrate' and given by its path",
                frame.source,
                f"'{frame.sensor}'" if frame.sensor else "(not named)",
                "colours are those of the file's own matrix" if frame.colour_matrix else "colours will be off",
            )
        return profile

    def _encoding_for(self, frame: RawFrame) -> _Plain | _Shaded:
        """Tables, noise and shading for the kernel; made anew only when one of their inputs changes."""
        profile = self._profile_of(frame)
        gains = normalised_gains(frame)
        key = (
            levels(frame),
            (frame.format.width, frame.format.height, frame.window, frame.lens_shading),
            gains,
            (frame_noise(frame, profile), frame.analogue_gain),
            frame.sensor,
            frame.colour_temperature_k,
        )
        if self._encoding is None or key != self._encoding_of:
            self._encoding, self._encoding_of = self._make_encoding(frame, profile, gains), key
        return self._encoding

    def _make_encoding(
        self, frame: RawFrame, profile: SensorProfile | None, gains: tuple[float, float, float]
    ) -> _Plain | _Shaded:
        source = self.card.input
        noise = None
        if source.layout.endswith("-noise"):
            shot, _ = frame_noise(frame, profile)
            deviation = noise_deviation(shot, 1.0, [gains[0], gains[1], gains[1], gains[2]])
            noise = np.clip(deviation * source.noise_factor, 0, 1) / source.scale
        factors = self._lens_factors(frame, profile)
        defects = self._defects(frame, profile, gains)
        if factors is not None:
            constants = None if noise is None else steps(noise, source.zero_point)
            return _Shaded(frame_steps(frame, gains, source), constants, factors, defects)
        if noise is None:
            return _Plain(frame_tables(frame, gains, source), None, defects)
        codes = np.clip(np.rint(noise) + source.zero_point, -128, 127).astype(np.int8)
        return _Plain(frame_tables(frame, gains, source), codes, defects)

    def _lens_factors(self, frame: RawFrame, profile: SensorProfile | None) -> Factors | None:
        """What corrects the lens shading of a frame; None where it stays as it is.

        Raises:
            ProfileError: it must be corrected, and cannot be.
        """
        automatic = self._correct_shading is None
        # A sensor without a profile is reported already, by `_profile_of` or by the pipeline.
        if self._correct_shading is False or (automatic and (profile is None or not frame.lens_shading)):
            return None
        try:
            return frame_factors(frame, profile, self.card.input.curve)
        except ProfileError as error:
            if not automatic:
                raise ProfileError(f"{frame.source}: lens shading cannot be corrected: {error}") from error
            self._warn_uncorrected(frame, "lens shading is not corrected", str(error))
        return None

    def _defects(
        self, frame: RawFrame, profile: SensorProfile | None, gains: tuple[float, float, float]
    ) -> DefectPlan | None:
        """How defective pixels are found and replaced; None where they stay."""
        if not self._correct_defects:
            return None
        try:
            return frame_defects(frame, profile, gains)
        except ProfileError as error:
            # Those that the profile lists stand out like any others.
            self._warn_uncorrected(frame, "the defective pixels that the profile lists are only looked for", str(error))
            return frame_defects(frame, replace(profile, defects=()) if profile is not None else None, gains)

    def _warn_uncorrected(self, frame: RawFrame, what: str, reason: str) -> None:
        """Says once what stays as it is, and why."""
        if (what, reason) not in self._uncorrected:
            self._uncorrected.add((what, reason))
            _log.warning("%s: %s: %s", frame.source, what, reason)


def _verify_card(card: ModelCard) -> None:
    verify_task(card, "isp")
    if card.colour not in _TENSORS:
        raise ModelError(f"card of '{card.name}': colour must be one of {', '.join(_TENSORS)}, found '{card.colour}'")
    output = card.outputs[0]
    # Of the known pairs the one that the card has most in common with: it names what is wrong with the card.
    (input_layout, input_channels), (output_layout, output_channels) = max(
        _TENSORS[card.colour],
        key=lambda pair: 2 * (pair[0][0] == card.input.layout) + (pair[1][0] == output.layout),
    )
    verify_input(card, layout=input_layout, channels=input_channels)
    verify_entries(
        card,
        ("number of outputs", 1, len(card.outputs)),
        ("output layout", output_layout, output.layout),
        ("output channels", output_channels, output.shape[3]),
        ("output dtype", "int8", output.dtype),
        *([("input_multiple", 1, card.input_multiple)] if card.colour == "end-to-end" else []),
    )
    if card.colour == "calibrated":
        # The kernel that develops the residual counts in these.
        scale = FINE_SCALE if output.layout == "residual24" else RESIDUAL_SCALE
        for what, needed, found in (
            ("input curve", "sqrt", card.input.curve),
            ("input quantisation", (1 / 255, -128), (card.input.scale, card.input.zero_point)),
            ("output quantisation", (scale, 0), (output.scale, output.zero_point)),
        ):
            if found != needed:
                raise ModelError(f"card of '{card.name}': {what} of calibrated colour must be {needed}, found {found}")
