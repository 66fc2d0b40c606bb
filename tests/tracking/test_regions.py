"""Zones and lines: their file, and what they count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_isp.cameras.spec import demo_scene, open_camera
from edge_isp.errors import ModelError, ZoneError
from edge_isp.pipeline import ModelOptions, Pipeline
from edge_isp.result_json import result_json
from edge_isp.results import Detections, LineCount, ZoneCount
from edge_isp.tracking import Line, Regions, Zone, load_regions
from edge_isp.tracking.following import ObjectFollower
from edge_isp.tracking.regions import RegionCounter
from tests.server.support import open_scene

LEFT = Zone("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
MIDDLE = Line("middle", (0.5, 0.0), (0.5, 1.0))
FILE = """
[[zone]]
name = "door"
polygon = [[0.1, 0.2], [0.4, 0.2], [0.4, 0.9], [0.1, 0.9]]
classes = ["person"]

[[line]]
name = "entrance"
start = [0.5, 0.0]
end = [0.5, 1.0]
"""


def tracked(*objects: tuple[int, float, float], name: int = 0) -> Detections:
    """Objects by their number and where they stand, in parts of a frame of 1000 x 500."""
    feet = np.array([(x * 1000, y * 500) for _, x, y in objects]).reshape(-1, 2)
    boxes = np.concatenate([feet - np.array([10, 40]), feet + np.array([10, 0])], axis=1).astype(np.float32)
    return Detections(
        boxes,
        np.full(len(objects), 0.9, np.float32),
        np.full(len(objects), name, np.int32),
        ("person", "car"),
        "scene",
        0,
        0,
        size=(1000, 500),
        track_id=np.array([number for number, _, _ in objects], np.int32),
    )


def test_a_file_of_zones_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "zones.toml"
    path.write_text(FILE)
    regions = load_regions(path)
    assert regions == Regions(
        (Zone("door", ((0.1, 0.2), (0.4, 0.2), (0.4, 0.9), (0.1, 0.9)), ("person",)),),
        (Line("entrance", (0.5, 0.0), (0.5, 1.0)),),
    )
    assert regions.classes == ("person",)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("polygon", "poligon", "did you mean 'polygon'"),
        ("[[zone]]", "[[zones]]", "did you mean 'zone'"),
        ("[0.1, 0.2], [0.4, 0.2], ", "", "at least three corners"),
        ("0.9], [0.1", "1.9], [0.1", "from 0 to 1"),
        ("[0.1, 0.2]", "[0.1]", "a list of 2 finite numbers"),
        ("[0.1, 0.2]", "[nan, 0.2]", "a list of 2 finite numbers"),
        ("end = [0.5, 1.0]", "end = [0.5, 0.0]", "another point than start"),
        ("start = [0.5, 0.0]", "start = [0.5, -0.1]", "from 0 to 1"),
        ('name = "door"', 'name = ""', "a printable text"),
        ('name = "door"\n', "", "lacks name"),
        ('["person"]', '"person"', "a list of texts"),
        ('["person"]', "[]", "a list of texts"),
        ("end = [0.5, 1.0]", 'end = [0.5, 1.0]\n[[line]]\nname = "entrance"\nstart = [0, 0]\nend = [1, 1]', "two"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in FILE
    path = tmp_path / "zones.toml"
    path.write_text(FILE.replace(before, after, 1))
    with pytest.raises(ZoneError, match="zones.toml: ") as found:
        load_regions(path)
    assert message in str(found.value)


def test_a_file_without_any(tmp_path: Path) -> None:
    path = tmp_path / "zones.toml"
    path.write_text("")
    with pytest.raises(ZoneError, match="neither"):
        load_regions(path)


def test_a_zone_counts_who_is_there_and_who_has_been() -> None:
    counter = RegionCounter(Regions((LEFT,)))
    steps = [
        tracked((1, 0.2, 0.5), (2, 0.8, 0.5)),
        tracked((1, 0.3, 0.5), (2, 0.4, 0.5)),
        tracked((1, 0.7, 0.5), (2, 0.4, 0.5)),
        tracked((1, 0.4, 0.5)),  # comes back: the same object
        tracked((-1, 0.2, 0.5)),  # not tracked
        tracked(),
    ]
    counts = [counter.update(step).zones[0] for step in steps]
    assert [(count.present, count.entered) for count in counts] == [(1, 1), (2, 2), (1, 2), (1, 2), (0, 2), (0, 2)]


def test_a_zone_is_where_the_feet_are_and_may_have_any_shape() -> None:
    corner = Zone("L", ((0.1, 0.1), (0.9, 0.1), (0.9, 0.3), (0.3, 0.3), (0.3, 0.9), (0.1, 0.9)))
    counter = RegionCounter(Regions((corner,)))
    inside = [(0.2, 0.8), (0.8, 0.2), (0.2, 0.2)]
    outside = [(0.5, 0.5), (0.8, 0.8), (0.05, 0.2), (0.2, 0.95), (0.95, 0.2)]
    found = counter.update(tracked(*((number, x, y) for number, (x, y) in enumerate(inside + outside, 1))))
    assert found.zones == (ZoneCount("L", len(inside), len(inside)),)


def test_only_the_classes_that_are_named_count() -> None:
    counter = RegionCounter(Regions((replace(LEFT, classes=("car",)),), (replace(MIDDLE, classes=("car",)),)))
    for x in (0.2, 0.4, 0.6, 0.8):
        found = counter.update(tracked((1, x, 0.5)))
    assert found.zones[0].entered == 0
    assert found.lines[0] == LineCount("middle", 0, 0)
    for x in (0.2, 0.4, 0.6, 0.8):
        found = counter.update(tracked((2, x, 0.5), name=1))
    assert found.zones[0].entered == 1
    assert found.lines[0].to_left == 1


def test_a_line_counts_both_directions() -> None:
    """Looking from its start to its end, down the picture, the picture's left is on the right."""
    counter = RegionCounter(Regions((), (MIDDLE,)))
    for x in (0.2, 0.4, 0.6, 0.8):
        found = counter.update(tracked((1, x, 0.5), (2, 1 - x, 0.2), (3, 0.1, x)))
    assert found.lines == (LineCount("middle", to_right=1, to_left=1),)
    for x in (0.8, 0.45):
        found = counter.update(tracked((1, x, 0.5)))
    assert found.lines == (LineCount("middle", to_right=2, to_left=1),)


def test_the_way_around_a_line_does_not_cross_it() -> None:
    counter = RegionCounter(Regions((), (Line("short", (0.5, 0.4), (0.5, 0.6)),)))
    for x, y in ((0.3, 0.5), (0.3, 0.9), (0.7, 0.9), (0.7, 0.5)):
        found = counter.update(tracked((1, x, y)))
    assert found.lines[0] == LineCount("short", 0, 0)


def test_an_object_that_trembles_on_a_line_is_counted_once() -> None:
    counter = RegionCounter(Regions((), (MIDDLE,)))
    path = [0.4, *([0.499, 0.501] * 20), 0.6]
    for x in path:
        found = counter.update(tracked((1, x, 0.5)))
    assert found.lines[0] == LineCount("middle", to_right=0, to_left=1)


def test_an_object_that_jumps_over_a_line_is_counted() -> None:
    counter = RegionCounter(Regions((), (MIDDLE,)))
    counter.update(tracked((1, 0.1, 0.5)))
    counter.update(tracked())
    assert counter.update(tracked((1, 0.9, 0.5))).lines[0].to_left == 1


def test_objects_that_are_gone_are_forgotten() -> None:
    counter = RegionCounter(Regions((LEFT,), (MIDDLE,)))
    for number in range(1, 3001):
        found = counter.update(tracked((number, 0.2, 0.5)))
    assert found.zones[0].entered == 3000
    held = [vars(each) for each in (*counter._zones, *counter._lines)]
    assert all(len(value) < 1100 for each in held for value in each.values() if isinstance(value, dict))


def test_a_class_that_the_detector_does_not_know() -> None:
    regions = Regions((replace(LEFT, classes=("persn",)),))
    with pytest.raises(ZoneError, match="did you mean 'person'"):
        ObjectFollower(confidence=0.3, regions=regions, class_names=("person", "car"))


@pytest.mark.parametrize("options", [{"track": True}, {"regions": Regions((LEFT,))}])
def test_only_a_detector_s_objects_can_be_tracked(options: dict[str, bool]) -> None:
    with open_scene() as camera, pytest.raises(ModelError, match="only a detector's objects"):
        Pipeline(camera, ModelOptions("rfdcsanet-s", **options))  # type: ignore[arg-type]


def test_a_pipeline_tracks_and_counts_for_its_consumers_and_sinks() -> None:
    """The bird of the shipped scene has number 1 throughout, and stands in a zone."""
    whole = Regions((Zone("everywhere", ((0, 0), (1, 0), (1, 1), (0, 1)), ("bird",)),))
    written: list[dict[str, object]] = []

    class Notes:
        def write(self, result: object) -> None:
            written.append(result_json(result))  # type: ignore[arg-type]

        def close(self) -> None:
            pass

    with Pipeline(
        lambda: open_camera(scene_of_frames(6)),
        ModelOptions("raw-detector", threads=1, track=True, regions=whole),
    ) as pipeline:
        pipeline.add_sink(Notes())
        results = [done.detections for done in pipeline]
    assert [found.tracks[0] for found in results] == [None, 1, 1, 1, 1, 1]
    assert all((found.confidence >= 0.1).all() for found in results)
    assert results[-1].zones == (ZoneCount("everywhere", 1, 1),)
    last = written[-1]
    assert last["detections"][0]["track"] == 1  # type: ignore[index]
    assert last["zones"] == [{"name": "everywhere", "present": 1, "entered": 1}]
    assert (last["width"], last["height"]) == (640, 480)


def test_a_tracked_object_goes_on_below_the_minimum_confidence() -> None:
    """The detector is less certain of the bird in some frames than is asked for here."""
    options = ModelOptions("raw-detector", threads=1, track=True, confidence=0.85)
    with Pipeline(lambda: open_camera(scene_of_frames(30)), options) as pipeline:
        results = [done.detections for done in pipeline]
    uncertain = [found for found in results if len(found) and found.confidence[0] < 0.85]
    assert uncertain
    assert {found.tracks[0] for found in uncertain} == {1}


def test_without_tracking_nothing_changes() -> None:
    with Pipeline(lambda: open_camera(scene_of_frames(1)), ModelOptions("raw-detector", threads=1)) as pipeline:
        (found,) = [done.detections for done in pipeline]
    assert found.track_id is None
    assert found.tracks == [None] * len(found)
    assert (found.confidence >= 0.3).all()
    assert found.size == (640, 480)


def scene_of_frames(frames: int) -> str:
    return f"synthetic:{demo_scene()},fps=none,frames={frames},width=640,height=480"
