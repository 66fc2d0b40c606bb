"""`edge-isp doctor`: one page about this machine, for a bug report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edge_isp.board import FIX_GOVERNOR
from edge_isp.cli import options


def doctor(as_json: options.Json = False) -> None:
    """Show what this machine is, which cameras, runtimes and NPUs it has, and why the others are missing."""
    from edge_isp.doctor import examine

    found = examine()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_page(found)))


def _page(found: dict[str, Any]) -> Iterator[str]:
    system, board, processor = found["system"], found["board"], found["processor"]
    yield _line("edge_isp", f"{found['edge_isp'] or 'not installed'}, Python {found['python']['version']}")
    yield _line("", found["python"]["executable"])
    yield _line("board", f"{board['name'] or 'unknown'}, {board['soc'] or 'no device tree'}")
    memory = f", {board['memory_mib']} MiB" if board["memory_mib"] else ""
    yield _line("system", f"{system['name']}, kernel {system['kernel']}, {system['machine']}, {system['libc']}{memory}")
    yield _line("processor", f"{processor['cores']} cores, load {' '.join(map(str, processor['load']))}")
    for policy in processor["policies"]:
        yield _line(
            "",
            f"{policy['name']}: {policy['governor']}, {_mhz(policy['frequency_khz'])} of "
            f"{_mhz(policy['maximum_khz'])} MHz",
        )
    if any(policy["governor"] not in (None, "performance") for policy in processor["policies"]):
        yield _line("", f"the clock changes while something is measured; {FIX_GOVERNOR}")
    temperatures = ", ".join(f"{name} {value:.1f} °C" for name, value in found["temperatures_c"].items())
    yield _line("temperature", temperatures or "not known")
    throttled = found["throttled"]
    if throttled is None:
        yield _line("throttling", "not known")
    else:
        yield _line(
            "throttling",
            f"now {', '.join(throttled['now']) or 'none'}; "
            f"since the start {', '.join(throttled['since_start']) or 'none'}",
        )
    yield from _memory(found["memory"])
    yield ""
    yield "cameras"
    for camera in found["cameras"]:
        yield _line(f"  {camera['device']}", f"{camera['name']}{_reason(camera['problem'])}")
    if not found["cameras"]:
        yield "  none that the kernel knows"
    yield _line("  picamera2", found["picamera2"])
    for camera in found["opened_cameras"]:
        able = f"{camera['modes']} modes" if camera["problem"] is None else "cannot be used"
        yield _line(f"  {camera['spec']}", f"{camera['name']}: {able}{_reason(camera['problem'])}")
    yield ""
    yield "runtimes"
    for name, version in found["runtimes"].items():
        yield _line(f"  {name}", version or "-")
    yield ""
    yield "delegates"
    for delegate in found["delegates"]:
        yield _line(f"  {delegate['name']}", f"{_verdict(delegate)}{_reason(delegate['why'])}")
        if delegate["report"]:
            yield _line("", delegate["report"]["events"][-1]["reason"])
    yield ""
    permissions = found["permissions"]
    yield _line("permissions", f"user {permissions['user']}, groups {' '.join(permissions['groups']) or 'none'}")
    for denied in permissions["denied"]:
        yield _line("", denied)
    yield _line("packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items() if version))
    for name, value in found["environment"].items():
        yield _line("environment" if name == next(iter(found["environment"])) else "", f"{name}={value}")


def _memory(memory: dict[str, Any]) -> Iterator[str]:
    available = memory["available_mb"]
    yield _line("memory", "not known" if available is None else f"{available} MB available")
    if available is not None:
        yield _line("", f"frames are run in tiles where the model needs more than half of it, {available // 2} MB")
    yield _line("", "peak of a stream, in MB, whole (and in tiles):")
    peaks = memory["peaks"]
    for model in dict.fromkeys(peak["model"] for peak in peaks):
        sizes = [
            f"{peak['width']}x{peak['height']} {peak['whole_mb']}"
            + (f" ({peak['tiles_mb']})" if peak["tiles_mb"] is not None else "")
            for peak in peaks
            if peak["model"] == model
        ]
        yield _line("", f"{model}: {', '.join(sizes)}")


def _verdict(delegate: dict[str, Any]) -> str:
    if delegate["works"]:
        return "works"
    if not delegate["found"]:
        return "no"
    return "found" if delegate["works"] is None else "found, and fails"


def _reason(text: str) -> str:
    return f": {text}" if text else ""


def _mhz(khz: int | None) -> str:
    return "?" if khz is None else str(khz // 1000)


def _line(name: str, text: str) -> str:
    return f"{name:<20} {text}".rstrip()
