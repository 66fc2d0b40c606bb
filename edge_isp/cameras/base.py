"""The protocol of a camera."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from edge_isp.frame import RawFrame


class Camera(Protocol):
    """Delivers RAW frames; a context manager.

    `read` never returns a frame whose buffer can change under the reader before it is released.
    """

    def read(self, timeout_s: float | None = None) -> RawFrame | None:
        """The next frame, or None where there will be none any more (the end of a recording).

        Args:
            timeout_s: seconds to wait at most; None waits for ever.

        Raises:
            CameraError: the camera cannot deliver, or not in time.
            FormatError: what it delivers is not what its format says.
        """
        ...

    def close(self) -> None:
        """Lets the camera go. Doing so twice does no harm."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
