"""The one reader of TOML files: every value is checked, and every fault is one error that names its place.

Sidecars, cards, profiles and set-up files are all read through `TomlTable`, whose getters return a value of the type
asked for or raise an error that names the file, the key's path in it, what was expected and what was found.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from edge_isp.errors import EdgeIspError
from edge_isp.files import read_file

# The largest files are profiles with many defects; beyond this size a file is something else.
LARGEST_FILE_BYTES = 1 << 21

# TOML's whole numbers are of 64 bits; Python's parser takes longer ones.
_LARGEST_WHOLE = 2**63 - 1

_LONGEST_SHOWN = 200

# In parts, as a.b.c has three.
_LONGEST_KEY = 100
# A quoted part of a key, another string, or a comment; a string that is not closed ends with its line.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?$)|\'[^\']*(?:\'|$)|#.*')
_NOT_OF_A_KEY = re.compile(r"[^\w.-]+")
_NO_BLANKS = {ord(" "): None, ord("\t"): None}


@dataclass(frozen=True, slots=True)
class TomlTable:
    """A table of a TOML file.

    Attributes:
        file: the file's name, for errors.
        values: the table's content, as `tomllib` returns it.
        error: the exception that a fault is reported as.
        path: of the table in the file ("frame[2]"); "" for the whole file.
    """

    file: str
    values: Mapping[str, Any] = field(repr=False)
    error: type[EdgeIspError]
    path: str = ""

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def key_path(self, key: str) -> str:
        """Path of a key in the file.

        Args:
            key: of this table.
        """
        shown = _shortened(key)
        return f"{self.path}.{shown}" if self.path else shown

    def fail(self, message: str) -> NoReturn:
        """Raises the table's error.

        Args:
            message: what is wrong; the file's name is put before it.
        """
        raise self.error(f"{self.file}: {message}")

    def refuse(self, key: str, expected: str, found: object) -> NoReturn:
        """Raises the table's error for one value.

        Args:
            key: of this table.
            expected: what the value must be, in words.
            found: the value.
        """
        self.fail(f"{self.key_path(key)} must be {expected}, found {describe(found)}")

    def check_keys(self, known: Collection[str], required: Collection[str] = ()) -> None:
        """Refuses unknown and missing keys.

        Args:
            known: keys that may stand here.
            required: keys that must stand here.
        """
        where = f"[{self.path}]" if self.path else "the file"
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                self.fail(f"{where} has the unknown key {describe(key)}; {hint}known are {', '.join(sorted(known))}")
        missing = [key for key in required if key not in self.values]
        if missing:
            self.fail(f"{where} lacks {', '.join(missing)}")

    def value(self, key: str) -> Any:
        """The value of a key, of any type.

        Args:
            key: of this table; a missing one is an error.
        """
        if key not in self.values:
            self.fail(f"[{self.path}] lacks {key}" if self.path else f"the file lacks {key}")
        return self.values[key]

    def text(self, key: str, default: str | None = None) -> str:
        """A text.

        Args:
            key: of this table.
            default: where the key is missing; None makes that an error.
        """
        if default is not None and key not in self.values:
            return default
        value = self.value(key)
        if not isinstance(value, str):
            self.refuse(key, "a text", value)
        return value

    def path_text(self, key: str) -> str:
        """A text that can be a path or a name of the operating system: one without NUL characters.

        Args:
            key: of this table; a missing one is an error.
        """
        value = self.text(key)
        if "\0" in value:
            self.refuse(key, "a text without NUL characters", value)
        return value

    def choice(self, key: str, known: Collection[str]) -> str:
        """One of several texts.

        Args:
            key: of this table.
            known: the texts.
        """
        value = self.text(key)
        if value not in known:
            near = difflib.get_close_matches(value, known, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            self.fail(f"{self.key_path(key)} must be one of {', '.join(known)}, found {describe(value)}{hint}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of at least one text.

        Args:
            key: of this table.
        """
        values = self.value(key)
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            self.refuse(key, "a list of texts", values)
        return tuple(values)

    def flag(self, key: str, default: bool) -> bool:
        """True or false.

        Args:
            key: of this table.
            default: where the key is missing.
        """
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false", value)
        return value

    def whole(self, key: str, default: int | None = None, *, lowest: int | None = None) -> int:
        """A whole number.

        Args:
            key: of this table.
            default: where the key is missing; None makes that an error.
            lowest: the smallest that is allowed; None for any.
        """
        if default is not None and key not in self.values:
            return default
        value = self.value(key)
        if not _is_whole(value):
            self.refuse(key, "a whole number", value)
        if lowest is not None and value < lowest:
            self.refuse(key, f"a whole number of at least {lowest}", value)
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number.

        Args:
            key: of this table.
            default: where the key is missing; None makes that an error.
        """
        if default is not None and key not in self.values:
            return default
        value = self.value(key)
        if not _is_number(value):
            self.refuse(key, "a finite number", value)
        return float(value)

    def positive(self, key: str) -> float:
        """A finite number above 0.

        Args:
            key: of this table.
        """
        value = self.value(key)
        if not _is_number(value) or value <= 0:
            self.refuse(key, "a positive finite number", value)
        return float(value)

    def numbers(self, key: str, count: int | None = None) -> tuple[float, ...]:
        """A list of finite numbers.

        Args:
            key: of this table.
            count: how many it must have; None for any.
        """
        values = self.value(key)
        if not _is_row(values, count):
            self.refuse(key, f"a list of {f'{count} ' if count is not None else ''}finite numbers", values)
        return tuple(float(value) for value in values)

    def wholes(self, key: str, count: int | None = None) -> tuple[int, ...]:
        """A list of whole numbers.

        Args:
            key: of this table.
            count: how many it must have; None for any.
        """
        values = self.value(key)
        right_count = isinstance(values, list) and (count is None or len(values) == count)
        if not right_count or not all(_is_whole(value) for value in values):
            self.refuse(key, f"a list of {f'{count} ' if count is not None else ''}whole numbers", values)
        return tuple(values)

    def rows(self, key: str, count: int | None = None) -> tuple[tuple[float, ...], ...]:
        """A list of lists of finite numbers.

        Args:
            key: of this table.
            count: how many numbers each list must have; None for any.
        """
        rows = self.value(key)
        if not isinstance(rows, list):
            self.refuse(key, "a list of lists of numbers", rows)
        for index, row in enumerate(rows):
            if not _is_row(row, count):
                each = f"{count} finite numbers" if count is not None else "finite numbers"
                self.refuse(f"{key}[{index}]", f"a list of {each}", row)
        return tuple(tuple(float(value) for value in row) for row in rows)

    def table(self, key: str, *, required: bool = False) -> TomlTable:
        """A table.

        Args:
            key: of this table.
            required: whether a missing table is an error; else it is an empty one.
        """
        value = self.value(key) if required else self.values.get(key, {})
        return self._table(key, value)

    def tables(self, key: str) -> tuple[TomlTable, ...]:
        """A list of tables; an empty one where the key is missing.

        Args:
            key: of this table.
        """
        values = self.values.get(key, [])
        if not isinstance(values, list):
            self.refuse(key, f"tables, [[{self.key_path(key)}]]", values)
        return tuple(self._table(f"{key}[{index}]", value) for index, value in enumerate(values))

    def _table(self, key: str, value: Any) -> TomlTable:
        if not isinstance(value, dict):
            self.refuse(key, "a table", value)
        return TomlTable(self.file, value, self.error, self.key_path(key))


def read_toml(path: str | Path, error: type[EdgeIspError]) -> TomlTable:
    """Reads a TOML file.

    Args:
        path: of the file.
        error: what a fault is reported as.

    Raises:
        EdgeIspError: of the type `error`: the file cannot be read, or is not TOML.
    """
    return parse_toml(read_file(path, error, LARGEST_FILE_BYTES), str(path), error)


def parse_toml(content: bytes, file: str, error: type[EdgeIspError]) -> TomlTable:
    """Reads the content of a TOML file.

    Args:
        content: of the file.
        file: the file's name, for errors.
        error: what a fault is reported as.

    Raises:
        EdgeIspError: of the type `error`: it is not TOML.
    """
    if len(content) > LARGEST_FILE_BYTES:
        raise error(f"{file}: larger than {LARGEST_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8")
        _check_keys(text)
        document = tomllib.loads(text)
    except UnicodeDecodeError as fault:
        raise error(f"{file}: not a TOML file: expected UTF-8 text, found byte {fault.start} not of it") from fault
    except RecursionError:
        raise error(f"{file}: not a TOML file that can be read: its values are nested too deeply") from None
    except ValueError as fault:  # TOMLDecodeError, and Python's own for a number of thousands of digits
        raise error(f"{file}: not a TOML file: {_shortened(str(fault))}") from fault
    return TomlTable(file, document, error)


def _check_keys(text: str) -> None:
    """Raises RecursionError where a key has too many parts: `tomllib` takes a time that grows with their square."""
    for line in text.split("\n"):
        if line.count(".") <= _LONGEST_KEY:
            continue
        bare = _STRING.sub("_", line).translate(_NO_BLANKS)
        if any(key.count(".") > _LONGEST_KEY for key in _NOT_OF_A_KEY.split(bare)):
            raise RecursionError


def describe(value: object) -> str:
    """A value of a TOML file in an error: short, whatever it is.

    Args:
        value: as `tomllib` returns it.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(describe(each) if not isinstance(each, list) else "[...]" for each in value[:8])
        return _shortened(f"[{shown}{', ...' if len(value) > 8 else ''}]")
    if isinstance(value, str | int | float):
        return _shortened(repr(value))
    return _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_WHOLE


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_row(values: object, count: int | None) -> bool:
    right_count = isinstance(values, list) and (count is None or len(values) == count)
    return right_count and all(_is_number(value) for value in values)  # type: ignore[attr-defined]
