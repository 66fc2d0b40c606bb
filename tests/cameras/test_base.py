"""What cameras share: settings, their limits and delays, closing."""

from __future__ import annotations

from typing import ClassVar

import pytest

from edge_isp.cameras.base import CameraBase, ControlLimits, Controls
from edge_isp.cameras.delayed_controls import DELAYS, DelayedControls
from edge_isp.errors import CameraError
from edge_isp.frame import RawFrame
from edge_isp.testing import check_camera
from tests.support.frames import frame_of


class Theirs(CameraBase):
    """A camera as others write one."""

    settable: ClassVar[tuple[str, ...]] = ("exposure_ns", "analogue_gain", "colour_gains", "fps")

    def __init__(self) -> None:
        super().__init__("theirs:0")
        self.applied: list[Controls] = []
        self.released = 0
        self.frames = 0

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        if self.closed.is_set():
            return None
        self.frames += 1
        return frame_of(self.frames)

    @property
    def limits(self) -> ControlLimits:
        return ControlLimits((20_000, 30_000_000), (1.0, 8.0))

    def _apply(self, controls: Controls) -> None:
        self.applied.append(controls)

    def _release(self) -> None:
        self.released += 1


class WithoutSettings(Theirs):
    settable = ()
    settable_hint = "it has a fixed lens"


def test_a_camera_derived_from_the_base_passes_the_conformance_suite() -> None:
    check_camera(Theirs)


def test_settings_are_checked_before_they_are_applied() -> None:
    camera = Theirs()
    asked = Controls(exposure_ns=20_000, analogue_gain=8.0, colour_gains=(1.5, 2.0), fps=15.0)
    camera.control(asked)
    camera.control(Controls())
    assert camera.applied == [asked]
    for controls, message in (
        (Controls(exposure_ns=19_999), "exposure_ns must be from 20000 to 30000000 at this frame rate, found 19999"),
        (Controls(analogue_gain=8.1), "analogue_gain must be from 1.0 to 8.0 .* found 8.1"),
        (Controls(analogue_gain=float("nan")), "analogue_gain must be from 1.0 to 8.0 .* found nan"),
        (Controls(fps=0.0), "theirs:0: fps must be a positive number, found 0.0"),
        (Controls(fps=float("nan")), "theirs:0: fps must be a positive number, found nan"),
        (Controls(colour_gains=(1.0, 0.0)), "colour_gains must be two positive numbers"),
        (Controls(auto_exposure=False, exposure_ns=20_000), "theirs:0: auto_exposure cannot be set; this camera takes"),
    ):
        with pytest.raises(CameraError, match=message):
            camera.control(controls)
    assert camera.applied == [asked]
    with pytest.raises(CameraError, match="fps cannot be set; this camera takes no settings; it has a fixed lens"):
        WithoutSettings().control(Controls(fps=1.0))


def test_closing_releases_once_and_ends_control() -> None:
    with Theirs() as camera:
        pass
    camera.close()
    assert camera.released == 1
    assert camera.read() is None
    with pytest.raises(CameraError, match="theirs:0: the camera is closed"):
        camera.control(Controls(fps=1.0))


def test_delayed_settings() -> None:
    settings = DelayedControls(DELAYS, {"exposure_ns": 1000, "analogue_gain": 1.0})
    settings.set(4, {"exposure_ns": 2000, "analogue_gain": 2.0})
    settings.set(5, {"exposure_ns": 3000})
    settings.set(5, {"exposure_ns": 4000})  # the later one holds
    seen = [tuple(settings.at(number).values()) for number in (4, 5, 6, 7, 8)]
    assert seen == [(1000, 1.0), (1000, 2.0), (2000, 2.0), (4000, 2.0), (4000, 2.0)]
    settings.set(8, {"exposure_ns": 5000})
    settings.override(9, {"exposure_ns": 6000})
    assert [settings.at(number)["exposure_ns"] for number in (9, 12)] == [6000, 5000]


def test_settings_of_frames_that_were_lost_are_not() -> None:
    """Frame 20 follows frame 3: what was set meanwhile holds, in its order."""
    settings = DelayedControls({"gain": 1, "exposure": 5}, {})
    assert settings.at(3) == {}
    settings.set(3, {"exposure": 1, "gain": 7})
    settings.set(4, {"exposure": 2})
    settings.set(3, {"exposure": 3})  # of an earlier frame than the one before
    assert settings.at(20) == {"exposure": 2, "gain": 7}
