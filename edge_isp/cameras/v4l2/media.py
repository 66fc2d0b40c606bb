"""Media pipelines: links and formats from a sensor to its video device, set up from a small TOML file."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from edge_isp.cameras.v4l2.abi import (
    MEDIA_ENT_F_CAM_SENSOR,
    MEDIA_INTF_T_V4L_SUBDEV,
    MEDIA_INTF_T_V4L_VIDEO,
    MEDIA_IOC_DEVICE_INFO,
    MEDIA_IOC_G_TOPOLOGY,
    MEDIA_IOC_SETUP_LINK,
    MEDIA_LNK_FL_ENABLED,
    MEDIA_LNK_FL_IMMUTABLE,
    MEDIA_LNK_FL_INTERFACE_LINK,
    MEDIA_LNK_FL_LINK_TYPE,
    SUBDEV_FORMAT_ACTIVE,
    VIDIOC_SUBDEV_G_FMT,
    VIDIOC_SUBDEV_S_FMT,
    MediaDeviceInfo,
    MediaEntity,
    MediaInterface,
    MediaLink,
    MediaLinkDescription,
    MediaPad,
    MediaTopology,
    SubdeviceFormat,
)
from edge_isp.cameras.v4l2.controls import V4l2Controls
from edge_isp.cameras.v4l2.device import V4l2Device
from edge_isp.cameras.v4l2.formats import BUS_FORMATS, bus_format_name
from edge_isp.errors import CameraError
from edge_isp.toml_file import TomlTable, read_toml

# Pads and sizes are unsigned numbers of 32 bits in the kernel's structures.
_LARGEST_UNSIGNED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Setup:
    """What a set-up file says.

    Attributes:
        path: of the file.
        media: path of the media device, or its driver's name, model or bus ("platform:fe801000.csi").
        video: entity of the video device to read from.
        sensor: entity of the sensor, None where the video device has its controls.
        links: ((entity, pad), (entity, pad), enabled), source to sink.
        formats: entity, pad, name of the bus format, width, height.
        controls: of the sensor, or of the video device where `sensor` is None, by name.
    """

    path: Path
    media: str
    video: str
    sensor: str | None
    links: tuple[tuple[tuple[str, int], tuple[str, int], bool], ...]
    formats: tuple[tuple[str, int, str, int, int], ...]
    controls: Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class PadFormat:
    """The format of a pad.

    Attributes:
        code: of the format on the bus, as the kernel has it.
        width: in pixels.
        height: in pixels.
    """

    code: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{bus_format_name(self.code)} {self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A media pipeline that is set up.

    Attributes:
        video: path of the video device.
        sensor: path of the sensor's sub-device; None where the set-up file names no sensor.
        source: format of the pad that the video device is linked to; None where that is not known.
    """

    video: str
    sensor: str | None
    source: PadFormat | None


@dataclass(frozen=True, slots=True)
class Link:
    """A data link.

    Attributes:
        source: entity and pad that it begins at.
        sink: entity and pad that it ends at.
        enabled: whether data flows.
        immutable: whether it cannot be switched.
    """

    source: tuple[str, int]
    sink: tuple[str, int]
    enabled: bool
    immutable: bool


@dataclass(frozen=True, slots=True)
class Entity:
    """A part of a media device: a sensor, a receiver, a DMA engine."""

    id: int
    name: str
    node: str | None  # path of its device node
    is_sensor: bool


def read_setup(path: str | Path) -> Setup:
    """Reads a set-up file.

    Args:
        path: of the TOML file.

    Raises:
        CameraError: it cannot be read, or a value is missing, unknown or out of range.
    """
    document = read_toml(path, CameraError)
    document.check_keys(("media", "video", "sensor", "link", "format", "controls"), required=("media", "video"))
    controls = document.table("controls")
    for name, value in controls.values.items():
        if not isinstance(value, int | str):
            controls.refuse(name, "a whole number or a menu's item", value)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            controls.refuse(name, "a whole number of 64 bits", value)
    return Setup(
        path=Path(path),
        media=document.path_text("media"),
        video=document.text("video"),
        sensor=document.text("sensor") if "sensor" in document else None,
        links=tuple(_link(table) for table in document.tables("link")),
        formats=_formats(document),
        controls=controls.values,
    )


def _link(table: TomlTable) -> tuple[tuple[str, int], tuple[str, int], bool]:
    table.check_keys(("source", "sink", "enabled"), required=("source", "sink"))
    return _pad(table, "source"), _pad(table, "sink"), table.flag("enabled", True)


def _pad(table: TomlTable, key: str) -> tuple[str, int]:
    match table.value(key):
        case [str(name), int(index)] if not isinstance(index, bool) and 0 <= index <= _LARGEST_UNSIGNED:
            return name, index
    table.refuse(key, 'an end of a link, ["entity", pad]', table.value(key))


def _formats(document: TomlTable) -> tuple[tuple[str, int, str, int, int], ...]:
    """The formats from the sensor on: code, width and height are those of the entry before where they are left out."""
    found: list[tuple[str, int, str, int, int]] = []
    for table in document.tables("format"):
        inherited = ("code", "width", "height") if found else ()
        keys = ("entity", "pad", "code", "width", "height")
        table.check_keys(keys, required=[key for key in keys if key not in inherited])
        for key in ("pad", "width", "height"):
            if key in table and table.whole(key, lowest=0) > _LARGEST_UNSIGNED:
                table.refuse(key, "a whole number of 32 bits", table.values[key])
        _, _, code, width, height = found[-1] if found else ("", 0, "", 0, 0)
        found.append(
            (
                table.text("entity"),
                table.whole("pad"),
                table.choice("code", tuple(BUS_FORMATS)) if "code" in table else code,
                table.whole("width") if "width" in table else width,
                table.whole("height") if "height" in table else height,
            )
        )
    return tuple(found)


class MediaDevice(V4l2Device):
    """A media device: the entities of a camera's hardware, and the links between them.

    Args:
        path: of the node, "/dev/media0".

    Raises:
        CameraError: it cannot be opened, or is none.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            info = MediaDeviceInfo()
            if self.request(MEDIA_IOC_DEVICE_INFO, info, (errno.ENOTTY, errno.EINVAL)):
                raise CameraError(
                    f"{path}: not a media device; there are: {', '.join(v4l2_kernel.nodes('media')) or 'none'}"
                )
            self.driver = info.driver.decode("utf-8", "replace")
            self.model = info.model.decode("utf-8", "replace")
            self.bus = info.bus_info.decode("utf-8", "replace")
            self._read_topology()
        except BaseException:
            self.close()
            raise

    def entity(self, name: str) -> Entity:
        """An entity by its name.

        Raises:
            CameraError: there is none of that name.
        """
        for entity in self.entities:
            if entity.name == name:
                return entity
        there_are = ", ".join(f"'{entity.name}'" for entity in self.entities)
        raise CameraError(f"{self.path}: no entity '{name}'; there are: {there_are}")

    def links(self) -> list[Link]:
        """The data links, in the driver's order."""
        names = {entity.id: entity.name for entity in self.entities}
        return [
            Link(
                (names[source], source_pad),
                (names[sink], sink_pad),
                bool(flags & MEDIA_LNK_FL_ENABLED),
                bool(flags & MEDIA_LNK_FL_IMMUTABLE),
            )
            for ((source, source_pad), (sink, sink_pad)), flags in self._links.items()
        ]

    def pad_format(self, name: str, pad: int) -> PadFormat | None:
        """The active format of a pad; None where the entity has none, or none without routes.

        Args:
            name: of the entity.
            pad: its index.
        """
        node = self.entity(name).node
        if node is None:
            return None
        with V4l2Device(node) as device:
            content = SubdeviceFormat(which=SUBDEV_FORMAT_ACTIVE, pad=pad)
            if device.request(VIDIOC_SUBDEV_G_FMT, content, (errno.EINVAL, errno.ENOTTY)):
                return None
            found = content.format
            return PadFormat(found.code, found.width, found.height)

    def source_format(self, video: str) -> PadFormat | None:
        """The format of the pad that an entity's enabled link comes from.

        Args:
            video: name of the entity.
        """
        for link in self.links():
            if link.sink[0] == video and link.enabled:
                return self.pad_format(*link.source)
        return None

    def set_link(self, source: tuple[str, int], sink: tuple[str, int], enabled: bool) -> None:
        """Switches a link on or off; one that is so already stays.

        Args:
            source, sink: entity and pad.

        Raises:
            CameraError: there is no such link, or it cannot be changed.
        """
        ends = tuple((self.entity(name).id, index) for name, index in (source, sink))
        described = f"'{source[0]}':{source[1]} -> '{sink[0]}':{sink[1]}"
        flags = self._links.get((ends[0], ends[1]))
        if flags is None:
            raise CameraError(f"{self.path}: there is no link {described}")
        if bool(flags & MEDIA_LNK_FL_ENABLED) == enabled:
            return
        if flags & MEDIA_LNK_FL_IMMUTABLE:
            raise CameraError(f"{self.path}: the link {described} cannot be changed")
        link = MediaLinkDescription(flags=MEDIA_LNK_FL_ENABLED if enabled else 0)
        (link.source.entity, link.source.index), (link.sink.entity, link.sink.index) = ends
        self.request(MEDIA_IOC_SETUP_LINK, link)
        self._read_topology()

    def _read_topology(self) -> None:
        """Entities with their nodes, and the data links; asks twice: how many there are, and what they are."""
        counted = MediaTopology()
        self.request(MEDIA_IOC_G_TOPOLOGY, counted)
        entities = (MediaEntity * counted.num_entities)()
        interfaces = (MediaInterface * counted.num_interfaces)()
        pads = (MediaPad * counted.num_pads)()
        links = (MediaLink * counted.num_links)()
        topology = MediaTopology(
            num_entities=len(entities),
            num_interfaces=len(interfaces),
            num_pads=len(pads),
            num_links=len(links),
            ptr_entities=ctypes.addressof(entities),
            ptr_interfaces=ctypes.addressof(interfaces),
            ptr_pads=ctypes.addressof(pads),
            ptr_links=ctypes.addressof(links),
        )
        self.request(MEDIA_IOC_G_TOPOLOGY, topology)
        nodes = {
            each.id: v4l2_kernel.node_of(each.major, each.minor)
            for each in interfaces
            if each.intf_type in (MEDIA_INTF_T_V4L_VIDEO, MEDIA_INTF_T_V4L_SUBDEV)
        }
        node_of_entity = {
            link.sink_id: nodes.get(link.source_id)
            for link in links
            if link.flags & MEDIA_LNK_FL_LINK_TYPE == MEDIA_LNK_FL_INTERFACE_LINK and link.source_id in nodes
        }
        self.entities = tuple(
            Entity(
                each.id,
                each.name.decode("utf-8", "replace"),
                node_of_entity.get(each.id),
                each.function == MEDIA_ENT_F_CAM_SENSOR,
            )
            for each in entities
        )
        where = {pad.id: (pad.entity_id, pad.index) for pad in pads}
        self._links = {
            (where[link.source_id], where[link.sink_id]): link.flags
            for link in links
            if not link.flags & MEDIA_LNK_FL_LINK_TYPE
        }


def apply_setup(setup: Setup) -> Pipeline:
    """Sets a media pipeline up: links, controls that change the layout, formats, the other controls.

    Args:
        setup: what the file says.

    Raises:
        CameraError: something is not there, or the driver makes something else of it.
    """
    with _open_media(setup) as media:
        for link in setup.links:
            media.set_link(*link)
        video = _node(media, setup.video)
        sensor = None if setup.sensor is None else _node(media, setup.sensor)
        with V4l2Device(sensor or video) as device:
            controls = V4l2Controls(device)
            first = {name for name in setup.controls if controls.describe(name).changes_layout}
            controls.set({name: value for name, value in setup.controls.items() if name in first})
            _set_formats(media, setup)
            controls.refresh()
            controls.set({name: value for name, value in setup.controls.items() if name not in first})
        return Pipeline(video, sensor, media.source_format(setup.video))


def source_of_node(path: str) -> PadFormat | None:
    """The format of the pad that a video device is linked to; None where no media device has it.

    Args:
        path: of the video device.

    Raises:
        CameraError: no media device has it, and one cannot be asked.
    """
    failure: CameraError | None = None
    for media_path in v4l2_kernel.nodes("media"):
        try:
            media = MediaDevice(media_path)
        except CameraError as error:  # as a rule another camera's
            failure = failure or error
            continue
        with media:
            for entity in media.entities:
                if entity.node == path:
                    return media.source_format(entity.name)
    if failure is not None:
        raise failure
    return None


def subdevice_size(device: V4l2Device, pad: int = 0) -> tuple[int, int]:
    """Width and height that a sub-device's pad is set to, in pixels."""
    content = SubdeviceFormat(which=SUBDEV_FORMAT_ACTIVE, pad=pad)
    device.request(VIDIOC_SUBDEV_G_FMT, content)
    return content.format.width, content.format.height


def _open_media(setup: Setup) -> MediaDevice:
    """The media device that a set-up file names: of several of one driver the one with all of its entities."""
    if setup.media.startswith("/"):
        return MediaDevice(setup.media)
    wanted = {setup.video} | ({setup.sensor} if setup.sensor else set()) | {entry[0] for entry in setup.formats}
    wanted |= {end[0] for link in setup.links for end in link[:2]}
    found, first = [], None
    failure: CameraError | None = None
    for path in v4l2_kernel.nodes("media"):
        try:
            media = MediaDevice(path)
        except CameraError as error:  # as a rule another camera's
            failure = failure or error
            continue
        if setup.media in (media.driver, media.model, media.bus):
            if wanted <= {entity.name for entity in media.entities}:
                if first is not None:
                    first.close()
                return media
            if first is None:
                first = media  # its entities are those of the message
                continue
        found.append(f"{path} ({media.driver}, {media.bus})")
        media.close()
    if first is not None:
        return first
    if failure is not None:
        raise failure
    raise CameraError(
        f"{setup.path}: no media device has the driver '{setup.media}'; there are: {', '.join(found) or 'none'}"
    )


def _set_formats(media: MediaDevice, setup: Setup) -> None:
    for name, pad, code, width, height in setup.formats:
        with V4l2Device(_node(media, name)) as device:
            content = SubdeviceFormat(which=SUBDEV_FORMAT_ACTIVE, pad=pad)
            device.request(VIDIOC_SUBDEV_G_FMT, content)
            content.format.code, content.format.width, content.format.height = BUS_FORMATS[code], width, height
            device.request(VIDIOC_SUBDEV_S_FMT, content)
            found = content.format
            if (found.code, found.width, found.height) != (BUS_FORMATS[code], width, height):
                raise CameraError(
                    f"{setup.path}: asked '{name}':{pad} for {code} {width}x{height}, but the driver made it "
                    f"{PadFormat(found.code, found.width, found.height)}"
                )


def _node(media: MediaDevice, name: str) -> str:
    node = media.entity(name).node
    if node is None:
        raise CameraError(f"{media.path}: '{name}' has no device node")
    return node
