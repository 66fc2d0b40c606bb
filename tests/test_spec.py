"""Specifications of plug-ins: their grammar, and values by the parameters' types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_isp import plugins
from edge_isp.errors import CameraError, did_you_mean
from edge_isp.frame import Packing
from edge_isp.spec import Spec, construct, parse_spec


class Everything:
    """Takes a parameter of each kind."""

    def __init__(  # type: ignore[no-untyped-def]
        self,
        device: str | int | None = None,
        *,
        whole: int = 0,
        real: float = 0.0,
        limit: int | float | None = None,
        flag: bool = False,
        text: str = "",
        path: Path | None = None,
        packing: Packing = Packing.U16,
        mode: Literal["fast", "good"] = "good",
        hidden: list[int] | None = None,
        unknown=None,
    ) -> None:
        self.values = {name: value for name, value in locals().items() if name != "self"}


class Needy:
    def __init__(self, photo: str, *, size: int) -> None:
        pass


class Bare:
    """Takes nothing."""


@pytest.fixture(autouse=True, scope="module")
def _plugins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Everything", "Needy", "Bare"):
            patch.setitem(plugins.BUILT_IN["cameras"], name.lower(), plugins.Spec(f"tests.test_spec:{name}"))
        yield


def values(text: str) -> dict[str, Any]:
    made = construct("cameras", parse_spec(text))
    assert isinstance(made, Everything)
    return made.values


def test_the_grammar() -> None:
    text = "v4l2:/dev/v4l/by-path/a:1,0-index,fps=30,path=a=b,c"
    assert parse_spec(text) == Spec(text, "v4l2", "/dev/v4l/by-path/a:1,0-index", {"fps": "30", "path": "a=b,c"})
    assert parse_spec("") == Spec("", "", "", {})


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("whole=-3", -3),
        ("real=2", 2.0),
        ("real=1e3", 1000.0),
        ("limit=2", 2),
        ("limit=2.5", 2.5),
        ("limit=none", None),
        ("flag=yes", True),
        ("flag=0", False),
        ("text=2", "2"),
        ("text=none", "none"),
        ("path=a/b", Path("a/b")),
        ("path=none", None),
        ("packing=csi2p", Packing.CSI2P),
        ("mode=fast", "fast"),
        ("hidden=none", None),
        ("unknown=7", 7),
        ("unknown=7.5", 7.5),
        ("unknown=seven", "seven"),
        ("unknown=none", None),
    ],
)
def test_values_have_the_types_of_their_parameters(setting: str, expected: object) -> None:
    key = setting.partition("=")[0]
    found = values(f"everything,{setting}")[key]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("argument", "expected"), [("0", 0), ("/dev/video0", "/dev/video0"), ("none", None)])
def test_the_argument_has_a_type_too(argument: str, expected: object) -> None:
    assert values(f"everything:{argument}")["device"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("everything,whole=abc", "camera 'everything,whole=abc': whole must be a whole number, found 'abc'"),
        ("everything,whole=1.5", "whole must be a whole number, found '1.5'"),
        (f"everything,whole={'9' * 5000}", "whole must be a whole number, found '9{100}\\.\\.\\.'"),
        ("everything,real=x", "real must be a number, found 'x'"),
        ("everything,real=nan", "real must be a number, found 'nan'"),
        ("everything,real=inf", "real must be a number, found 'inf'"),
        ("everything,limit=x", "limit must be a whole number or a number or none, found 'x'"),
        ("everything,flag=2", "flag must be yes or no, found '2'"),
        ("everything,packing=u8x", "packing must be one of u8, u16, u16-left, csi2p, pisp-comp1, found 'u8x'"),
        ("everything,mode=best", "mode must be one of fast, good, found 'best'"),
        ("everything,fla=yes", "unknown fla; did you mean 'flag'.; 'everything' knows: whole, real, .*unknown"),
        ("everythin", "there is no camera named 'everythin'; did you mean 'everything'.; there are: bare, "),
        ("everything,hidden=1", "hidden cannot be set in a specification"),
        ("needy", "photo, size is missing; expected needy:PHOTO,size=..."),
        ("needy:x", "size is missing"),
        ("bare:x", "'bare' takes no argument, found 'x'"),
        ("bare,a=1", "unknown a; 'bare' knows: no settings"),
        ("", "camera '': there is no camera named ''; there are"),
    ],
)
def test_each_mistake_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(CameraError, match=message) as error:
        construct("cameras", parse_spec(text))
    assert len(str(error.value)) < 500


@given(st.text(max_size=60) | st.from_regex(r"everything(:.*)?(,(whole|real|flag|limit|path)=.*)*", fullmatch=True))
def test_no_text_is_another_exception(text: str) -> None:
    spec = parse_spec(text)
    assume(spec.name in ("everything", "needy", "bare") or spec.name not in plugins.names("cameras"))
    with suppress(CameraError):
        construct("cameras", spec)


def test_names_that_are_not_similar_are_not_suggested() -> None:
    assert did_you_mean("zzz", ["picamera2"]) == ""
    assert did_you_mean("picamera", ["picamera2", "replay"]) == "; did you mean 'picamera2'?"
