"""The configuration file: everything that the command line can say, in one TOML file.

A table holds the options of one command, by their long names with "_" for "-": `--auto-exposure` of `edge-isp run` is
`auto_exposure` in `[run]`, and `--size` of `edge-isp bench model` is `size` in `[bench.model]`. An option on the
command line wins over an environment variable (`EDGE_ISP_RUN_AUTO_EXPOSURE`), and that over the file. Typer looks the
values up itself: the file becomes its map of defaults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_isp.errors import ConfigError, did_you_mean
from edge_isp.toml_file import TomlTable, describe, read_toml

VARIABLE = "EDGE_ISP_CONFIG"

# A list of tables in [run]: further models of the same camera.
MODELS = "models"
# Where Typer's context keeps the path of the file.
FILE = "edge_isp.file"
# Options of `run` that concern the model, and that a further model may have for itself; their names are their keys.
OF_MODEL = {
    "model",
    "profile",
    "input_size",
    "confidence",
    "iou",
    "max_detections",
    "class",
    "min_size",
    "region",
    "class_agnostic",
    "track",
    "zone",
    "lens_shading",
    "tile",
    "memory_budget",
    "defect_correction",
    "engine",
    "threads",
    "delegate",
    "require_full_delegation",
    "time_limit",
    "check_every",
    "engine_python",
    "isolate",
    "memory_limit",
    "tone",
}
# Those that only models of one task have, with their values for the others.
_OF_TASK: Mapping[str, Mapping[str, Any]] = {
    "detector": {
        "confidence": None,
        "iou": None,
        "max_detections": None,
        "class": (),
        "min_size": 0.0,
        "region": (),
        "class_agnostic": False,
        "input_size": None,
        "track": False,
        "zone": None,
    },
    "isp": {"lens_shading": None, "tile": None},
}
# What else a table of a further model may hold: sinks, and "every", the first frame and every Nth one after it.
_SINK, _EVERY = "sink", "every"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command, as the configuration has it.

    Attributes:
        key: in the command's table.
        name: of Typer's parameter.
        kind: type of one value: bool, int, float or str.
        is_list: whether the option may be repeated.
        variable: the environment variable that sets it.
        default: without a file and a variable.
    """

    key: str
    name: str
    kind: type
    is_list: bool
    variable: str
    default: Any


def configured(command: Any) -> Any:
    """The command line with a configuration: variables for every option, and `--config` for every command.

    Args:
        command: Typer's, of the whole command line; it is changed.
    """
    for path, leaf in leaves(command):
        options = {option.name: option for option in options_of(path, leaf)}
        for parameter in leaf.params:
            if parameter.name in options:
                parameter.envvar, parameter.show_envvar = options[parameter.name].variable, False
        if options:
            leaf.params.append(_config_option())
    return command


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is no group, with its path.

    Args:
        command: Typer's, of the whole command line.
        path: of the command.
    """
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
    for name, subcommand in (subcommands or {}).items():
        yield from leaves(subcommand, (*path, name))


def options_of(path: tuple[str, ...], command: Any) -> list[Option]:
    """The options of a command that can be configured.

    Args:
        path: of the command.
        command: Typer's.
    """
    found = []
    for parameter in command.params:
        long = [name for name in parameter.opts if name.startswith("--")]
        if parameter.param_type_name != "option" or not long or parameter.is_eager or parameter.name == "help":
            continue
        key = long[0].removeprefix("--").replace("-", "_")
        variable = "_".join(["EDGE_ISP", *path, key]).upper().replace("-", "_")
        is_list, kind = bool(parameter.multiple), _kind(parameter)
        found.append(Option(key, parameter.name, kind, is_list, variable, parameter.default))
    return found


def for_task(values: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Options that several models share, as one of them takes them: those of another task have their defaults.

    Args:
        values: of the options, by name; see `OF_MODEL`.
        model: its name.

    Raises:
        ModelError: there is no such model.
    """
    from edge_isp.models.card import find_model

    task = find_model(model, None).task
    others = [(name, value) for of, named in _OF_TASK.items() if of != task for name, value in named.items()]
    return {**values, **{name: value for name, value in others if name in values}}


def default_path() -> Path | None:
    """The configuration file without `--config`: `$EDGE_ISP_CONFIG`, else the user's, if it exists."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = Path(folder, "edge-isp", "config.toml")
    return path if os.path.exists(path) else None


class Configuration:
    """A configuration file, checked against the command line.

    Args:
        path: of the file; None is an empty configuration.
        command: Typer's, of the whole command line.

    Attributes:
        path: of the file.
        faults: each wrong key and value, as a line.

    Raises:
        ConfigError: the file cannot be read, or is not TOML.
    """

    def __init__(self, path: Path | None, command: Any) -> None:
        self.path = path
        self.faults: list[str] = []
        self._tables: dict[tuple[str, ...], Mapping[str, Any]] = {}
        if path is None:
            return
        commands = {names: options_of(names, leaf) for names, leaf in leaves(command)}
        self.faults += self._faults(read_toml(path, ConfigError), (), commands)

    def require_valid(self) -> None:
        """Refuses a file with faults.

        Raises:
            ConfigError: a key or a value is wrong; the message has the first.
        """
        if self.faults:
            more = len(self.faults) - 1
            rest = f"; {more} more: edge-isp config check {self.path}" if more else ""
            raise ConfigError(f"{self.faults[0]}{rest}")

    def values(self, command: tuple[str, ...]) -> Mapping[str, Any]:
        """What the file says for a command, by key; `MODELS` is left out.

        Args:
            command: its path, such as ("bench", "model").
        """
        return {key: value for key, value in self._tables.get(command, {}).items() if key != MODELS}

    def models(self) -> list[Mapping[str, Any]]:
        """The tables [[run.models]], by key."""
        return list(self._tables.get(("run",), {}).get(MODELS, []))

    def _faults(
        self, table: TomlTable, path: tuple[str, ...], commands: Mapping[tuple[str, ...], list[Option]]
    ) -> Iterator[str]:
        """Each fault in a table and those in it, as a line; what is right is kept."""
        if path in commands:
            self._tables[path] = table.values
            yield from _wrong_values(table, commands[path], {MODELS} if path == ("run",) else set())
            if path == ("run",):
                yield from self._wrong_models(table, commands[path])
            return
        known = sorted({names[len(path)] for names in commands if names[: len(path)] == path})
        for key, value in table.values.items():
            if key not in known:
                within = f" in [{'.'.join(path)}]" if path else ""
                yield f"{table.file}: no command '{key}'{within}{did_you_mean(key, known)}"
            elif not isinstance(value, dict):
                yield f"{table.file}: {table.key_path(key)} must be a table of options, found {describe(value)}"
            else:
                yield from self._faults(table.table(key), (*path, key), commands)

    def _wrong_models(self, table: TomlTable, options: list[Option]) -> Iterator[str]:
        of_models = [option for option in options if option.key in OF_MODEL | {_SINK}]
        of_models.append(Option(_EVERY, _EVERY, int, False, "", 1))
        try:
            tables = table.tables(MODELS)
        except ConfigError as error:
            yield str(error)
            return
        for model in tables:
            if "model" not in model:
                yield f"{table.file}: {model.key_path('model')} is missing"
            yield from _wrong_values(model, of_models, set())


def _wrong_values(table: TomlTable, options: list[Option], others: set[str]) -> Iterator[str]:
    by_key = {option.key: option for option in options}
    for key, value in table.values.items():
        if key in others:
            continue
        option = by_key.get(key)
        if option is None:
            close = did_you_mean(key.replace("-", "_"), by_key) or f"; there are: {', '.join(sorted(by_key))}"
            yield f"{table.file}: unknown key {table.key_path(key)}{close}"
        elif not _fits(option, value):
            yield f"{table.file}: {table.key_path(key)} must be {_expected(option)}, found {describe(value)}"


def _fits(option: Option, value: Any) -> bool:
    if option.is_list:
        return isinstance(value, list) and all(_is(option.kind, each) for each in value)
    return _is(option.kind, value)


def _is(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _expected(option: Option) -> str:
    one = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[option.kind]
    many = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}[option.kind]
    return f"a list of {many}" if option.is_list else one


def _kind(parameter: Any) -> type:
    """Type of one value in TOML; what is parsed, such as a size or a path, is a text there."""
    if parameter.is_flag:
        return bool
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is not None:
        return _of_annotation(descriptor.annotation, has_parser=descriptor.parameter_info.parser is not None)
    # Typer before 0.24, which is built on Click.
    return {"integer": int, "integer range": int, "float": float, "float range": float, "boolean": bool}.get(
        parameter.type.name, str
    )


def _of_annotation(annotation: Any, *, has_parser: bool) -> type:
    inner = getattr(annotation, "__args__", (annotation,))[0]
    return inner if inner in (bool, int, float) and not has_parser else str


def _config_option() -> Any:
    """Typer's `--config`, which no command has as a parameter: it sets the defaults of the others."""
    template = typer.Typer()

    @template.command()
    def _template(
        config: Annotated[
            str | None,
            typer.Option(
                "--config",
                metavar="FILE.toml",
                is_eager=True,
                callback=_load,
                expose_value=False,
                help="Configuration file with values for the options, see 'edge-isp config'. By default it is the file "
                f"that the variable {VARIABLE} names, else ~/.config/edge-isp/config.toml.",
            ),
        ] = None,
    ) -> None:
        """Holds the option."""

    return next(p for p in typer.main.get_command(template).params if p.name == "config")


def _load(context: typer.Context, value: str | None) -> str | None:
    """Makes the configuration file the map of the command's defaults."""
    if context.resilient_parsing:
        return value
    root = context.find_root()
    path = tuple(context.command_path.split()[len(root.command_path.split()) :])
    configuration = Configuration(Path(value) if value is not None else default_path(), root.command)
    configuration.require_valid()
    names = {option.key: option.name for option in options_of(path, context.command)}
    context.default_map = {names[key]: given for key, given in configuration.values(path).items()}
    context.meta[MODELS], context.meta[FILE] = configuration.models(), configuration.path
    return value
