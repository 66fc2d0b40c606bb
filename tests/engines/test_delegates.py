"""The table of delegates, and what is found of it on boards that are folders of files."""

from __future__ import annotations

import grp
import os
import platform
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edge_isp import plugins
from edge_isp.engines import delegates
from edge_isp.engines.delegates import DELEGATES, DelegateSpec, find_delegate, probe, resolve
from edge_isp.errors import PluginError

Board = Callable[..., Path]


@pytest.fixture
def board(tmp_path: Path, npu: str) -> Board:
    """A file system of a board: what its device tree says, and empty device files; libraries are the tests' NPU."""

    def make(*compatible: str, devices: tuple[str, ...] = (), libraries: tuple[str, ...] = ()) -> Path:
        if compatible:
            tree = tmp_path / "proc/device-tree"
            tree.mkdir(parents=True, exist_ok=True)
            (tree / "compatible").write_bytes(b"".join(c.encode() + b"\0" for c in compatible))
        for path in devices:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        for path in libraries:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(Path(npu).read_bytes())
        return tmp_path

    return make


def test_every_delegate_of_the_table_can_be_used() -> None:
    assert len({spec.name for spec in DELEGATES}) == len(DELEGATES)
    for spec in DELEGATES:
        assert spec.engine in plugins.names("engines")
        assert spec.libraries or spec.package or spec.distribution
        assert (spec.engine == "onnxruntime") == bool(spec.provider)
        assert spec.models
        assert probe(spec, Path("/nowhere")).missing  # a machine without anything has none of them


@pytest.mark.parametrize(
    ("name", "compatible", "variant", "device", "library"),
    [
        ("vx", ("fsl,imx8mp-evk", "fsl,imx8mp"), "tflite", "dev/galcore", "usr/lib/libvx_delegate.so"),
        (
            "ethos-u",
            ("fsl,imx93-11x11-evk", "fsl,imx93"),
            "ethos-u65-256",
            "dev/ethosu0",
            "usr/lib/libethosu_delegate.so",
        ),
        ("neutron", ("fsl,imx95",), "neutron-imx95", "dev/neutron0", "usr/lib/libneutron_delegate.so"),
        ("teflon", ("radxa,rock-5b", "rockchip,rk3588"), "tflite", "dev/accel/accel0", "usr/lib/teflon/libteflon.so"),
        ("edgetpu", ("brcm,bcm2712",), "edgetpu", "dev/apex_0", "usr/lib/aarch64-linux-gnu/libedgetpu.so.1"),
        ("tidl", ("ti,am62a7-sk", "ti,am62a7"), "tidl", "dev/rpmsg0", "usr/lib/libtidl_tfl_delegate.so"),
        ("verisilicon", ("khadas,vim3", "amlogic,a311d"), "tflite", "dev/galcore", "usr/lib/libvx_delegate.so"),
    ],
)
def test_a_delegate_is_found_where_board_library_and_device_are(
    name: str,
    compatible: tuple[str, ...],
    variant: str,
    device: str,
    library: str,
    board: Board,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    spec = find_delegate(name)
    assert "no library" in probe(spec, board(*compatible)).missing
    assert "no such device, or its driver is not loaded" in probe(spec, board(libraries=(library,))).missing
    found = probe(spec, board(devices=(device,)))
    assert not found.missing
    assert found.library.endswith(library)
    assert spec.models[found.board] == variant
    if not any(pattern == "*" for pattern in spec.models):
        assert "this is raspberrypi,5" in probe(spec, board("raspberrypi,5", "brcm,bcm2712")).missing


def test_a_coral_on_usb_has_no_device_file(board: Board) -> None:
    root = board("brcm,bcm2712", libraries=("usr/lib/libedgetpu.so.1",))
    assert "USB device 1a6e:089a or USB device 18d1:9302" in probe(find_delegate("edgetpu"), root).missing
    stick = root / "sys/bus/usb/devices/1-1"
    stick.mkdir(parents=True)
    (stick / "idVendor").write_text("1a6e\n")
    assert probe(find_delegate("edgetpu"), root).missing
    (stick / "idProduct").write_text("089a\n")
    assert not probe(find_delegate("edgetpu"), root).missing


def test_a_device_without_permission_says_the_way_out(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    root = board(devices=("dev/apex_0",), libraries=("usr/lib/libedgetpu.so.1",))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(grp, "getgrgid", lambda group: type("Group", (), {"gr_name": "apex"}))
    missing = probe(find_delegate("edgetpu"), root).missing
    assert "no permission on" in missing
    assert "dev/apex_0 (group apex, mode 0644): sudo usermod -aG apex " in missing


def test_packages_are_looked_for_in_this_python_only(board: Board) -> None:
    root = board("hardkernel,m2", "rockchip,rk3588s", devices=("dev/hailo0",), libraries=("usr/lib/librknnrt.so",))
    for name, package in (("rknn", "rknnlite"), ("hailo", "hailo_platform")):
        spec = find_delegate(name)
        assert probe(spec, root).missing == f"the Python package '{package}' is not installed"
        assert not probe(spec, root, packages=False).missing
    assert find_delegate("rknn").models[probe(find_delegate("rknn"), root).board] == "rknn-rk3588"


def test_options_name_the_variants_folder(board: Board) -> None:
    spec = find_delegate("tidl")
    root = board("ti,am62a7", devices=("dev/rpmsg0",), libraries=("usr/lib/libtidl_tfl_delegate.so",))
    delegate = resolve(spec, probe(spec, root), Path("/models/tidl/model.tflite"))
    assert delegate.options == {"artifacts_folder": "/models/tidl", "import": "no", "debug_level": "0"}


def test_delegates_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(*specs: object) -> None:
        found = [EntryPoint("x", "x:X", "edge_isp.delegates") for _ in specs]
        remaining = list(specs)
        monkeypatch.setattr(EntryPoint, "load", lambda self: remaining.pop(0) if len(remaining) > 1 else remaining[0])
        monkeypatch.setattr(delegates, "entry_points", lambda group: found)

    theirs = DelegateSpec("theirs", "theirs", "litert", {"*": "tflite"}, libraries=("libtheirs.so",))
    entries(theirs)
    assert find_delegate("theirs") is theirs
    assert delegates.delegates()[0] is theirs  # before ours
    entries("no spec")
    with pytest.raises(PluginError, match="delegate 'x' .* must be a DelegateSpec"):
        delegates.delegates()
    entries(DelegateSpec("vx", "another", "litert", {"*": "tflite"}))
    with pytest.raises(PluginError, match="more than one delegate has the same name"):
        delegates.delegates()
