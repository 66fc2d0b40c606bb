"""Control identifiers, and the names of their values."""

from enum import Enum
from types import SimpleNamespace

from libcamera._libcamera import ANY_SIZE, ControlId, ControlType

ExposureTime = ControlId("ExposureTime")
ExposureTimeMode = ControlId("ExposureTimeMode")
AnalogueGain = ControlId("AnalogueGain")
AnalogueGainMode = ControlId("AnalogueGainMode")
AeEnable = ControlId("AeEnable")
AwbEnable = ControlId("AwbEnable")
AwbMode = ControlId("AwbMode")
ColourGains = ControlId("ColourGains", size=2)
ColourCorrectionMatrix = ControlId("ColourCorrectionMatrix", size=9)
FrameDurationLimits = ControlId("FrameDurationLimits", size=2)
NoiseReductionMode = ControlId("NoiseReductionMode")
ScalerCrop = ControlId("ScalerCrop", ControlType.Rectangle)
Sharpness = ControlId("Sharpness")
HdrMode = ControlId("HdrMode")
AeFlickerMode = ControlId("AeFlickerMode")
AeFlickerPeriod = ControlId("AeFlickerPeriod")
AfMode = ControlId("AfMode")
AfTrigger = ControlId("AfTrigger")
LensPosition = ControlId("LensPosition")
AfWindows = ControlId("AfWindows", ControlType.Rectangle, ANY_SIZE)

AwbModeEnum = Enum("AwbModeEnum", "Auto Incandescent Tungsten Fluorescent Indoor Daylight Cloudy Custom", start=0)
AeFlickerModeEnum = Enum("AeFlickerModeEnum", "Off Manual Auto", start=0)
HdrModeEnum = Enum("HdrModeEnum", "Off MultiExposureUnmerged MultiExposure SingleExposure Night", start=0)
AfModeEnum = Enum("AfModeEnum", "Manual Auto Continuous", start=0)
AfTriggerEnum = Enum("AfTriggerEnum", "Start Cancel", start=0)
AfStateEnum = Enum("AfStateEnum", "Idle Scanning Focused Failed", start=0)

draft = SimpleNamespace(
    NoiseReductionModeEnum=Enum("NoiseReductionModeEnum", "Off Fast HighQuality Minimal ZSL", start=0)
)
rpi = SimpleNamespace(SyncMode=ControlId("SyncMode"), SyncModeEnum=Enum("SyncModeEnum", "Off Server Client", start=0))
