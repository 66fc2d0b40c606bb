"""`edge-isp dng`: frames of any camera or recording as DNG files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from edge_isp.cli import options


def dng(
    out: options.OutFolder,
    camera: options.Camera = None,
    frames: options.Frames = None,
    profile: options.Profile = None,
) -> None:
    """Write frames as DNG files, for RAW converters: the sensor's codes, and all that is known of their colours."""
    from edge_isp.calibration.profile import load_profile
    from edge_isp.cameras.mcap import McapCamera
    from edge_isp.cameras.spec import open_camera
    from edge_isp.cli.export_frames import DngWriter, utc_offset_ns

    known = None if profile is None else load_profile(profile)
    with open_camera(camera) as source:
        offset_ns = utc_offset_ns(source) if isinstance(source, McapCamera) else None
        writer: DngWriter | None = None
        count = 0
        for frame in islice(iter(source.read, None), frames):
            assert frame is not None
            with frame:
                if writer is None:
                    writer = DngWriter(out, Path(frame.source).stem or "frame", known)
                writer.write(frame, offset_ns)
            count += 1
    print(f"{count} frames in {out}")
