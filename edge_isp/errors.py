"""The exceptions of edge_isp, one tree.

EdgeIspError
├── FormatError         bytes, sizes or layouts of a RAW frame (also a ValueError)
├── ProfileError        a sensor profile or a tuning file (also a ValueError)
├── CalibrationError    frames that nothing can be measured from
├── CameraError         a camera or a recording cannot deliver
│   ├── CameraTimeoutError       no frame in time; the next `read` may have one
│   └── CameraDisconnectedError  the camera is gone; open it again when it is back
├── ModelError          a model, or the card that describes it
├── EngineError         a runtime cannot load or run a model
├── SinkError           a result cannot be written
├── ConfigError         a configuration file cannot be read or says what nothing knows
├── PipelineError       a pipeline is asked for what it cannot do
├── BenchError          a benchmark cannot be run, or its report not be read or compared
├── ServerError         the live view cannot be served as asked
├── ZoneError           a file of zones and lines (also a ValueError)
├── DatasetError        photographs or labels that a training or an evaluation cannot use
├── EvaluationError     an evaluation cannot be run as asked, or its file of results not be read
└── PluginError         a camera, engine or sink of that name cannot be had
    └── MissingDependencyError   it could, if another package were installed
"""

from __future__ import annotations

from collections.abc import Iterable

# Names of ours are shorter; a longer one is not compared with them.
_LONGEST_NAME = 60
# Characters of a value that a message shows.
_SHOWN = 100


class EdgeIspError(Exception):
    """Base of every exception that edge_isp raises on purpose."""


class FormatError(EdgeIspError, ValueError):
    """The bytes, size or layout of a RAW frame are not what they should be."""


class ProfileError(EdgeIspError, ValueError):
    """A sensor profile or tuning file is missing, malformed or contradicts itself."""


class CalibrationError(EdgeIspError):
    """Frames are not good enough to measure a sensor from: too few, saturated, moving, flickering."""


class CameraError(EdgeIspError):
    """A camera or a recording cannot be opened or cannot deliver a frame."""


class CameraTimeoutError(CameraError):
    """A camera delivered no frame in time. It is still open: the next `read` may have one."""


class CameraDisconnectedError(CameraError):
    """A camera was unplugged, or its driver went. Close it; open it again when it is back."""


class ModelError(EdgeIspError):
    """A model is missing, its card does not describe it, or it cannot be exported as asked."""


class EngineError(EdgeIspError):
    """A runtime cannot load or run a model."""


class SinkError(EdgeIspError):
    """A result cannot be written where it was asked to go."""


class ConfigError(EdgeIspError):
    """A configuration file cannot be read, or a key or a value in it is wrong."""


class PipelineError(EdgeIspError):
    """A pipeline is asked for what it cannot do, or for something at the wrong time."""


class BenchError(EdgeIspError):
    """A benchmark cannot be run as asked, or a report of one cannot be read or compared."""


class ServerError(EdgeIspError):
    """The live view cannot be served as asked: its address or its token."""


class ZoneError(EdgeIspError, ValueError):
    """A file of zones and lines cannot be read, or one of them is not what it must be."""


class DatasetError(EdgeIspError):
    """Photographs or labels are missing, cannot be read, or are not fit for a training or an evaluation."""


class EvaluationError(EdgeIspError):
    """An evaluation cannot be run as asked, or its file of results cannot be read."""


class PluginError(EdgeIspError):
    """No camera, engine or sink of that name can be had."""


class MissingDependencyError(PluginError):
    """A part of edge_isp needs a package that is not installed.

    Args:
        needed_by: what needs it, as the beginning of the message.

    Attributes:
        package: the package that cannot be imported.
        extra: the extra of edge-isp that installs it; "" where none does.
    """

    def __init__(self, needed_by: str, package: str, extra: str) -> None:
        way_out = (
            f"install it with: pip install 'edge-isp[{extra}]'" if extra else "it comes from the hardware's vendor"
        )
        super().__init__(f"{needed_by} needs the package '{package}', which is not installed; {way_out}")
        self.package = package
        self.extra = extra


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest known one, or nothing where none is close.

    Args:
        name: what was given.
        known: what could have been given.

    Returns:
        "" or "; did you mean 'litert'?".
    """
    from difflib import get_close_matches  # only where there is a message to write

    close = get_close_matches(name.lower()[:_LONGEST_NAME], list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def shortened(text: str) -> str:
    """What was given, as a message shows it: printable, and not longer than a line."""
    printable = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text[:_SHOWN])
    return printable if len(text) <= _SHOWN else f"{printable}..."
