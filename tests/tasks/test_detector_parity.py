"""Two engines' outputs of a detector compared as detections, and what a card says of their differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_isp.errors import ModelError
from edge_isp.models.card import Agreement, find_model, read_card
from edge_isp.tasks.detect import DetectTask

CARD = find_model("raw-detector", None)
TASK = DetectTask(CARD)
OUTPUTS = {(output.stride, output.layout): index for index, output in enumerate(CARD.outputs)}
CELLS = [(5, 5), (5, 20), (20, 5), (20, 20), (12, 12), (3, 12)]


def outputs(
    cells: list[tuple[int, int]], *, class_id: int = 2, lower: int = 0, shift: int = 0
) -> list[NDArray[np.int8]]:
    """Objects of 64 pixels in cells of stride 16, of a confidence near 1 that is lowered by steps of objectness."""
    made = [np.full(output.shape, -128, np.int8) for output in CARD.outputs]
    box, objectness, classes = (OUTPUTS[16, layout] for layout in ("box", "objectness", "class"))
    side = CARD.outputs[box]
    size = round(np.log(4) / side.scale) + side.zero_point
    made[box][..., :2], made[box][..., 2:] = side.zero_point, size
    for row, column in cells:
        made[objectness][0, row, column + shift] = 127 - lower
        made[classes][0, row, column + shift, class_id] = 127
    return made


def test_the_same_detections_are_the_same() -> None:
    assert TASK.compare_results(outputs(CELLS), outputs(CELLS)) == ""
    assert TASK.compare_results(outputs([]), outputs([])) == ""


def test_correct_arithmetics_differ_in_confidence_and_place() -> None:
    assert TASK.compare_results(outputs(CELLS, lower=20), outputs(CELLS)) == ""
    assert TASK.compare_results(outputs(CELLS, shift=1), outputs(CELLS)) == ""
    assert TASK.compare_results(outputs(CELLS[:-1]), outputs(CELLS)) == ""  # one in six


@pytest.mark.parametrize(
    ("found", "reference", "reason"),
    [
        (outputs([]), outputs(CELLS), "of 6 detections above a confidence of 0.5, 6 are lost"),
        (outputs(CELLS, lower=140), outputs(CELLS), "of 6 .* 6 are lost"),
        (outputs(CELLS[:3]), outputs(CELLS), "of 6 .* 3 are lost"),
        (outputs(CELLS, shift=3), outputs(CELLS), "of 6 .* 6 are lost"),
        (outputs(CELLS, class_id=5), outputs(CELLS), "of 6 .* 6 are lost"),
        (outputs(CELLS), outputs(CELLS[:2]), "of 6 .* 4 are on the NPU alone"),
    ],
    ids=["none", "uncertain", "half", "elsewhere", "class", "made up"],
)
def test_lost_and_made_up_detections(
    found: list[NDArray[np.int8]], reference: list[NDArray[np.int8]], reason: str
) -> None:
    import re

    assert re.fullmatch(reason, TASK.compare_results(found, reference))


def card_with(tmp_path: Path, agreement: str) -> Agreement:
    text = (CARD.path.with_suffix(".toml")).read_text()
    before, _, after = text.partition("[agreement]\n")
    assert after
    path = tmp_path / "card.toml"
    path.write_text(before + (f"[agreement]\n{agreement}\n" if agreement else "") + after[after.index("[training]") :])
    return read_card(path).agreement


def test_a_card_limits_all_outputs_or_each(tmp_path: Path) -> None:
    each = ", ".join(f"{n}.5" for n in range(9))
    assert card_with(tmp_path, "") == Agreement((2.0,), (2.0,))
    assert card_with(tmp_path, "rms_lsb = 3.5") == Agreement((3.5,) * 9, (3.5,) * 9)
    assert card_with(tmp_path, "rms_lsb = 3.5\nmean_lsb = 1") == Agreement((3.5,) * 9, (1.0,) * 9)
    limits = card_with(tmp_path, f"rms_lsb = [{each}]\nmean_lsb = 2.5")
    assert limits == Agreement(tuple(n + 0.5 for n in range(9)), (2.5,) * 9)


@pytest.mark.parametrize("value", ["0", "-1.0", '"much"', "[1.0]", "[1, 2, 3, 4, 5, 6, 7, 8, 0]", "nan"])
@pytest.mark.parametrize("key", ["rms_lsb", "mean_lsb"])
def test_limits_that_are_none(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ModelError, match=key):
        card_with(tmp_path, f"{key} = {value}" if key == "rms_lsb" else f"rms_lsb = 2.0\n{key} = {value}")
