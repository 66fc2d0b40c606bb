"""The shipped models are those that the package was released with."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_isp.cli.main import app
from edge_isp.errors import ModelError
from edge_isp.models import card
from edge_isp.models.card import find_model, read_card, shipped_models
from edge_isp.models.pinned import SHA256
from edge_isp.pipeline.options import ModelOptions
from edge_isp.pipeline.runner import Model

ZOO = next(iter(shipped_models().values())).parent


def test_every_file_is_pinned() -> None:
    """Where a model has changed, `scripts/pin_models.py` writes the table anew."""
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(ZOO.iterdir())} == SHA256


@pytest.mark.parametrize("name", list(shipped_models()))
def test_variants_that_ship_are_small_and_of_the_model_that_ships(name: str) -> None:
    """A model that is trained again must be compiled again: `edge-isp compile --model PATH-OF-ITS-CARD`."""
    shipped = read_card(shipped_models()[name])
    for variant in shipped.variants:
        assert variant.size
        shape = (1, *shipped.input_size(*variant.size), shipped.input.shape[3])
        assert shipped.find_variant(variant.npu, shape) == variant.path
        assert variant.model_sha256 == shipped.sha256
        assert variant.path.stat().st_size < 1_000_000


def test_small_models_are_compiled_for_an_imx_93() -> None:
    for name, size in (("rfdcsanet-t", (1280, 720)), ("rfdcsanet-s", (1280, 720)), ("raw-detector", (416, 416))):
        found = find_model(name, None)
        shape = (1, *found.input_size(*size), found.input.shape[3])
        assert found.find_variant("ethos-u65-256", shape)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped models, in their place."""
    folder = tmp_path / "zoo"
    shutil.copytree(ZOO, folder)
    monkeypatch.setattr(card, "shipped_models", lambda: {path.stem: path for path in sorted(folder.glob("*.toml"))})
    return folder


def forge(zoo: Path) -> None:
    """One byte of a model is changed, and its card is made to match."""
    path = zoo / "rfdcsanet-s-generic.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    text = path.with_suffix(".toml").read_text()
    old = SHA256[path.name]
    path.with_suffix(".toml").write_text(text.replace(old, hashlib.sha256(content).hexdigest()))


def test_a_forged_model_with_a_matching_card_is_refused(zoo: Path) -> None:
    forge(zoo)
    find_model("rfdcsanet-m", None)
    with pytest.raises(ModelError, match="rfdcsanet-s-generic.toml: is not the file that edge_isp was released with"):
        Model(ModelOptions("rfdcsanet-s"))


def test_models_verify(zoo: Path) -> None:
    done = CliRunner().invoke(app, ["models", "verify"])
    assert done.exit_code == 0, done.output
    assert done.output.count("is what was released") == len(shipped_models())
    forge(zoo)
    done = CliRunner().invoke(app, ["models", "verify", "--json"])
    assert done.exit_code == 1
    assert "rfdcsanet-s-generic.toml: is not the file" in done.output
    (zoo / "rfdcsanet-m-generic.tflite").write_bytes(b"")
    done = CliRunner().invoke(app, ["models", "verify"])
    assert "rfdcsanet-m-generic.tflite: is not the file" in done.output


def test_models_list() -> None:
    done = CliRunner().invoke(app, ["models", "list", "--json"])
    assert done.exit_code == 0
    assert [entry["name"] for entry in json.loads(done.output)] == list(shipped_models())
    assert CliRunner().invoke(app, ["models", "list"]).exit_code == 0
