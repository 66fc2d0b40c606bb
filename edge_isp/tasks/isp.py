"""RAW to RGB: the task of a model that replaces the image signal processor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_isp.calibration.light import noise_deviation, normalise_gains, srgb_encode
from edge_isp.calibration.profile import SensorProfile, load_profile, shipped_profiles
from edge_isp.engines.base import TensorInfo
from edge_isp.errors import ModelError, ProfileError
from edge_isp.frame import RawFormat, RawFrame
from edge_isp.kernels.decode import decode_rgb, output_table
from edge_isp.kernels.encode import encode
from edge_isp.kernels.layout import flips_to_rggb
from edge_isp.kernels.residual import RESIDUAL_SCALE, TONE_ENTRIES, decode_residual, tone_table
from edge_isp.kernels.statistics import statistics
from edge_isp.kernels.tables import CURVES, encoding_table, shading_choice
from edge_isp.models.card import ModelCard, TensorCard
from edge_isp.results import Picture

_log = logging.getLogger(__name__)

# What the ways to colour are made of: layouts and channels of input and output, see `TensorCard`.
_TENSORS = {
    "end-to-end": (("rggb", 4), ("planes12", 12)),
    "calibrated": (("rggb-noise", 8), ("residual12", 12)),
}

# Of a sensor of which nothing is known: the shot noise of the Raspberry Pi's, and daylight.
UNKNOWN_SHOT_NOISE = 2e-4
_UNKNOWN_COLOUR_TEMPERATURE_K = 5500.0

# Lens shading is corrected in so many steps, on a grid of so many pixels: flat within 0.7 %.
_SHADING_LEVELS, _SHADING_PIXELS = 160, 8


class IspTask:
    """Encodes frames for a RAW-to-RGB model and decodes its pictures, as the model's card says.

    Frames of every CFA order are mirrored to RGGB on their way in, and the picture back (see
    `kernels.layout.flips_to_rggb`).

    Args:
        card: of the model.
        profile: of the sensor; by default the shipped one of the frame's sensor.
        correct_shading: undo the lens shading that the profile knows; frames must show the whole sensor.

    Raises:
        ModelError: the card is of another task, or asks for what this version does not know.
        ProfileError: lens shading is to be corrected and the given profile has none.
    """

    def __init__(self, card: ModelCard, *, profile: SensorProfile | None = None, correct_shading: bool = False) -> None:
        _verify_card(card)
        if correct_shading and profile is not None and profile.shading is None:
            raise ProfileError(f"sensor profile '{profile.name}' has no lens shading to correct")
        self.card = card
        self._profile, self._correct_shading = profile, correct_shading
        self._profiles: dict[str | None, SensorProfile | None] = {}  # by the frames' sensor
        self._output_table = output_table(card.output.scale, card.output.zero_point)
        steps = np.arange(TONE_ENTRIES) / (TONE_ENTRIES - 1)
        self._tone = tone_table(srgb_encode(steps))
        self._encoding: dict[str, Any] = {}
        self._encoding_of: tuple[Any, ...] | None = None

    def verify(self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
        """Raises ModelError where a loaded model's tensors are not what the card says."""
        for what, tensors, card in (("input", inputs, self.card.input), ("output", outputs, self.card.output)):
            if len(tensors) != 1:
                raise ModelError(f"{self.card.path}: expected one {what}, found {len(tensors)}")
            _verify_tensor(f"{self.card.path}: {what}", tensors[0], card)

    def input_shape(self, raw_format: RawFormat) -> tuple[int, int, int, int]:
        """Shape of the input tensor for frames of a format."""
        return (1, raw_format.height // 2, raw_format.width // 2, self.card.input.shape[3])

    def encode(self, frame: RawFrame, out: NDArray[np.int8]) -> None:
        """Frame to input tensor, int8 of `input_shape`; see `kernels.encode.encode`."""
        flip_vertical, flip_horizontal = flips_to_rggb(frame.format.cfa)
        encode(
            frame.data,
            out[0],
            width=frame.format.width,
            height=frame.format.height,
            packing=frame.format.packing,
            bit_depth=frame.format.bit_depth,
            cfa=frame.format.cfa,
            flip_vertical=flip_vertical,
            flip_horizontal=flip_horizontal,
            **self._encoding_for(frame),
        )

    def decode(self, outputs: Sequence[NDArray[np.int8]], frame: RawFrame, tensor: NDArray[np.int8]) -> Picture:
        """Output tensor to picture, of the frame's size.

        Args:
            tensor: the input that the output was made of: a calibrated picture stands on it.
        """
        rgb = np.empty((frame.format.height, frame.format.width, 3), np.uint8)
        flip_vertical, flip_horizontal = flips_to_rggb(frame.format.cfa)
        if self.card.colour == "calibrated":
            decode_residual(
                outputs[0][0],
                tensor[0],
                rgb,
                matrix=self._colour_matrix(frame),
                tone=self._tone,
                flip_vertical=flip_vertical,
                flip_horizontal=flip_horizontal,
            )
        else:
            decode_rgb(
                outputs[0][0], rgb, self._output_table, flip_vertical=flip_vertical, flip_horizontal=flip_horizontal
            )
        return Picture(rgb, frame.source, frame.sequence, frame.timestamp_ns)

    def _profile_of(self, frame: RawFrame) -> SensorProfile | None:
        """The profile of the frame's sensor; says once where there is none."""
        if self._profile is not None:
            return self._profile
        if frame.sensor not in self._profiles:
            known = frame.sensor in shipped_profiles()
            self._profiles[frame.sensor] = load_profile(frame.sensor) if known and frame.sensor else None
            if not known and self.card.colour == "calibrated":
                _log.warning(
                    "%s: there is no profile of sensor %s: %s; its noise is guessed. A profile is made by "
                    "'edge-isp calibrate' and given by its path",
                    frame.source,
                    f"'{frame.sensor}'" if frame.sensor else "(not named)",
                    "colours are those of the file's own matrix" if frame.colour_matrix else "colours will be off",
                )
        return self._profiles[frame.sensor]

    def _colour_matrix(self, frame: RawFrame) -> NDArray[np.float64]:
        profile = self._profile_of(frame)
        if profile is not None and profile.colour_matrices:
            return profile.colour_matrix(_colour_temperature_k(frame, profile))
        if frame.colour_matrix is not None:
            return np.array(frame.colour_matrix).reshape(3, 3)
        return np.eye(3)

    def _encoding_for(self, frame: RawFrame) -> dict[str, Any]:
        """Tables, shading and noise for `kernels.encode.encode`; made anew only when the circumstances change."""
        profile = self._profile_of(frame)
        red, blue = frame.colour_gains or _grey_world(frame)
        gains = normalise_gains(red, 1.0, blue)
        layout = frame.format
        levels = (layout.bit_depth, layout.cfa, frame.black_level, frame.white_level)
        # Shading follows the light's colour, in steps that nobody sees: 160 tables are not made for every frame.
        light = frame.colour_temperature_k and round(frame.colour_temperature_k, -2) if self._correct_shading else None
        key = (levels, (layout.width, layout.height), gains, frame.analogue_gain, frame.sensor, light)
        if key != self._encoding_of:
            self._encoding, self._encoding_of = self._make_encoding(frame, profile, gains), key
        return self._encoding

    def _make_encoding(
        self, frame: RawFrame, profile: SensorProfile | None, gains: tuple[float, float, float]
    ) -> dict[str, NDArray[Any]]:
        lens_gains, shading = np.ones(1), None
        if self._correct_shading:
            lens_gains, shading = self._shading(frame, profile)
        source = self.card.input
        tables = [
            encoding_table(
                bit_depth=frame.format.bit_depth,
                black_level=frame.black_level,
                white_level=frame.white_level,
                gains=gains,
                curve=source.curve,
                scale=source.scale,
                zero_point=source.zero_point,
                lens_gain=float(gain),
            )
            for gain in lens_gains
        ]
        made: dict[str, NDArray[Any]] = {"tables": np.stack(tables) if shading is not None else tables[0]}
        if shading is not None:
            made["shading"] = shading
        if source.layout == "rggb-noise":
            noise = profile.noise if profile else None
            shot = noise.shot if noise else UNKNOWN_SHOT_NOISE
            every = np.array([gains[0], gains[1], gains[1], gains[2]]) * lens_gains[:, None]
            deviation = noise_deviation(shot, frame.analogue_gain or 1.0, every) * source.noise_factor
            codes = np.rint(np.clip(deviation, 0, 1) / source.scale) + source.zero_point
            made["constants"] = np.clip(codes, -128, 127).astype(np.int8)
        return made

    def _shading(self, frame: RawFrame, profile: SensorProfile | None) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        if profile is None or profile.shading is None:
            raise ProfileError(
                f"{frame.source}: lens shading cannot be corrected: sensor "
                f"{repr(frame.sensor) if frame.sensor else '(not named)'} has no profile with it"
            )
        temperature_k = _colour_temperature_k(frame, profile)
        shading = profile.shading.flipped(**_readout(frame.format.cfa, profile))
        gains = shading.channel_gains(temperature_k)
        shape = (-(-frame.format.height // _SHADING_PIXELS), -(-frame.format.width // _SHADING_PIXELS))
        return shading_choice(gains, levels=_SHADING_LEVELS, shape=shape)


def _readout(cfa: str, profile: SensorProfile) -> dict[str, bool]:
    """How the sensor was mirrored, as its colour order tells."""
    for vertical in (False, True):
        for horizontal in (False, True):
            if profile.flipped_cfa(vertical=vertical, horizontal=horizontal) == cfa:
                return {"vertical": vertical, "horizontal": horizontal}
    return {"vertical": False, "horizontal": False}


def _colour_temperature_k(frame: RawFrame, profile: SensorProfile) -> float:
    """Of the light: as the frame says, or by its white balance."""
    if frame.colour_temperature_k is not None:
        return frame.colour_temperature_k
    if frame.colour_gains is not None and profile.awb_curve:
        return profile.colour_temperature_of_gains(*frame.colour_gains)
    return _UNKNOWN_COLOUR_TEMPERATURE_K


def _verify_card(card: ModelCard) -> None:
    if card.task != "isp":
        raise ModelError(f"card of '{card.name}': task must be 'isp', found '{card.task}'")
    if card.colour not in _TENSORS:
        raise ModelError(f"card of '{card.name}': colour must be one of {', '.join(_TENSORS)}, found '{card.colour}'")
    (input_layout, input_channels), (output_layout, output_channels) = _TENSORS[card.colour]
    for what, expected, found in (
        ("input layout", input_layout, card.input.layout),
        ("input channels", input_channels, card.input.shape[3]),
        ("input dtype", "int8", card.input.dtype),
        ("output layout", output_layout, card.output.layout),
        ("output channels", output_channels, card.output.shape[3]),
        ("output dtype", "int8", card.output.dtype),
    ):
        if found != expected:
            raise ModelError(f"card of '{card.name}': {what} must be '{expected}', found '{found}'")
    if card.input.curve not in CURVES:
        raise ModelError(
            f"card of '{card.name}': input curve must be one of {', '.join(CURVES)}, found '{card.input.curve}'"
        )
    if card.colour == "calibrated":
        # The kernel that develops the residual counts in these.
        for what, needed, told in (
            ("input curve", "sqrt", card.input.curve),
            ("input quantisation", (1 / 255, -128), (card.input.scale, card.input.zero_point)),
            ("output quantisation", (RESIDUAL_SCALE, 0), (card.output.scale, card.output.zero_point)),
        ):
            if told != needed:
                raise ModelError(f"card of '{card.name}': {what} of calibrated colour must be {needed}, found {told}")


def _grey_world(frame: RawFrame) -> tuple[float, float]:
    layout = frame.format
    return statistics(
        frame.data,
        width=layout.width,
        height=layout.height,
        packing=layout.packing,
        bit_depth=layout.bit_depth,
        cfa=layout.cfa,
        black_level=frame.black_level,
        white_level=frame.white_level,
    ).grey_world_gains


def _verify_tensor(what: str, tensor: TensorInfo, card: TensorCard) -> None:
    for name, found, expected in (
        ("shape", tensor.shape, card.shape),
        ("dtype", tensor.dtype, card.dtype),
        ("zero point", tensor.zero_point, card.zero_point),
    ):
        if found != expected:
            raise ModelError(f"{what} {name}: the card says {expected}, the model's file has {found}")
    if abs(tensor.scale - card.scale) > 1e-6 * card.scale:
        raise ModelError(f"{what} scale: the card says {card.scale}, the model's file has {tensor.scale}")
