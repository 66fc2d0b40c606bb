"""The public names, what an import costs, and the plug-ins."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import edge_isp
from edge_isp import plugins
from edge_isp.errors import EdgeIspError, MissingDependencyError, PluginError


def _stub_imports() -> dict[str, str]:
    """Module of each public name, as the stub of the package has it."""
    assert edge_isp.__file__
    tree = ast.parse(Path(edge_isp.__file__).with_suffix(".pyi").read_text())
    return {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def test_public_names_are_those_of_the_stub() -> None:
    modules = _stub_imports()
    assert edge_isp.__all__ == sorted(modules)
    for name, module in modules.items():
        value = getattr(edge_isp, name)
        assert value.__module__ == module
        assert value.__doc__
    assert set(edge_isp.__all__) <= set(dir(edge_isp))


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Imaginary'"):
        getattr(edge_isp, "Imaginary")  # noqa: B009 (type checkers know that it does not exist)


def test_import_loads_nothing_heavy() -> None:
    heavy = {"numba", "picamera2", "torch", "onnxruntime", "cv2", "ai_edge_litert", "PIL", "rawpy", "rich", "typer"}
    program = f"import sys, edge_isp; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_errors_are_one_tree() -> None:
    from edge_isp import errors

    ours = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert all(issubclass(error, EdgeIspError) for error in ours)
    error = MissingDependencyError("'x'", "rawpy", "dng")
    assert (
        str(error)
        == "'x' needs the package 'rawpy', which is not installed; install it with: pip install 'edge-isp[dng]'"
    )


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, specs in plugins.BUILT_IN.items() for n in specs])
def test_every_plug_in_of_our_own_loads(kind: str, name: str) -> None:
    assert name in plugins.names(kind)
    try:
        loaded = plugins.load(kind, name)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert isinstance(loaded, type)


def test_unknown_plug_in_names_what_there_is() -> None:
    with pytest.raises(
        PluginError, match="no 'imaginary' among cameras; there are: mcap, picamera2, replay, synthetic, v4l2"
    ):
        plugins.load("cameras", "imaginary")


def _entry_points(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    def find(group: str, name: str | None = None) -> list[EntryPoint]:
        return [e for e in entries if e.group == group and name in (None, e.name)]

    monkeypatch.setattr(plugins, "entry_points", find)


def test_a_plug_in_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    _entry_points(monkeypatch, EntryPoint("theirs", "collections:OrderedDict", "edge_isp.cameras"))
    assert plugins.load("cameras", "theirs").__name__ == "OrderedDict"
    assert "theirs" in plugins.names("cameras")


def test_two_plug_ins_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _entry_points(monkeypatch, EntryPoint("replay", "collections:OrderedDict", "edge_isp.cameras"))
    with pytest.raises(PluginError, match="more than one of cameras is named 'replay'"):
        plugins.load("cameras", "replay")


def test_a_plug_in_whose_package_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plugins.Spec("edge_isp_imaginary:Engine", (("edge_isp_imaginary", "onnx"),))
    monkeypatch.setitem(plugins.BUILT_IN["engines"], "imaginary", spec)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edge-isp\[onnx\]'"):
        plugins.load("engines", "imaginary")
