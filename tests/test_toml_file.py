"""The one reader of TOML: whatever a file holds, a value of the right type or one clear error comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_isp.calibration.profile import load_profile, parse_profile
from edge_isp.cameras.sidecar import read_sidecar
from edge_isp.cameras.v4l2.media import read_setup
from edge_isp.errors import CameraError, EdgeIspError, FormatError, ModelError, ProfileError
from edge_isp.models.card import read_card
from edge_isp.toml_file import LARGEST_FILE_BYTES, TomlTable, describe, parse_toml, read_toml

READERS: dict[str, tuple[Callable[[Path], Any], type[EdgeIspError]]] = {
    "sidecar": (read_sidecar, FormatError),
    "card": (read_card, ModelError),
    "profile": (load_profile, ProfileError),
    "setup": (read_setup, CameraError),
}

WHOLE: dict[str, dict[str, Any]] = {
    "sidecar": {
        "format": {"width": 4, "height": 2, "cfa": "RGGB", "bit_depth": 10, "packing": "u16", "offset": 0},
        "sensor": {"name": "imx219", "black_level": [64, 64, 64, 64], "white_level": 1023},
        "frame": [
            {
                "colour_gains": [2.0, 1.5],
                "exposure_ns": 1,
                "analogue_gain": 1.0,
                "colour_matrix": [1, 0, 0, 0, 1, 0, 0, 0, 1],
                "noise_profile": [1e-4, 1e-6],
                "baseline_exposure_ev": 0.5,
                "orientation": 6,
            }
        ],
    },
    "card": {
        "model": {
            "file": "a.tflite",
            "name": "a",
            "task": "isp",
            "sensor": "generic",
            "colour": "calibrated",
            "sha256": "0",
            "licence": "MIT",
        },
        "input": {"shape": [1, 2, 2, 4], "dtype": "int8", "scale": 0.5, "zero_point": 0, "layout": "rggb"},
        "outputs": [{"shape": [1, 2, 2, 12], "dtype": "int8", "scale": 1, "zero_point": 0, "layout": "planes12"}],
        "agreement": {"rms_lsb": 1.0},
        "variants": {"npu": {"64x48": {"file": "b.tflite", "sha256": "0"}}},
    },
    "profile": {
        "sensor": {"name": "x", "bit_depth": 10, "cfa": "RGGB", "black_level": [1, 1, 1, 1], "white_level": 1023},
        "noise": {"shot": 1e-4, "row": 0.0},
        "awb": {"curve": [[3000, 0.8, 0.4], [6000, 0.5, 0.7]]},
        "colour_matrix": [{"colour_temperature_k": 3000, "matrix": [1, 0, 0, 0, 1, 0, 0, 0, 1]}],
        "tone": {"curve": [[0, 0], [65535, 65535]]},
        "shading": {
            "rows": 1,
            "columns": 2,
            "luminance": [[1.0, 1.5]],
            "colour": [{"colour_temperature_k": 3000, "red": [[1, 1]], "blue": [[1, 1]]}],
        },
        "defects": {"pixels": [[1, 2, 0.0, 0.5]]},
        "provenance": {"noise": {"source": "measured"}},
    },
    "setup": {
        "media": "m",
        "video": "v",
        "sensor": "s",
        "link": [{"source": ["a", 0], "sink": ["b", 0], "enabled": True}],
        "format": [{"entity": "a", "pad": 0, "code": "SRGGB10_1X10", "width": 64, "height": 48}],
        "controls": {"vertical_flip": 1},
    },
}

SCALARS = [
    "true",
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "9" * 400,
    "0x" + "f" * 5000,
    '"x"',
    '"\\u0000"',
    '"' + "y" * 900 + '"',
]
SCALARS += [
    "1979-05-27",
    "07:32:00",
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "[1, [2, [3]]]",
    "[nan, nan, nan, nan]",
    "['a', true]",
]


def toml(value: Any) -> str:
    """A value as TOML; texts that start with "=" stand for themselves."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() if value.startswith("="):
            return value[1:]
        case str():
            return f'"{value}"'
        case dict():
            return "{" + ", ".join(f'"{key}" = {toml(each)}' for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


def document(content: dict[str, Any]) -> bytes:
    return "\n".join(f'"{key}" = {toml(value)}' for key, value in content.items()).encode()


def places(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value, tables and lists included."""
    found = [at] if at else []
    if isinstance(content, dict):
        return found + [each for key, value in content.items() for each in places(value, (*at, key))]
    if isinstance(content, list):
        return found + [each for index, value in enumerate(content) for each in places(value, (*at, index))]
    return found


def replaced(content: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[at[0]] = replaced(content[at[0]], at[1:], value)
    return copy


@pytest.mark.parametrize("kind", READERS)
def test_whole_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(document(WHOLE[kind]))
    READERS[kind][0](path)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_wrong_value_anywhere_gives_the_reader_s_error(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    read, error = READERS[kind]
    at = data.draw(st.sampled_from(places(WHOLE[kind])))
    value = "=" + data.draw(st.sampled_from(SCALARS))
    path = tmp_path / "a.toml"
    path.write_bytes(document(replaced(WHOLE[kind], at, value)))
    message = ""
    try:
        read(path)
    except error as caught:
        message = str(caught)
    assert not message or message.startswith(f"{path}: ")
    assert len(message) < 1000 + len(str(path))


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_arbitrary_bytes_give_the_reader_s_error(tmp_path: Path, kind: str, content: bytes) -> None:
    read, error = READERS[kind]
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with contextlib.suppress(error):
        read(path)


def _structures() -> st.SearchStrategy[Any]:
    scalar = st.sampled_from(SCALARS).map(lambda text: f"={text}") | st.integers() | st.floats(allow_nan=False)
    keys = st.sampled_from(sorted({str(step) for whole in WHOLE.values() for at in places(whole) for step in at}))
    return st.recursive(
        scalar.filter(lambda value: not isinstance(value, float) or abs(value) < 1e300),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=12,
    )


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_arbitrary_structures_give_the_reader_s_error(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    read, error = READERS[kind]
    keys = st.sampled_from(sorted(WHOLE[kind]))
    content = WHOLE[kind] | data.draw(st.dictionaries(keys, _structures(), max_size=3))
    path = tmp_path / "a.toml"
    path.write_bytes(document(content))
    with contextlib.suppress(error):
        read(path)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = '\xff'", "not a TOML file: expected UTF-8 text, found byte 5 not of it"),
        (b"a = ", "not a TOML file: Invalid value"),
        (b"a = " + b"[" * 100_000, ".*nested too deeply"),
        (b"a." * 5000 + b"a = 1", ".*nested too deeply"),  # tomllib: a time that grows with the square
        (b"[" + b"a . " * 5000 + b"a]", ".*nested too deeply"),
        (b'"=,\\"".' * 5000 + b"a = 1", ".*nested too deeply"),
        (b"a = " + b"9" * 5000, "not a TOML file: .*4300 digits"),
        (b"#" * (LARGEST_FILE_BYTES + 1), f"larger than {LARGEST_FILE_BYTES} bytes"),
    ],
)
def test_what_is_not_toml(tmp_path: Path, kind: str, content: bytes, message: str) -> None:
    read, error = READERS[kind]
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(error, match=f"a.toml: {message}"):
        read(path)


@pytest.mark.parametrize("kind", READERS)
def test_files_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    read, error = READERS[kind]
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(error, match="folder.toml: cannot be read: Is a directory"):
        read(tmp_path / "folder.toml")
    with pytest.raises(error, match="no such file|cannot be read"):
        read(Path("nul\0.toml"))
    with pytest.raises(FormatError, match=r"a\\0b: cannot be read: a path must not hold a NUL"):
        read_toml("a\0b", FormatError)


def table(text: str) -> TomlTable:
    return parse_toml(text.encode(), "f.toml", FormatError).table("t")


@pytest.mark.parametrize(
    ("text", "get", "message"),
    [
        ("a = 1.5", lambda t: t.whole("a"), "t.a must be a whole number, found 1.5"),
        ("a = true", lambda t: t.whole("a"), "t.a must be a whole number, found true"),
        ("a = false", lambda t: t.number("a"), "t.a must be a finite number, found false"),
        ("a = nan", lambda t: t.number("a"), "t.a must be a finite number, found nan"),
        ("a = inf", lambda t: t.positive("a"), "t.a must be a positive finite number, found inf"),
        ("a = 0", lambda t: t.positive("a"), "t.a must be a positive finite number, found 0"),
        (
            "a = 0xffffffffffffffffffff",
            lambda t: t.number("a"),
            "t.a must be a finite number, found a whole number of 80 bits",
        ),
        ("a = 3", lambda t: t.whole("a", lowest=4), "t.a must be a whole number of at least 4, found 3"),
        ("a = 3", lambda t: t.text("a"), "t.a must be a text, found 3"),
        ('a = "x\\u0000"', lambda t: t.path_text("a"), "t.a must be a text without NUL characters"),
        (
            'a = "gren"',
            lambda t: t.choice("a", ("red", "green")),
            "one of red, green, found 'gren'; did you mean 'green'",
        ),
        ("a = [1]", lambda t: t.numbers("a", 2), "t.a must be a list of 2 finite numbers, found [1]"),
        ("a = [1, inf]", lambda t: t.numbers("a"), "t.a must be a list of finite numbers, found [1, inf]"),
        ("a = [1.0]", lambda t: t.wholes("a"), "t.a must be a list of whole numbers, found [1.0]"),
        ("a = [[1, 2], [3]]", lambda t: t.rows("a", 2), "t.a[1] must be a list of 2 finite numbers, found [3]"),
        ("a = {}", lambda t: t.rows("a"), "t.a must be a list of lists of numbers, found a table"),
        ("a = []", lambda t: t.texts("a"), "t.a must be a list of texts, found []"),
        ("a = 1", lambda t: t.flag("a", True), "t.a must be true or false, found 1"),
        ("a = 1", lambda t: t.table("a"), "t.a must be a table, found 1"),
        ("a = {}", lambda t: t.tables("a"), "t.a must be tables, [[t.a]], found a table"),
        ("a = [{}, 1]", lambda t: t.tables("a"), "t.a[1] must be a table, found 1"),
        ("", lambda t: t.whole("a"), "[t] lacks a"),
        ("", lambda t: t.check_keys(("a", "b"), ("a", "b")), "[t] lacks a, b"),
        ("widht = 1", lambda t: t.check_keys(("width",)), "[t] has the unknown key 'widht'; did you mean 'width'?"),
        ("qqq = 1", lambda t: t.check_keys(("width",)), "[t] has the unknown key 'qqq'; known are width"),
    ],
)
def test_errors_name_file_key_expected_and_found(text: str, get: Callable[[TomlTable], object], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        get(table(f"[t]\n{text}"))
    assert str(caught.value).startswith("f.toml: ")
    assert message in str(caught.value)


def test_dots_of_values_are_no_key() -> None:
    numbers = ", ".join(["1.5"] * 500)
    text = f'a.b = [{numbers}]\n"c.d" = "{"x." * 500}"\ne = \'{"y." * 500}\' # {"z. " * 500}\n'
    read = parse_toml(text.encode(), "x.toml", FormatError)
    assert read.table("a").numbers("b", 500) == (1.5,) * 500
    assert read.text("c.d") == "x." * 500


def test_values_of_the_right_type() -> None:
    found = table(
        '[t]\nw = 3\nn = 1\nf = false\nt = "x"\nr = [[1, 2], [3, 4]]\nl = ["a", "b"]\n[[t.e]]\nk = 1\n[[t.e]]\nk = 2'
    )
    assert (found.whole("w"), found.number("n"), found.flag("f", True), found.text("t")) == (3, 1.0, False, "x")
    assert isinstance(found.number("n"), float)
    assert found.rows("r", 2) == ((1, 2), (3, 4))
    assert found.texts("l") == ("a", "b")
    assert [each.whole("k") for each in found.tables("e")] == [1, 2]
    assert found.tables("e")[1].key_path("k") == "t.e[1].k"
    assert (found.whole("none", 5), found.number("none", 0.5), found.text("none", ""), found.tables("none")) == (
        5,
        0.5,
        "",
        (),
    )


def test_values_are_shown_in_short() -> None:
    assert describe("x" * 1000).endswith("...")
    assert len(describe([["x" * 1000] * 1000] * 1000)) < 300
    assert describe(10**5000) == "a whole number of 16610 bits"


def test_an_empty_list_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(document(WHOLE["sidecar"] | {"frame": []}))
    with pytest.raises(FormatError, match=r"a.toml: frame must be a table \[frame\] for all frames, or .*found \[\]"):
        read_sidecar(path)


def test_sections_without_their_list_are_refused() -> None:
    with pytest.raises(ProfileError, match=r"x: \[awb\] lacks curve"):
        parse_profile(document(WHOLE["profile"] | {"awb": {}}), "x")
