"""`edge-isp models`: the models that ship, and whether they are what was released."""

from __future__ import annotations

import json

import typer

from edge_isp.cli import options
from edge_isp.cli.tables import plain_console, text_table

models = typer.Typer(no_args_is_help=True, help="List the models that come with edge_isp, and verify their files.")


@models.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List the models that come with edge_isp."""
    from edge_isp.models.card import read_card, shipped_models

    cards = [read_card(path) for path in shipped_models().values()]
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "name": card.name,
                        "task": card.task,
                        "sensor": card.sensor,
                        "licence": card.licence,
                        "sha256": card.sha256,
                        "path": str(card.path),
                    }
                    for card in cards
                ]
            )
        )
        return
    table = text_table("Models", "name", "task", "sensor", "licence", "SHA-256")
    for card in cards:
        table.add_row(card.name, card.task, card.sensor, card.licence, card.sha256[:12])
    plain_console().print(table)


@models.command("verify")
def verify(as_json: options.Json = False) -> None:
    """Compare each model and its card with the SHA-256 that this version was released with."""
    from edge_isp.errors import ModelError
    from edge_isp.models.card import read_card, shipped_models, verify_pinned

    problems: dict[str, str | None] = {}
    for name, path in shipped_models().items():
        problems[name] = None
        try:
            verify_pinned(path)
            verify_pinned(read_card(path).path)
        except ModelError as error:
            problems[name] = str(error)
    if as_json:
        print(json.dumps([{"name": name, "problem": problem} for name, problem in problems.items()]))
    else:
        for name, problem in problems.items():
            print(f"{name}: {'is what was released' if problem is None else problem}")
    if any(problems.values()):
        raise typer.Exit(1)
