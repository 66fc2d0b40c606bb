"""For tests of what others build on edge_isp: conformance suites of plug-ins, and cameras that fail on purpose."""

from edge_isp.cameras.faults import (
    Corrupt,
    Disconnect,
    Drop,
    ExposureChange,
    FaultScript,
    Late,
    TimestampJump,
    Truncate,
)
from edge_isp.testing.camera import check_camera
from edge_isp.testing.delegate import check_delegate
from edge_isp.testing.engine import check_engine
from edge_isp.testing.sink import check_sink

__all__ = [
    "Corrupt",
    "Disconnect",
    "Drop",
    "ExposureChange",
    "FaultScript",
    "Late",
    "TimestampJump",
    "Truncate",
    "check_camera",
    "check_delegate",
    "check_engine",
    "check_sink",
]
