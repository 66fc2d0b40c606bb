"""An ARM board in QEMU: Debian's kernel with its camera test driver, Python and the packages that edge_isp needs.

`Board.build()` makes what can be kept (a disk of 1 GB, a kernel, an initial RAM disk) in a cache folder, from Debian
packages that are unpacked without running any of their code; `Board.run()` boots it, runs a Python program from a
folder that both sides see, and powers off.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent

# Tools, and the Debian package that brings each.
TOOLS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "modprobe": "kmod",
    "cpio": "cpio",
}
SUITE = "bookworm"
PYTHON = "3.11"  # of that suite
DEBIAN_PACKAGES = ("busybox-static", "kmod", "v4l-utils", "python3", "libgomp1", "linux-image-arm64")
# What edge_isp needs; a wheel of edge_isp itself comes with each run.
PYTHON_PACKAGES = tuple(tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]["dependencies"])
# glibc 2.36 is that of the suite.
PLATFORMS = (*(f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)), "manylinux2014_aarch64")
MODULES = ("virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio")
# Not needed on the board.
SUPERFLUOUS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/python3/dist-packages")


class Missing(Exception):
    """The board cannot be built or run here."""


class Board:
    """The emulated board.

    Args:
        cache: folder that the parts are kept in.

    Raises:
        Missing: a tool is not installed; the message says how to get it.
    """

    def __init__(self, cache: Path | None = None) -> None:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        self._environment = {**os.environ, "PATH": path}
        packages = sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None})
        if packages:
            raise Missing(f"needs: sudo apt install --no-install-recommends {' '.join(packages)}")
        default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-isp" / "vm"
        recipe = repr((SUITE, DEBIAN_PACKAGES, PYTHON_PACKAGES, MODULES, SUPERFLUOUS, (HERE / "init").read_text()))
        key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        root = cache or Path(os.environ.get("EDGE_ISP_VM_CACHE", default))
        self._folder = root / key

    def build(self) -> None:
        """Makes the parts where they are not in the cache yet: some minutes, 1.5 GB.

        Raises:
            Missing: packages cannot be had.
        """
        if self._folder.exists():
            return
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder.parent, prefix="building-") as temporary:
            parts, root = Path(temporary) / "parts", Path(temporary) / "root"
            parts.mkdir()
            self._unpack(root)
            kernel = next(root.glob("boot/vmlinuz-*"))
            version = kernel.name.removeprefix("vmlinuz-")
            self._call(["depmod", "-b", str(root), version])
            shutil.copy(kernel, parts / "vmlinuz")
            self._make_initrd(root, version, parts / "initrd")
            shutil.rmtree(root / "boot")
            for folder in ("proc", "sys", "run", "mnt"):
                (root / folder).mkdir(exist_ok=True)
            disk = parts / "disk"
            with disk.open("wb") as file:
                file.truncate(2 << 30)
            self._call(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk)])
            parts.rename(self._folder)

    def run(self, share: Path, program: str, timeout_s: float = 3600) -> str:
        """Boots, runs a Python program of the shared folder in it, and powers off.

        Args:
            share: folder that the board sees as /mnt; `share`/site goes on Python's path.
            program: a file's name in it.

        Returns:
            what the board wrote on its console.

        Raises:
            subprocess.TimeoutExpired: it did not come to an end.
        """
        with tempfile.TemporaryDirectory() as temporary:
            disk = Path(temporary) / "disk"
            # What the board writes is thrown away.
            self._call(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(self._folder / "disk"), str(disk)]
            )
            command = [
                *("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a72", "-smp", "2", "-m", "3072"),
                *("-accel", "tcg,thread=multi", "-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot"),
                *("-kernel", str(self._folder / "vmlinuz"), "-initrd", str(self._folder / "initrd")),
                *("-append", f"console=ttyAMA0 quiet panic=-1 program={program}"),
                *("-drive", f"file={disk},if=none,id=disk,format=qcow2,cache=unsafe"),
                *("-device", "virtio-blk-pci,drive=disk"),
                *("-virtfs", f"local,path={share},mount_tag=share,security_model=none"),
            ]
            log = share / "console.log"
            with log.open("wb") as output:
                subprocess.run(
                    command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=timeout_s,
                    check=False,
                )
            return log.read_text("utf-8", "replace")

    def _unpack(self, root: Path) -> None:
        """Debian's packages and Python's, for ARM, unpacked."""
        self._call(
            [
                *("mmdebstrap", "--quiet", "--architectures=arm64", "--variant=extract"),
                f"--include={','.join(DEBIAN_PACKAGES)}",
                *("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", SUITE, str(root), *_sources()),
            ]
        )
        for folder in SUPERFLUOUS:
            shutil.rmtree(root / folder, ignore_errors=True)
        self._call(
            [
                *(sys.executable, "-m", "pip", "install", "-q", "--target", str(root / "opt/site")),
                *(part for platform in PLATFORMS for part in ("--platform", platform)),
                *("--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:", *PYTHON_PACKAGES),
            ]
        )

    def _make_initrd(self, root: Path, version: str, target: Path) -> None:
        """BusyBox, the modules that find the disk and the shared folder, and `init`."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in ("bin", "dev", "proc", "sys", "newroot", "modules"):
                (folder / name).mkdir()
            shutil.copy(root / "usr/bin/busybox", folder / "bin/busybox")
            shutil.copy(HERE / "init", folder / "init")
            (folder / "init").chmod(0o755)
            order: list[str] = []
            for module in MODULES:
                shown = self._call(["modprobe", "-d", str(root), "-S", version, "--show-depends", module])
                paths = [line.split()[1] for line in shown.splitlines() if line.startswith("insmod")]
                order += [path for path in paths if path not in order]
            for path in order:
                shutil.copy(path, folder / "modules")
            (folder / "modules/order").write_text("".join(f"{Path(path).name}\n" for path in order))
            names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
            archive = subprocess.run(
                ["cpio", "-o", "-H", "newc", "--quiet"],
                cwd=folder,
                input=names.encode(),
                capture_output=True,
                check=True,
            )
            target.write_bytes(archive.stdout)

    def _call(self, command: Sequence[str]) -> str:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout


def _sources() -> list[str]:
    """This machine's own sources of Debian packages, where it has some for the suite."""
    for path in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        if Path(path).exists() and SUITE in Path(path).read_text():
            return [path]
    return []
