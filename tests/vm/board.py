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
from dataclasses import dataclass
from pathlib import Path

from tests.vm.tools import PATH, apt_line, missing_packages

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Suite:
    """A release of Debian.

    Attributes:
        name: as apt has it.
        python: version of its Python.
        glibc: minor version of its C library, of 2.
    """

    name: str
    python: str
    glibc: int


BOOKWORM, TRIXIE = Suite("bookworm", "3.11", 36), Suite("trixie", "3.13", 41)
DEBIAN_PACKAGES = ("busybox-static", "kmod", "v4l-utils", "python3", "libgomp1", "linux-image-arm64")
# What edge_isp needs; a wheel of edge_isp itself comes with each run.
PYTHON_PACKAGES = tuple(tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]["dependencies"])
# What its tests need.
TEST_PACKAGES = ("pytest", "hypothesis", "pillow")
# Drivers that Debian's ARM kernel lacks: built here, against its headers, from these packages.
DRIVERS = ("vimc", "v4l2loopback")
MODULES = ("virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio")
# Not needed on the board.
SUPERFLUOUS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/python3/dist-packages")


class Missing(Exception):
    """The board cannot be built or run here."""


def boot(command: Sequence[str], share: Path, timeout_s: float) -> str:
    """Runs an emulated machine until it switches itself off; returns what it said on its console.

    Args:
        command: of the emulator.
        share: folder for `console.log`.
        timeout_s: seconds that it may take.

    Raises:
        subprocess.TimeoutExpired: it did not come to an end.
    """
    log = share / "console.log"
    with log.open("wb") as output:
        subprocess.run(
            command,
            env={**os.environ, "PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=timeout_s,
            check=False,
        )
    return log.read_text("utf-8", "replace")


class Board:
    """The emulated board.

    Args:
        suite: what it runs.
        cache: folder that the parts are kept in.

    Raises:
        Missing: a tool is not installed; the message says how to get it.
    """

    def __init__(self, suite: Suite = BOOKWORM, cache: Path | None = None) -> None:
        self._suite = suite
        self._environment = {**os.environ, "PATH": PATH}
        packages = missing_packages()
        if packages:
            raise Missing(f"needs: {apt_line(packages)}")
        default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-isp" / "vm"
        recipe = repr(
            (
                *(suite, DEBIAN_PACKAGES, PYTHON_PACKAGES, TEST_PACKAGES, MODULES, SUPERFLUOUS, DRIVERS),
                (HERE / "init").read_text(),
            )
        )
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
            parts, root, sources = (Path(temporary) / name for name in ("parts", "root", "sources"))
            parts.mkdir()
            sources.mkdir()
            self._unpack(root)
            kernel = next(root.glob("boot/vmlinuz-*"))
            version = kernel.name.removeprefix("vmlinuz-")
            self._call(["depmod", "-b", str(root), version])
            if self._suite is BOOKWORM:
                self._download_sources(root, sources, version)
                self._build_drivers(sources, version, root / "opt/modules")
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

    def run(self, share: Path, program: str, timeout_s: float) -> str:
        """Boots, runs a Python program of the shared folder in it, and powers off.

        Args:
            share: folder that the board sees as /mnt; `share`/site goes on Python's path.
            program: a file's name in it.
            timeout_s: longest time.

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
            return boot(command, share, timeout_s)

    def _unpack(self, root: Path) -> None:
        """Debian's packages and Python's, for ARM, unpacked."""
        self._call(
            [
                *("mmdebstrap", "--quiet", "--architectures=arm64", "--variant=extract"),
                f"--include={','.join(DEBIAN_PACKAGES)}",
                *("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", self._suite.name, str(root)),
                *_sources(self._suite),
            ]
        )
        for folder in SUPERFLUOUS:
            shutil.rmtree(root / folder, ignore_errors=True)
        platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(self._suite.glibc, 16, -1)]
        for name, packages in (("site", PYTHON_PACKAGES), ("test-site", TEST_PACKAGES)):
            self._call(
                [
                    *(sys.executable, "-m", "pip", "install", "-q", "--target", str(root / "opt" / name)),
                    *(part for each in [*platforms, "manylinux2014_aarch64"] for part in ("--platform", each)),
                    *("--python-version", self._suite.python, "--implementation", "cp", "--only-binary=:all:"),
                    *packages,
                ]
            )

    def _download_sources(self, root: Path, target: Path, version: str) -> None:
        """What drivers are built from, for the kernel that was unpacked and from where that came."""
        own, series = self._call(["dpkg", "--print-architecture"]).strip(), ".".join(version.split(".")[:2])
        (target / "lists/partial").mkdir(parents=True)
        (target / "cache/archives/partial").mkdir(parents=True)
        apt = [
            "apt-get",
            *("-qq", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures::=arm64"),
            *("-o", f"APT::Architectures::={own}", "-o", f"Dir::Etc::sourcelist={root}/etc/apt/sources.list"),
            *("-o", f"Dir::Etc::sourceparts={root}/etc/apt/sources.list.d", "-o", "Dir::State::status=/dev/null"),
            *("-o", f"Dir::State::lists={target}/lists", "-o", f"Dir::Cache={target}/cache"),
            *("-o", "APT::Sandbox::User=root"),
        ]
        self._call([*apt, "update"])
        # The headers' programs are this machine's, everything else is the board's.
        packages = [f"linux-headers-{version}:arm64", f"linux-headers-{version.removesuffix('-arm64')}-common:all"]
        packages += [f"linux-kbuild-{series}:{own}", f"linux-source-{series}:all", "v4l2loopback-dkms:all"]
        self._call([*apt, "download", *packages], folder=target)

    def _build_drivers(self, sources: Path, version: str, target: Path) -> None:
        """Builds `DRIVERS` with a cross compiler, against the headers of the board's kernel."""
        target.mkdir(parents=True)
        for package in sources.glob("*.deb"):
            self._call(["dpkg-deb", "-x", str(package), str(sources)])
        headers = sources / "usr/src" / f"linux-headers-{version}"
        for name in ("Makefile", ".kernelvariables"):
            if (makefile := headers / name).exists():
                makefile.write_text(makefile.read_text().replace("/usr/src", str(sources / "usr/src")))
        (archive,) = (sources / "usr/src").glob("linux-source-*.tar.xz")
        vimc = "drivers/media/test-drivers/vimc"
        self._call(
            ["tar", "-xf", str(archive), "-C", str(sources), "--strip-components=1", "--wildcards", f"*/{vimc}/*"]
        )
        (loopback,) = (sources / "usr/src").glob("v4l2loopback-*")
        for name, folder in (("vimc", sources / vimc), ("v4l2loopback", loopback)):
            if name == "v4l2loopback":
                # Its own Makefile is for a build on the board.
                (folder / "Makefile").write_text("obj-m := v4l2loopback.o\n")
            self._call(
                [
                    *("make", "-C", str(headers), f"M={folder}", "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"),
                    *("CC=aarch64-linux-gnu-gcc", "CONFIG_VIDEO_VIMC=m", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"),
                ]
            )
            shutil.copy(folder / f"{name}.ko", target)

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

    def _call(self, command: Sequence[str], folder: Path | None = None) -> str:
        done = subprocess.run(command, cwd=folder, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout


def _sources(suite: Suite) -> list[str]:
    """This machine's own sources of Debian packages, where it has some for the suite."""
    for path in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        if Path(path).exists() and suite.name in Path(path).read_text():
            return [path]
    return []
