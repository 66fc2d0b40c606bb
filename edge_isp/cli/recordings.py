"""`edge-isp info`, `repair` and `export recording`: what is in a recording, its index, and other files of it."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_isp.cli import options

if TYPE_CHECKING:
    from edge_isp.recording.mcap_recording import McapRecording

_File = Annotated[Path, typer.Argument(metavar="FILE.mcap", exists=True, dir_okay=False, help="The recording.")]

_FORMATS = ("raw", "dng", "png", "mp4")


def info(file: _File, as_json: options.Json = False) -> None:
    """Show what is in a recording: cameras, frames, times, what was lost, and what is attached."""
    from edge_isp.recording.mcap_recording import McapRecording

    with McapRecording(file) as recording:
        found = _contents(recording)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    index = "complete" if found["complete"] else "cut off, without an index: 'edge-isp repair' makes one"
    print(f"{found['file']}: {found['bytes']} bytes, {index}")
    if found["begin"]:
        print(f"begins {found['begin']}, {found['seconds']:.3f} s")
    for camera in found["cameras"]:
        print(f"{camera['name']}: {camera['frames']} frames{_rate(camera)}, {camera['format'] or 'no format'}")
        print(f"  sensor {camera['sensor'] or 'not named'}, {camera['previews']} previews", end="")
        print(f", {camera['detections']} messages of detections, {camera['events']} events")
        for reason, number in camera["not_recorded"].items():
            print(f"  {number} frames not recorded: {reason}")
        for reason, number in camera["dropped"].items():
            print(f"  {number} frames dropped before they were a result: {reason}")
    for name, size in found["attachments"].items():
        print(f"attached: {name}, {size} bytes")
    for name, value in found["metadata"].items():
        print(f"{name}: {value}")


def repair(file: _File) -> None:
    """Make the index of a recording that was cut off, in place, so that every MCAP program opens it."""
    from edge_isp.recording.repair import repair as make_index

    done = make_index(file)
    if done.was_complete:
        print(f"{file}: is complete, {done.chunks} chunks; nothing to do")
    else:
        print(f"{file}: {done.chunks} chunks; {done.lost_bytes} bytes behind them were incomplete")


def export_recording(
    file: _File,
    out: Annotated[Path, typer.Option("--out", metavar="DIR|FILE.mp4", help="Folder for the files, or the video.")],
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="|".join(_FORMATS),
            help="'raw' is the sensor's bytes with a sidecar, 'dng' a file for RAW converters per frame; 'png' and "
            "'mp4' are developed pictures.",
        ),
    ],
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="NAME", help="Of the cameras in the recording, where it has several."),
    ] = None,
    frames: options.Frames = None,
    profile: options.Profile = None,
) -> None:
    """Write the frames of a recording as other files."""
    from edge_isp.cli.export_frames import export_frames

    if file_format not in _FORMATS:
        raise typer.BadParameter(f"--format must be one of {', '.join(_FORMATS)}, found '{file_format}'")
    count, where = export_frames(file, camera, file_format, out, frames, profile)
    print(f"{count} frames in {where}")


def _contents(recording: McapRecording) -> dict[str, Any]:
    span = recording.span_ns
    return {
        "file": str(recording.path),
        "bytes": recording.path.stat().st_size,
        "complete": recording.index.is_complete,
        "begin": None if span is None else datetime.fromtimestamp(span[0] / 1e9, UTC).isoformat(),
        "seconds": 0.0 if span is None else (span[1] - span[0]) / 1e9,
        "cameras": [_camera(recording, name) for name in recording.cameras],
        "attachments": {name: len(content) for name, content in recording.attachments().items()},
        "metadata": {k: v for k, v in recording.metadata.items() if k not in ("version", "cameras")},
    }


def _camera(recording: McapRecording, name: str) -> dict[str, Any]:
    from edge_isp.recording.schemas import DETECTIONS, EVENTS, PREVIEW, RAW

    first = next(recording.frames(name), None)
    last = recording.last_frame(name)
    # The same frames may be missing for several consumers of a pipeline.
    lost: dict[str, Counter[str]] = {"not recorded": Counter(), "frames dropped": Counter()}
    by_consumer: Counter[tuple[str, str, str]] = Counter()
    for _, message in recording.json_messages(EVENTS, name):
        kind, reason = str(message.get("kind")), str(message.get("reason"))
        if kind in lost and isinstance(message.get("frames"), int):
            by_consumer[kind, reason, str(message.get("consumer"))] += message["frames"]
    for (kind, reason, _), number in by_consumer.items():
        lost[kind][reason] = max(lost[kind][reason], number)
    return {
        "name": name,
        "frames": recording.count(RAW, name),
        "seconds": (last[0] - first[0]) / 1e9 if first and last else 0.0,
        "format": None if first is None else str(first[1].format),
        "sensor": None if first is None else first[1].sensor,
        "previews": recording.count(PREVIEW, name),
        "detections": recording.count(DETECTIONS, name),
        "events": recording.count(EVENTS, name),
        "not_recorded": dict(lost["not recorded"]),
        "dropped": dict(lost["frames dropped"]),
    }


def _rate(camera: dict[str, Any]) -> str:
    if camera["frames"] < 2 or not camera["seconds"]:
        return ""
    return f", {(camera['frames'] - 1) / camera['seconds']:.2f} per second"
