"""Properties of a camera."""

from enum import Enum
from types import SimpleNamespace

draft = SimpleNamespace(ColorFilterArrangementEnum=Enum("ColorFilterArrangementEnum", "RGGB GRBG GBRG BGGR RGB MONO"))
