"""The programs that the emulated board needs here; as a program, it says how to get the missing ones."""

from __future__ import annotations

import os
import shutil
import sys

# Tools, and the Debian package that brings each.
TOOLS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "modprobe": "kmod",
    "cpio": "cpio",
    "make": "make",
    "patch": "patch",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
}

# Where Debian has tools of the administrator.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def missing_packages() -> list[str]:
    """Debian's packages of the tools that are not installed."""
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=PATH) is None})


def apt_line(packages: list[str]) -> str:
    """The command that installs packages.

    Args:
        packages: of Debian.
    """
    return f"sudo apt install --no-install-recommends {' '.join(packages)}"


if __name__ == "__main__" and (missing := missing_packages()):
    print(f"the emulated board needs: {apt_line(missing)}", file=sys.stderr)
    sys.exit(1)
