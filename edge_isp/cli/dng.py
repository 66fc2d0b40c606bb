"""`edge-isp dng`: frames of any camera or recording as DNG files."""

from __future__ import annotations

from itertools import islice

from edge_isp.cli import options


def dng(
    out: options.OutFolder,
    camera: options.Camera = None,
    frames: options.Frames = None,
    profile: options.Profile = None,
) -> None:
    """Write frames as DNG files, for RAW converters: the sensor's codes, and all that is known of their colours."""
    from edge_isp.calibration.profile import load_profile
    from edge_isp.cameras.spec import open_camera
    from edge_isp.cli.export_frames import DngWriter

    known = None if profile is None else load_profile(profile)
    with open_camera(camera) as source:
        writer = DngWriter(out, None, known)
        count = 0
        for frame in islice(iter(source.read, None), frames):
            assert frame is not None
            with frame:
                writer.write(frame)
            count += 1
    print(f"{count} frames in {out}")
