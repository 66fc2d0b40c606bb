"""`edge-isp config`: what is configured, and whether it is right."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_isp.cli import options
from edge_isp.cli.configuration import Configuration, Option, default_path, leaves, options_of
from edge_isp.errors import ConfigError, did_you_mean

config = typer.Typer(
    help="Show and check the configuration: one TOML file with the options of all commands, by their long names. "
    "[run] holds those of 'edge-isp run', and [[run.models]] further models of the same camera.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_File = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE.toml]",
        help="The configuration file. By default it is the one that commands use.",
        show_default=False,
    ),
]


@config.command()
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="The command, such as 'run' or 'bench model'.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show the value of every option of a command, 'run' by default, and where each comes from."""
    names = tuple(command or ["run"])
    root = context.find_root().command
    commands = dict(leaves(root))
    if names not in commands:
        known = [" ".join(path) for path in commands]
        raise ConfigError(f"no command '{' '.join(names)}'{did_you_mean(' '.join(names), known)}")
    found = Configuration(default_path(), root)
    found.require_valid()
    rows = [
        {"option": option.key, "value": value, "source": source}
        for option in options_of(names, commands[names])
        for value, source in [_value(option, found, names)]
    ]
    if as_json:
        models = [dict(model) for model in found.models()] if names == ("run",) else []
        path = None if found.path is None else str(found.path)
        print(json.dumps({"command": " ".join(names), "file": path, "options": rows, "models": models}))
        return
    print(f"file: {found.path or 'none'}")
    width = max(len(str(row["option"])) for row in rows) if rows else 0
    for row in rows:
        print(f"{row['option']:<{width}} = {_shown(row['value'])}  ({row['source']})")
    for model in found.models() if names == ("run",) else []:
        print(f"models: {', '.join(f'{key} = {_shown(value)}' for key, value in model.items())}  ({found.path})")


@config.command()
def check(context: typer.Context, file: _File = None) -> None:
    """Check a configuration file: every key and the type of every value. Each fault is a line."""
    path = file or default_path()
    if path is None:
        raise ConfigError("there is no configuration file; the default is ~/.config/edge-isp/config.toml")
    faults = Configuration(path, context.find_root().command).faults
    print("\n".join(faults) or f"{path}: no faults")
    if faults:
        raise typer.Exit(1)


def _value(option: Option, configuration: Configuration, command: tuple[str, ...]) -> tuple[Any, str]:
    """The value of an option, and where it comes from."""
    if given := os.environ.get(option.variable):
        return given, f"environment variable {option.variable}"
    values = configuration.values(command)
    if option.key in values:
        return values[option.key], str(configuration.path)
    default = option.default
    return (default if isinstance(default, bool | int | float | str | list) else None), "default"


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)
