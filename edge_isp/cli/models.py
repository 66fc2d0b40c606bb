"""`edge-isp models`: the models there are, more of them from a list, and whether their files are what they must be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_isp.cli import options
from edge_isp.cli.tables import plain_console, text_table

if TYPE_CHECKING:
    from edge_isp.models.card import ModelCard

models = typer.Typer(
    no_args_is_help=True,
    help="List the models that there are, fetch more of them, and verify their files. Models come with edge_isp, or "
    "are in the folder $EDGE_ISP_MODELS, which is by default ~/.local/share/edge-isp/models.",
)


@models.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List the models that come with edge_isp, and those in the folder of models."""
    cards = [card for path in _card_paths() if (card := _card(path)) is not None]
    if as_json:
        print(json.dumps([_described(card) for card in cards]))
        return
    table = text_table("Models", "name", "task", "sensor", "licence", "compiled for", "SHA-256", "from")
    for card in cards:
        variants = ", ".join(f"{variant.npu} {variant.size_name}" for variant in card.variants)
        table.add_row(card.name, card.task, card.sensor, card.licence, variants, card.sha256[:12], _origin(card))
    plain_console().print(table)


@models.command("fetch")
def fetch(
    model_list: Annotated[
        Path,
        typer.Option(
            "--list",
            metavar="FILE.toml",
            exists=True,
            dir_okay=False,
            help="List of models: for each a table [models.NAME] with the https:// address of its card, url, and the "
            "card's SHA-256, sha256.",
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of models in the list. By default all.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", file_okay=False, help="Folder to fetch into. By default the folder of models."
        ),
    ] = None,
) -> None:
    """Fetch models with their cards over HTTPS, and keep those that have the list's SHA-256."""
    from edge_isp.models.fetch import choose, fetch_model, read_list
    from edge_isp.models.folder import model_folder

    for listed in choose(read_list(model_list), names or [], model_list):
        print(fetch_model(listed, out or model_folder()))


@models.command("verify")
def verify(as_json: options.Json = False) -> None:
    """Compare shipped models with the SHA-256 that this version was released with, and others with their cards."""
    problems = {str(path): _problem(path) for path in _card_paths()}
    if as_json:
        found = [{"name": Path(path).stem, "path": path, "problem": problem} for path, problem in problems.items()]
        print(json.dumps(found))
    else:
        for path, problem in problems.items():
            good = "is what was released" if _is_shipped(Path(path)) else "is what its card describes"
            print(f"{Path(path).stem}: {good if problem is None else problem}")
    if any(problems.values()):
        raise typer.Exit(1)


def _card_paths() -> list[Path]:
    from edge_isp.models.card import shipped_models
    from edge_isp.models.folder import local_models

    return [*shipped_models().values(), *local_models().values()]


def _card(path: Path) -> ModelCard | None:
    """A model's card; None, with a line on standard error, where it cannot be read."""
    from edge_isp.errors import ModelError
    from edge_isp.models.card import read_card

    try:
        return read_card(path)
    except ModelError as error:
        print(f"passed over: {error}", file=sys.stderr)
        return None


def _problem(path: Path) -> str | None:
    from edge_isp.errors import ModelError
    from edge_isp.models.card import read_card, verify_file, verify_pinned

    try:
        if _is_shipped(path):
            verify_pinned(path)
        for file, sha256 in read_card(path).checksums.items():
            if _is_shipped(path):
                verify_pinned(file)
            verify_file(file, sha256)
    except ModelError as error:
        return str(error)
    return None


def _is_shipped(path: Path) -> bool:
    from edge_isp.models.card import shipped_models

    return path.parent in {card.parent for card in shipped_models().values()}


def _origin(card: ModelCard) -> str:
    return "edge_isp" if _is_shipped(card.path) else str(card.path.parent)


def _described(card: ModelCard) -> dict[str, object]:
    return {
        "name": card.name,
        "task": card.task,
        "sensor": card.sensor,
        "licence": card.licence,
        "sha256": card.sha256,
        "path": str(card.path),
        "variants": [
            {"npu": v.npu, "size": v.size_name, "sha256": v.sha256, "path": str(v.path)} for v in card.variants
        ],
    }
