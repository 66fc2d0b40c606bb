"""Media devices drawn as text, and the set-up file that leads from a sensor to a video device."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.formats import BUS_FORMATS, bus_format_name
from edge_isp.cameras.v4l2.media import Link, MediaDevice, PadFormat
from edge_isp.errors import CameraError


@dataclass(frozen=True, slots=True)
class MediaGraph:
    """What a media device consists of, as text.

    Attributes:
        path: of the media device.
        driver: its name.
        model: what the driver calls the hardware.
        bus: where it is, the same for every start ("platform:fe801000.csi").
        lines: entities with their nodes, links and formats.
        setup: a set-up file that leads from its first sensor to a video device; None where there is no such path.
        problem: why it cannot be asked; None where it can.
    """

    path: str
    driver: str = ""
    model: str = ""
    bus: str = ""
    lines: tuple[str, ...] = ()
    setup: str | None = None
    problem: str | None = None


def media_graphs() -> list[MediaGraph]:
    """The machine's media devices; one that cannot be asked has a problem, and the others are listed all the same."""
    found = []
    for path in v4l2_kernel.nodes("media"):
        try:
            with MediaDevice(path) as media:
                found.append(
                    MediaGraph(path, media.driver, media.model, media.bus, tuple(_lines(media)), propose_setup(media))
                )
        except CameraError as error:
            found.append(MediaGraph(path, problem=str(error)))
    return found


def propose_setup(media: MediaDevice) -> str | None:
    """A set-up file from the first sensor to the nearest video device, with the formats that are set now.

    Args:
        media: the media device.

    Returns:
        TOML; None where no sensor leads to a video device.
    """
    for sensor in media.entities:
        if sensor.is_sensor and (path := _path(media, sensor.name)):
            return _setup(media, sensor.name, path)
    return None


def _lines(media: MediaDevice) -> Iterator[str]:
    for entity in media.entities:
        node = f" ({entity.node})" if entity.node else ""
        yield f"{entity.name}{node}{', sensor' if entity.is_sensor else ''}"
        for link in media.links():
            if link.source[0] == entity.name:
                found = media.pad_format(*link.source)
                state = "on" if link.enabled else "off"
                yield (
                    f"  {link.source[1]} -> '{link.sink[0]}':{link.sink[1]} "
                    f"[{state}{', immutable' if link.immutable else ''}]{f' {found}' if found else ''}"
                )


def _path(media: MediaDevice, sensor: str) -> list[Link]:
    """The links from a sensor to the nearest video device: of equally long paths one whose links are on."""
    links = sorted(media.links(), key=lambda link: not link.enabled)
    video = {each.name for each in media.entities if (each.node or "").startswith("/dev/video")}
    waiting: deque[tuple[str, list[Link]]] = deque([(sensor, [])])
    seen = {sensor}
    while waiting:
        name, path = waiting.popleft()
        for link in links:
            if link.source[0] != name or link.sink[0] in seen:
                continue
            if link.sink[0] in video:
                return [*path, link]
            seen.add(link.sink[0])
            waiting.append((link.sink[0], [*path, link]))
    return []


def _setup(media: MediaDevice, sensor: str, path: list[Link]) -> str:
    lines = [
        f"media = {_text(media.driver)}",
        f"video = {_text(path[-1].sink[0])}",
        f"sensor = {_text(sensor)}",
    ]
    for link in path:
        if not link.immutable:
            lines += [
                "",
                "[[link]]",
                f"source = [{_text(link.source[0])}, {link.source[1]}]",
                f"sink = [{_text(link.sink[0])}, {link.sink[1]}]",
            ]
    before: PadFormat | None = None
    source = media.pad_format(*path[0].source)
    for pad in [end for link in path for end in (link.source, link.sink)][:-1]:
        if source is None or source.code not in BUS_FORMATS.values():
            break
        lines += ["", "[[format]]", f"entity = {_text(pad[0])}", f"pad = {pad[1]}"]
        if before is None:
            lines += [
                f"code = {_text(bus_format_name(source.code))}",
                f"width = {source.width}",
                f"height = {source.height}",
            ]
        before = source
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False)
