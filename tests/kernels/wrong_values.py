"""Arguments of the right shape and dtype whose values would lead a kernel astray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from edge_isp.kernels.defects import DefectPlan
from edge_isp.kernels.simulate import View

Arguments = dict[str, Any]


def wrong_values(kernel: str) -> Iterator[tuple[str, Callable[[Arguments], Arguments]]]:
    """What is wrong, and the arguments to change in a valid call.

    Args:
        kernel: a key of `public_kernels()`.
    """
    yield from _WRONG.get(kernel, {}).items()


def _filled(name: str, value: Any) -> Callable[[Arguments], Arguments]:
    """An array with one value that is wrong."""

    def change(call: Arguments) -> Arguments:
        array = call[name].copy()
        array.flat[array.size // 2] = value
        return {name: array}

    return change


def _given(**changes: Any) -> Callable[[Arguments], Arguments]:
    return lambda call: changes


def _no_rows(call: Arguments) -> Arguments:
    return {name: call[name][:0].copy() for name in ("planes", "encoded", "rgb", "out") if name in call}


def _no_columns(call: Arguments) -> Arguments:
    return {name: call[name][:, :0].copy() for name in ("planes", "encoded", "rgb", "out") if name in call}


def _matrices() -> dict[str, Callable[[Arguments], Arguments]]:
    # Products beyond float32 are infinite, and infinity less infinity is no index of a table.
    wrong = {"not finite": np.nan, "infinite": np.inf, "beyond float32": 1e300, "products beyond float32": 1e38}
    matrices = {f"matrix: {what}": _given(matrix=np.full((3, 3), value)) for what, value in wrong.items()}
    return matrices | {"matrix: text": _given(matrix=[["a"] * 3] * 3), "matrix: ragged": _given(matrix=[[1, 2], [3]])}


def _plans() -> dict[str, Callable[[Arguments], Arguments]]:
    def change(**changes: Callable[[DefectPlan], Any]) -> Callable[[Arguments], Arguments]:
        def changed(call: Arguments) -> Arguments:
            plan = call["defects"]
            return {"defects": plan._replace(**{name: value(plan) for name, value in changes.items()})}

        return changed

    return {
        "defects: white beyond the tables": change(white=lambda plan: plan.highest + 1),
        "defects: codes of another bit depth": change(highest=lambda plan: plan.highest // 2),
        "defects: a column right of the window": change(columns=lambda plan: plan.columns + 1000),
        "defects: a column left of the window": change(columns=lambda plan: plan.columns - 1000),
        "defects: rows that fall": change(row_starts=lambda plan: np.roll(plan.row_starts, 1)),
        "defects: rows beyond the columns": change(row_starts=lambda plan: plan.row_starts * 1000),
        "defects: rows from below": change(row_starts=lambda plan: plan.row_starts - 1000),
        "defects: codes that are no numbers": change(to_code=lambda plan: plan.to_code * np.float32(np.nan)),
        "defects: no bits to shift by": change(shift=lambda plan: -1),
    }


_WRONG: dict[str, dict[str, Callable[[Arguments], Arguments]]] = {
    "decode.decode_rgb": {"planes: no rows": _no_rows, "planes: no columns": _no_columns},
    "decode.rgb_to_i420": {"rgb: no rows": _no_rows, "rgb: no columns": _no_columns},
    "decode.rgb_to_yuyv": {"rgb: no rows": _no_rows, "rgb: no columns": _no_columns},
    "residual.decode_residual": {"planes: no rows": _no_rows, "planes: no columns": _no_columns, **_matrices()},
    "demosaic.develop": _matrices(),
    "detect.suppress": {
        "class_ids: negative": _filled("class_ids", -1),
        "class_ids: most negative": _filled("class_ids", -(2**31)),
        "class_ids: huge": _filled("class_ids", 2**31 - 1),
        "class_ids: just too large": _filled("class_ids", 65536),
        "scores: negative": _filled("scores", -0.5),
        "scores: not a number": _filled("scores", np.nan),
        "iou_threshold: not a number": _given(iou_threshold=np.nan),
        "max_detections: none": _given(max_detections=0),
        "max_detections: not whole": _given(max_detections=1.5),
    },
    "detect.detect": {
        "outputs: none": _given(outputs=[], levels=[]),
        "outputs: no classes": lambda call: {
            "outputs": [(box, objectness, classes[..., :0].copy()) for box, objectness, classes in call["outputs"]]
        },
        "outputs: too many classes": lambda call: {
            "outputs": [
                (box, objectness, np.zeros((*classes.shape[:2], 65537), np.int8))
                for box, objectness, classes in call["outputs"]
            ]
        },
        "outputs: pairs": lambda call: {"outputs": [level[:2] for level in call["outputs"]]},
    },
    "encode.encode": {
        **_plans(),
        "constants: no dimension": _given(constants=np.array(1, np.int8)),
        "tables: no dimension": _given(tables=np.array(1, np.int8)),
    },
    "resample.encode_resampled": {
        "border: beyond the dtype": _given(border=1000),
        "border: not a number": _given(border=np.nan),
    },
    "statistics.statistics": {
        "white_level: infinite": _given(white_level=np.inf),
        "black_level: not a number": _given(black_level=(np.nan, 0, 0, 0)),
        "black_level: infinite": _given(black_level=(-np.inf, 0, 0, 0)),
        "black_level: three": _given(black_level=(0, 0, 0)),
        "step: none": _given(step=0),
        "step: not whole": _given(step=1.5),
    },
    "shaded.encode_shaded": {
        "zero_point: too large": _given(zero_point=128),
        "zero_point: not whole": _given(zero_point=0.5),
        "factors: no bits": lambda call: {"factors": call["factors"]._replace(bits=0)},
        "factors: too many bits": lambda call: {"factors": call["factors"]._replace(bits=40)},
        **_plans(),
    },
    "correlate.correlate_colours": {
        "levels: negative": _filled("levels", -1),
        "levels: too large": _filled("levels", 2),
        "colours: not a number": _filled("colours", np.nan),
        "colours: infinite": _filled("colours", np.inf),
        "matrices: not a number": _filled("matrices", np.nan),
        "matrices: products beyond float32": _filled("matrices", 1e30),
    },
    "simulate.simulate_frame": {
        "view: not a number": _given(view=View(np.nan, 0, 4, 4)),
        "view: left of the scene": _given(view=View(-1, 0, 4, 4)),
        "layout: odd": lambda call: {"layout": replace(call["layout"], width=call["layout"].width - 1)},
        "layout: a window": lambda call: {"layout": replace(call["layout"], left=2)},
        "errors: a defect right of the frame": lambda call: {
            "errors": replace(call["errors"], defects=np.array([[0, 10], [1, 0]], np.int32))
        },
        "errors: a defect left of the frame": lambda call: {
            "errors": replace(call["errors"], defects=np.array([[0, -10000], [1, 0]], np.int32))
        },
        "key: negative": _given(key=-1),
        "key: 65 bits": _given(key=2**64),
    },
}
