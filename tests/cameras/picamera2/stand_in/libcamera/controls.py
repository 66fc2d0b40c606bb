"""Control identifiers."""

from enum import Enum
from types import SimpleNamespace

from libcamera._libcamera import ControlId, ControlType

ExposureTime = ControlId("ExposureTime")
ExposureTimeMode = ControlId("ExposureTimeMode")
AnalogueGain = ControlId("AnalogueGain")
AnalogueGainMode = ControlId("AnalogueGainMode")
AeEnable = ControlId("AeEnable")
AwbEnable = ControlId("AwbEnable")
ColourGains = ControlId("ColourGains")
FrameDurationLimits = ControlId("FrameDurationLimits")
NoiseReductionMode = ControlId("NoiseReductionMode")
ScalerCrop = ControlId("ScalerCrop", ControlType.Rectangle)

draft = SimpleNamespace(NoiseReductionModeEnum=Enum("NoiseReductionModeEnum", "Off Fast HighQuality Minimal"))
