"""The camera's settings as the live view changes them: by hand, automatically, or locked."""

from __future__ import annotations

import threading
from dataclasses import replace

from edge_isp.cameras.base import Camera, CameraBase, ControlLimits, Controls, with_controls
from edge_isp.errors import CameraError, EdgeIspError
from edge_isp.frame import RawFrame
from edge_isp.metering.exposure import AutoExposure
from edge_isp.pipeline import Pipeline
from edge_isp.server.messages import ControlsStatus, Limits


class CameraControls:
    """Settings of a pipeline's camera.

    A camera with an automatic exposure or white balance of its own keeps these; for others our metering does it.

    Args:
        pipeline: of the camera.
        metering: of the pipeline; locked for as long as exposure is set by hand.
    """

    def __init__(self, pipeline: Pipeline, metering: AutoExposure) -> None:
        self._pipeline, self._metering = pipeline, metering
        self._lock = threading.Lock()
        # What was asked of a camera that does it itself, as cameras do at the start.
        self._own_exposure = self._own_balance = True
        self._asked = Controls()  # all that was asked for, for a camera that is opened again

    def change(
        self,
        *,
        exposure_ns: int | None = None,
        analogue_gain: float | None = None,
        auto_exposure: bool | None = None,
        auto_white_balance: bool | None = None,
    ) -> None:
        """Changes settings. Setting exposure or gain by hand locks the automatic exposure.

        Args:
            exposure_ns: exposure time in nanoseconds.
            analogue_gain: gain of the sensor's amplifier.
            auto_exposure: true switches the automatic exposure on, false locks what it has reached.
            auto_white_balance: likewise.

        Raises:
            CameraError: the camera cannot do that, or is not there now. Nothing is changed then.
        """
        by_hand = exposure_ns is not None or analogue_gain is not None
        if by_hand and auto_exposure:
            raise CameraError("exposure and gain are set either by hand or automatically: give one of them only")
        asked = Controls(
            exposure_ns=exposure_ns,
            analogue_gain=analogue_gain,
            auto_exposure=auto_exposure if not by_hand else None,
            auto_white_balance=auto_white_balance,
        )
        if by_hand:
            auto_exposure = False
        with self._lock:
            camera = self._camera()
            own_exposure = _does_itself(camera, "auto_exposure")
            own_balance = _does_itself(camera, "auto_white_balance")
            if auto_exposure and not own_exposure:
                _ = camera.limits  # raises where exposure cannot be set, which would end the stream later
            was_locked = self._metering.exposure_locked
            if auto_exposure is not None and not own_exposure:
                self._metering.exposure_locked = not auto_exposure
            try:
                camera.control(_for(camera, asked))
            except EdgeIspError:
                self._metering.exposure_locked = was_locked
                raise
            self._asked = self._asked.then(asked)
            if auto_exposure is not None:
                self._own_exposure = auto_exposure
            if auto_white_balance is not None:
                self._own_balance = auto_white_balance
                if not own_balance:
                    self._metering.white_balance_locked = not auto_white_balance

    def restored(self, camera: Camera) -> Camera:
        """A camera that was opened again, with the settings that were asked for.

        Args:
            camera: that was just opened.

        Raises:
            CameraError: it refuses them.
        """
        # Without the lock: a setting of the camera that has gone may hang with it.
        return with_controls(camera, _for(camera, self._asked))

    def values(self, newest: RawFrame | None) -> ControlsStatus:
        """The present settings and their limits.

        Args:
            newest: the camera's newest frame, which says how it was taken.
        """
        camera = self._pipeline.camera
        own_exposure, own_balance = _does_itself(camera, "auto_exposure"), _does_itself(camera, "auto_white_balance")
        limits, problem = self._limits()
        return ControlsStatus(
            exposure_ns=newest.exposure_ns if newest else None,
            analogue_gain=newest.analogue_gain if newest else None,
            limits=None if limits is None else Limits(limits.exposure_ns, limits.analogue_gain),
            problem=problem,
            auto_exposure=self._own_exposure if own_exposure else not self._metering.exposure_locked,
            auto_white_balance=self._own_balance if own_balance else not self._metering.white_balance_locked,
        )

    def _camera(self) -> Camera:
        camera = self._pipeline.camera
        if camera is None:
            raise CameraError("the camera is not open now: try again when it is back")
        return camera

    def _limits(self) -> tuple[ControlLimits | None, str]:
        """Limits of exposure and gain, and why there are none."""
        try:
            return self._camera().limits, ""
        except EdgeIspError as error:
            return None, str(error)


def _for(camera: Camera, asked: Controls) -> Controls:
    """What a camera is asked for: automatic settings only where it has them itself."""
    return replace(
        asked,
        auto_exposure=asked.auto_exposure if _does_itself(camera, "auto_exposure") else None,
        auto_white_balance=asked.auto_white_balance if _does_itself(camera, "auto_white_balance") else None,
    )


def _does_itself(camera: Camera | None, name: str) -> bool:
    return isinstance(camera, CameraBase) and name in camera.settable
