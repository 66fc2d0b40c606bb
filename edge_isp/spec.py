"""Specifications of cameras and sinks, as the command line takes them: `NAME[:ARGUMENT][,key=value...]`.

The name is a plug-in's. The argument is its first positional parameter, each key one of its keyword-only parameters.
Values are converted as the parameters are annotated: `int`, `float`, `bool` ("yes" or "no"), `str`, `Path`, an enum or
literal (one of its values), and "none" for what may be None. A parameter that is a `Mapping` takes `key.NAME=value` for
each of its values, as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from edge_isp.errors import CameraError, EdgeIspError, SinkError, did_you_mean, shortened
from edge_isp.plugins import load, names

_ERRORS: dict[str, type[EdgeIspError]] = {"cameras": CameraError, "sinks": SinkError}
_LARGEST_NUMBER = 2**1000
_BOOLS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed specification.

    Attributes:
        text: as it was given.
        name: of the plug-in.
        argument: what follows the colon; "" if nothing does.
        settings: values by key, not converted yet.
    """

    text: str
    name: str
    argument: str
    settings: Mapping[str, str]


def parse_spec(text: str) -> Spec:
    """Takes a specification apart. A comma separates settings only if a key and "=" follow it.

    Args:
        text: `NAME[:ARGUMENT][,key=value...]`; of a key that is repeated, the last value counts.
    """
    head, *options = re.split(r",(?=[A-Za-z_][\w.]*=)", text)
    name, _, argument = head.partition(":")
    settings = dict(option.split("=", 1) for option in options)
    return Spec(text, name, argument, settings)


def without_secrets(text: str) -> str:
    """A text as messages show it: its addresses without users, passwords and queries.

    Args:
        text: of any kind; //[USER:PASSWORD@]HOST[:PORT][/PATH][?QUERY] is an address.
    """
    return re.sub(r"(//[^\s?,]+)\?[^\s,]*", r"\1?***", re.sub(r"//[^/\s]*@", "//***@", text))


def construct(kind: str, spec: Spec) -> Any:
    """Makes the plug-in that a specification describes.

    Args:
        kind: "cameras" or "sinks".
        spec: the specification.

    Raises:
        CameraError: the specification of a camera does not fit its class.
        MissingDependencyError: the plug-in needs a package that is not installed.
        PluginError: there is no plug-in of that name.
        SinkError: the specification of a sink does not fit its class.
    """
    error, what = _ERRORS[kind], f"{kind[:-1]} '{shortened(without_secrets(spec.text))}'"
    if spec.name not in (known := names(kind)):
        raise error(
            f"{what}: there is no {kind[:-1]} named '{shortened(spec.name)}'{did_you_mean(spec.name, known)}; "
            f"there are: {', '.join(known)}"
        )
    plugin = load(kind, spec.name)
    try:
        arguments, settings = _bound(plugin, spec)
    except ValueError as failure:
        raise error(f"{what}: {failure}") from failure
    return plugin(*arguments, **settings)


def _bound(plugin: Callable[..., Any], spec: Spec) -> tuple[list[Any], dict[str, Any]]:
    """The arguments to call a plug-in with; raises ValueError if the specification does not fit."""
    parameters = signature(plugin).parameters
    types = _types(plugin)
    keywords = {p.name: p for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    groups = {name for name in keywords if any(get_origin(each) is Mapping for each in _choices(types.get(name, Any)))}
    grouped: dict[str, dict[str, str]] = {}
    for key, text in spec.settings.items():
        group, _, name = key.partition(".")
        if name and group in groups:
            grouped.setdefault(group, {})[name] = text
        elif key not in keywords:
            settable = [name for name in keywords if _settable(types.get(name, Any))]
            listed = ", ".join(settable) or "no settings"
            raise ValueError(f"unknown {key}{did_you_mean(key, settable)}; '{spec.name}' knows: {listed}")
    arguments = []
    if spec.argument:
        if not positional:
            raise ValueError(f"'{spec.name}' takes no argument, found '{shortened(spec.argument)}'")
        first = positional[0].name
        arguments.append(_converted(first, spec.argument, types.get(first, Any)))
    required = [p.name for p in positional[len(arguments) :] if p.default is Parameter.empty]
    required += [name for name, p in keywords.items() if p.default is Parameter.empty and name not in spec.settings]
    if required:
        raise ValueError(f"{', '.join(required)} is missing; expected {_usage(spec.name, positional, keywords)}")
    settings: dict[str, Any] = {
        key: _converted(key, text, types.get(key, Any)) for key, text in spec.settings.items() if key in keywords
    }
    return arguments, settings | grouped


def usage(name: str, plugin: Callable[..., Any]) -> str:
    """The specification that a plug-in expects, such as "synthetic:PHOTO".

    Args:
        name: the plug-in's.
        plugin: its class.
    """
    parameters = signature(plugin).parameters
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return _usage(name, positional, {p.name: p for p in parameters.values() if p.kind is p.KEYWORD_ONLY})


def _types(plugin: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of the parameters by name; none where they cannot be resolved."""
    try:
        return get_type_hints(vars(plugin).get("__init__", plugin) if isinstance(plugin, type) else plugin)
    except (NameError, TypeError):  # imported for type checkers only, or an object without annotations
        return {}


def _usage(name: str, positional: list[Parameter], keywords: Mapping[str, Parameter]) -> str:
    argument = f":{positional[0].name.upper()}" if positional else ""
    settings = "".join(f",{key}=..." for key, p in keywords.items() if p.default is Parameter.empty)
    return f"{name}{argument}{settings}"


def _converted(key: str, text: str, annotation: Any) -> Any:
    """A value of the annotated type; raises ValueError if the text is none."""
    choices = _choices(annotation)
    for choice in sorted(choices, key=_order):
        found, value = _as(choice, text)
        if found:
            return value
    expected = [description for choice in choices if (description := _described(choice))]
    if not _settable(annotation):
        raise ValueError(f"{key} cannot be set in a specification")
    raise ValueError(f"{key} must be {' or '.join(dict.fromkeys(expected))}, found '{shortened(text)}'")


def _settable(annotation: Any) -> bool:
    """Whether a text can be a value of a type, other than "none"."""
    return any(
        choice in (str, Path, Any) or (choice is not NoneType and _described(choice)) for choice in _choices(annotation)
    )


def _choices(annotation: Any) -> list[Any]:
    """The members of a union, or the annotation itself."""
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in _choices(part)]
    return [annotation]


def _order(choice: Any) -> int:
    """Strict types before those that take any text."""
    return 2 if choice is Any else 1 if choice in (str, Path) else 0


def _as(choice: Any, text: str) -> tuple[bool, Any]:
    """Whether a text is a value of a type, and that value."""
    if choice is NoneType:
        return text.lower() == "none", None
    if choice is bool:
        return text.lower() in _BOOLS, _BOOLS.get(text.lower())
    if get_origin(choice) is Literal:
        by_text = {str(value): value for value in get_args(choice)}
        return text in by_text, by_text.get(text)
    if isinstance(choice, type) and issubclass(choice, Enum):
        by_value = {str(member.value): member for member in choice}
        return text in by_value, by_value.get(text)
    if choice in (str, Path):
        return True, choice(text)
    if choice is Any:
        return True, _guessed(text)
    return _number(choice, text) if choice in (int, float) else (False, None)


def _number(choice: type[int] | type[float], text: str) -> tuple[bool, int | float | None]:
    try:
        value = choice(text)
    except ValueError:
        return False, None
    # A whole number of thousands of bits is no float.
    return abs(value) < _LARGEST_NUMBER and math.isfinite(value), value


def _guessed(text: str) -> int | float | str | None:
    """A value for a parameter without a known type."""
    if text.lower() == "none":
        return None
    for choice in (int, float):
        found, value = _number(choice, text)
        if found:
            return value
    return text


def _described(choice: Any) -> str:
    """A type in words; "" for one that no text can be converted to."""
    if get_origin(choice) is Literal:
        return f"one of {', '.join(map(str, get_args(choice)))}"
    if isinstance(choice, type) and issubclass(choice, Enum):
        return f"one of {', '.join(str(member.value) for member in choice)}"
    words = {NoneType: "none", bool: "yes or no", int: "a whole number", float: "a number"}
    return words.get(choice, "")
