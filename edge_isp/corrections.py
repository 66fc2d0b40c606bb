"""What was applied to a frame on its way to a result, and where each figure came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the values of a frame come from.

    Attributes:
        source: of every value that `others` does not name: "camera", "file", "simulation", or "call" for arguments of
            a function.
        others: by the attribute's name in `RawFrame`, in words: "profile 'imx219'", "estimate".
    """

    source: str = "camera"
    others: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """Where a value comes from.

        Args:
            name: the attribute's in `RawFrame`.
        """
        return self.others.get(name, self.source)

    def with_others(self, **others: str) -> Self:
        """A copy in which some values come from elsewhere.

        Args:
            **others: see the attribute.
        """
        return replace(self, others={**self.others, **others})


@dataclass(frozen=True, slots=True)
class Correction:
    """One step from a frame to its result.

    Attributes:
        value: what was applied, or why nothing was, in words.
        origin: where the figures come from: "profile 'imx219'", "file", "camera", "estimate"; "" where nothing was
            applied.
    """

    value: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class AppliedCorrections:
    """What was applied to a frame, in the order in which it is applied.

    Attributes:
        black_level: codes of black and white.
        defects: defective pixels.
        white_balance: gains of red and blue, with the light's colour temperature where it is known.
        brightness: factor on the light, from the camera's digital gain, BaselineExposure and automatic brightness.
        lens_shading: which part of the sensor the frame shows, and under which light.
        noise: that the model was told.
        colour_matrix: camera colour to linear sRGB.
        tone: linear light to the picture's values.
        orientation: how the result was turned, as in EXIF.
    """

    black_level: Correction
    defects: Correction
    white_balance: Correction
    brightness: Correction
    lens_shading: Correction
    noise: Correction
    colour_matrix: Correction
    tone: Correction
    orientation: Correction

    def lines(self) -> list[str]:
        """One line of text for each step: its name, what was applied, and in brackets where it comes from."""
        shown = []
        for step in fields(self):
            correction: Correction = getattr(self, step.name)
            origin = f" [{correction.origin}]" if correction.origin else ""
            shown.append(f"{step.name.replace('_', ' '):13} {correction.value}{origin}")
        return shown
