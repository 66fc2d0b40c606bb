"""Zones and lines of a picture, read from a TOML file, and how many objects were in them or crossed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_isp.errors import ZoneError
from edge_isp.results import Detections, LineCount, ZoneCount
from edge_isp.toml_file import TomlTable, read_toml

Point = tuple[float, float]

# A line is crossed when an object stands on the other side by more than this part of the frame's height: one that
# trembles on the line is not counted again and again.
_MARGIN = 0.01


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the picture whose objects are counted.

    An object is in the zone if the middle of its box's lower edge is: where a person stands, not their head.

    Attributes:
        name: of the zone.
        polygon: at least three corners, x and y in parts of the picture's width and height, from the upper left.
        classes: names of the classes that count; empty for all.
    """

    name: str
    polygon: tuple[Point, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line whose crossings are counted, by the middle of the lower edge of an object's box.

    Attributes:
        name: of the line.
        start: x and y in parts of the picture's width and height, from the upper left.
        end: likewise.
        classes: names of the classes that count; empty for all.
    """

    name: str
    start: Point
    end: Point
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Regions:
    """Zones and lines.

    Attributes:
        zones: in the order of their file.
        lines: likewise.
    """

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that a zone or a line names."""
        regions: list[Zone | Line] = [*self.zones, *self.lines]
        return tuple(dict.fromkeys(name for region in regions for name in region.classes))


def load_regions(path: str | Path) -> Regions:
    """Reads zones and lines from a TOML file, see docs/tracking.md.

    Args:
        path: of the file.

    Raises:
        ZoneError: it cannot be read, or a zone or line is not what it must be.
    """
    file = read_toml(path, ZoneError)
    file.check_keys(("zone", "line"))
    zones = tuple(_zone(table) for table in file.tables("zone"))
    lines = tuple(_line(table) for table in file.tables("line"))
    if not zones and not lines:
        file.fail("has neither a [[zone]] nor a [[line]]")
    for kind, names in (("zone", [zone.name for zone in zones]), ("line", [line.name for line in lines])):
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            file.fail(f"two [[{kind}]] have the name '{repeated}': each needs one of its own")
    return Regions(zones, lines)


class RegionCounter:
    """Counts tracked objects in zones and at lines, frame by frame.

    Args:
        regions: zones and lines.
    """

    def __init__(self, regions: Regions) -> None:
        self._zones = [_ZoneCounter(zone) for zone in regions.zones]
        self._lines = [_LineCounter(line) for line in regions.lines]

    def update(self, found: Detections) -> Detections:
        """Counts the objects of the next frame.

        Args:
            found: tracked, with `size`.

        Returns:
            The same detections, with `zones` and `lines`.
        """
        assert found.size is not None
        assert found.track_id is not None
        width, height = found.size
        feet = np.stack([(found.xyxy[:, 0] + found.xyxy[:, 2]) / 2 / width, found.xyxy[:, 3] / height], 1)
        objects = [
            (track, name, (float(x), float(y)))
            for track, name, (x, y) in zip(found.tracks, found.names, feet, strict=True)
            if track is not None
        ]
        return replace(
            found,
            zones=tuple(counter.update(objects) for counter in self._zones),
            lines=tuple(counter.update(objects, width / height) for counter in self._lines),
        )


_Object = tuple[int, str, Point]

# An object that was not seen in so many frames is forgotten: the tracker has given it up long before.
_FORGOTTEN_AFTER = 1000


class _ZoneCounter:
    def __init__(self, zone: Zone) -> None:
        self._zone, self._corners = zone, np.array(zone.polygon)
        self._entered, self._frame = 0, 0
        self._inside: dict[int, int] = {}  # frame in which a counted object was seen last, by its number

    def update(self, objects: Sequence[_Object]) -> ZoneCount:
        self._frame += 1
        present = 0
        for track, name, foot in objects:
            if self._zone.classes and name not in self._zone.classes:
                continue
            inside = _contains(self._corners, foot)
            present += inside
            if inside and track not in self._inside:
                self._entered += 1
            if inside or track in self._inside:
                self._inside[track] = self._frame
        _forget(self._inside, self._frame)
        return ZoneCount(self._zone.name, present, self._entered)


class _LineCounter:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._to_right = self._to_left = self._frame = 0
        self._seen: dict[int, int] = {}  # frame in which an object was seen last, by its number
        self._last: dict[int, Point] = {}  # where it last stood clearly on one side

    def update(self, objects: Sequence[_Object], aspect: float) -> LineCount:
        """Args: objects: tracked. aspect: width by height of the frame, so that distances are the same in x and y."""
        self._frame += 1
        start, end = self._line.start, self._line.end
        length = float(np.hypot((end[0] - start[0]) * aspect, end[1] - start[1]))
        for track, name, foot in objects:
            if self._line.classes and name not in self._line.classes:
                continue
            self._seen[track] = self._frame
            if abs(_side(start, end, foot)) * aspect / length <= _MARGIN:
                continue
            before = self._last.get(track)
            self._last[track] = foot
            if before is not None and _crosses(before, foot, start, end):
                # y points down: a positive side is on the right.
                self._to_right += _side(start, end, foot) > 0
                self._to_left += _side(start, end, foot) < 0
        for track in _forget(self._seen, self._frame):
            self._last.pop(track, None)
        return LineCount(self._line.name, self._to_right, self._to_left)


def _forget(seen: dict[int, int], frame: int) -> list[int]:
    old = [track for track, last in seen.items() if frame - last > _FORGOTTEN_AFTER]
    for track in old:
        del seen[track]
    return old


def _side(start: Point, end: Point, point: Point) -> float:
    """Positive on the right of a line, negative on its left, 0 on it (y points down)."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _crosses(before: Point, after: Point, start: Point, end: Point) -> bool:
    """Whether the way between two points crosses a line between its ends."""
    sides = _side(start, end, before) * _side(start, end, after) < 0
    ends = _side(before, after, start) * _side(before, after, end) <= 0
    return sides and ends


def _contains(corners: NDArray[np.float64], point: Point) -> bool:
    """Whether a point lies in a polygon: a ray to the right crosses its edges an odd number of times."""
    x, y = point
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    spans = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        right = x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return bool(np.count_nonzero(spans & right) % 2)


def _zone(table: TomlTable) -> Zone:
    table.check_keys(("name", "polygon", "classes"), required=("name", "polygon"))
    polygon = tuple((x, y) for x, y in table.rows("polygon", 2))
    if len(polygon) < 3:
        table.refuse("polygon", "at least three corners", table.values["polygon"])
    for corner in polygon:
        _check_inside(table, "polygon", corner)
    return Zone(_name(table), polygon, table.texts("classes") if "classes" in table else ())


def _line(table: TomlTable) -> Line:
    table.check_keys(("name", "start", "end", "classes"), required=("name", "start", "end"))
    ends: list[Point] = []
    for key in ("start", "end"):
        x, y = table.numbers(key, 2)
        _check_inside(table, key, (x, y))
        ends.append((x, y))
    if ends[0] == ends[1]:
        table.refuse("end", "another point than start", table.values["end"])
    return Line(_name(table), ends[0], ends[1], table.texts("classes") if "classes" in table else ())


def _name(table: TomlTable) -> str:
    name = table.text("name")
    if not name.strip() or len(name) > 100 or not name.isprintable():
        table.refuse("name", "a printable text of 1 to 100 characters", name)
    return name


def _check_inside(table: TomlTable, key: str, point: Point) -> None:
    if not all(0 <= value <= 1 for value in point):
        table.refuse(key, "x and y from 0 to 1, in parts of the picture's width and height", list(point))
