"""Structures and request numbers against the C compiler and the kernel's own headers."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_isp.cameras.v4l2 import abi as v4l2_abi

HEADERS = ("linux/videodev2.h", "linux/media.h", "linux/v4l2-subdev.h")


def structures() -> dict[str, type[ctypes.Structure]]:
    """Those of the module, by the kernel's names."""
    found = {}
    for value in vars(v4l2_abi).values():
        match = re.match(r"`struct (\w+)`", getattr(value, "__doc__", None) or "")
        if isinstance(value, type) and issubclass(value, ctypes.Structure) and match:
            found[match.group(1)] = value
    return found


def test_what_the_compiler_says(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not all(Path("/usr/include", header).exists() for header in HEADERS):
        pytest.skip("needs a C compiler and the kernel's headers (apt install gcc linux-libc-dev)")
    fields = {
        (struct, field): getattr(kind, field).offset
        for struct, kind in structures().items()
        for field, *_ in kind._fields_
        # Members of unions, under names of our own.
        if field
        not in ("stepwise", "min", "max", "step", "content", "reserved2", "request_fd", "major", "minor", "raw")
        and (struct, field) not in {("v4l2_querymenu", "reserved")}
    }
    lines = [f'printf("size {struct} %zu\\n", sizeof(struct {struct}));' for struct in structures()]
    lines += [f'printf("offset {s}.{f} %zu\\n", offsetof(struct {s}, {f}));' for s, f in fields]
    lines += [f'printf("request {name} %lu\\n", (unsigned long){name});' for name in v4l2_abi.REQUEST_NAMES.values()]
    source = tmp_path / "layout.c"
    includes = "".join(f"#include <{header}>\n" for header in ("stdio.h", "stddef.h", "sys/time.h", *HEADERS))
    source.write_text(includes + "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n")
    subprocess.run([compiler, "-o", str(tmp_path / "layout"), str(source)], check=True)
    output = subprocess.run([str(tmp_path / "layout")], capture_output=True, text=True, check=True).stdout
    expected = {(kind, name): int(number) for kind, name, number in map(str.split, output.splitlines())}
    ours = {("size", struct): ctypes.sizeof(kind) for struct, kind in structures().items()}
    ours |= {("offset", f"{s}.{f}"): offset for (s, f), offset in fields.items()}
    ours |= {("request", name): number for number, name in v4l2_abi.REQUEST_NAMES.items()}
    assert ours == expected
