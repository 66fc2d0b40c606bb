"""A model arranged for Ethos-U computes what it did, bit for bit, in fewer copies and whole blocks of channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_isp.engines.base import Engine
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.models.card import ModelCard, read_card, shipped_models
from edge_isp.models.ethos_u import arrange_for_ethos_u
from edge_isp.models.export import Export, exported
from edge_isp.models.tflite_graph import TfliteGraph


def arranged(card: ModelCard, size: tuple[int, int]) -> tuple[bytes, bytes]:
    content = exported(card, Export("tflite", size=size))
    return content, arrange_for_ethos_u(content, card.path.name)


def outputs(engine: Engine, seed: int) -> list[np.ndarray]:
    codes = np.random.default_rng(seed).integers(-128, 128, engine.inputs[0].shape)
    return engine.run([codes.astype(np.int8)])


@pytest.mark.parametrize("name", list(shipped_models()))
def test_outputs_are_the_same(name: str, tmp_path: Path) -> None:
    card = read_card(shipped_models()[name])
    before, after = arranged(card, (96, 64))
    (tmp_path / "before.tflite").write_bytes(before)
    (tmp_path / "after.tflite").write_bytes(after)
    with (
        LiteRtEngine(tmp_path / "before.tflite", threads=1) as plain,
        LiteRtEngine(tmp_path / "after.tflite", threads=1) as engine,
    ):
        described = [(t.shape, t.dtype, t.scale, t.zero_point) for t in (*plain.inputs, *plain.outputs)]
        assert [(t.shape, t.dtype, t.scale, t.zero_point) for t in (*engine.inputs, *engine.outputs)] == described
        for seed in range(3):
            for found, expected in zip(outputs(engine, seed), outputs(plain, seed), strict=True):
                np.testing.assert_array_equal(found, expected)


def test_nothing_is_copied_and_parts_begin_at_whole_blocks() -> None:
    """Such copies, and blocks that are cut, took 40 % of the time that Vela estimates for `rfdcsanet-t`."""
    card = read_card(shipped_models()["rfdcsanet-t-generic"])
    before, after = (TfliteGraph(content, "model") for content in arranged(card, (96, 64)))

    def parts(graph: TfliteGraph) -> list[int]:
        (concat,) = [operator for operator in graph.operators if operator.kind == "concat"]
        return [graph.shape(index)[3] for index in concat.inputs]

    def copied(graph: TfliteGraph) -> int:
        (concat,) = [operator for operator in graph.operators if operator.kind == "concat"]
        return sum(len([o for o in graph.operators if index in o.inputs]) > 1 for index in concat.inputs)

    assert sorted(parts(before)) == [24, 24, 24, 48]
    assert copied(before) == 1
    assert copied(after) == 0
    assert all(channels % 16 == 0 for channels in parts(after)[:-1])
    (first,) = [operator for operator in after.operators if after.input in operator.inputs]
    assert after.shape(first.output)[3] == 32
    assert after.shape(after.input) == before.shape(before.input)
