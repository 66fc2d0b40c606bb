"""An emulated machine with the real v4l2loopback module: Debian's kernel, and this machine's own files as its disk.

Only the kernel and the module are made, in a cache folder, from Debian packages that are unpacked without running any
of their code; Python and everything else is what this machine has, mounted read-only. Only for x86-64.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.vm.board import Missing, boot
from tests.vm.tools import PATH, apt_line, missing_packages

MODULES = ("virtio_pci", "9p", "9pnet_virtio", "videodev")
INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read module; do insmod /modules/$module; done < /modules/order
insmod /modules/v4l2loopback.ko video_nr=10 card_label=edge_isp exclusive_caps=1
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose root /newroot
mount -t tmpfs tmp /newroot/tmp
mkdir /newroot/tmp/share
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 share /newroot/tmp/share
for folder in dev proc sys; do mount --move /$folder /newroot/$folder; done
chroot /newroot /bin/sh /tmp/share/start
echo o > /newroot/proc/sysrq-trigger
sleep 60
"""


class LoopbackMachine:
    """The emulated machine.

    Args:
        cache: folder that the kernel and the module are kept in.

    Raises:
        Missing: a tool is not installed; the message says how to get it.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._environment = {**os.environ, "PATH": PATH}
        packages = missing_packages()
        if packages:
            raise Missing(f"needs: {apt_line(packages)}")
        default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-isp" / "vm"
        key = hashlib.sha256(repr((MODULES, INIT)).encode()).hexdigest()[:12]
        self._folder = (cache or Path(os.environ.get("EDGE_ISP_VM_CACHE", default))) / f"loopback-{key}"

    def build(self) -> None:
        """Makes the kernel and its first disk where they are not in the cache yet: a minute, 500 MB for a moment.

        Raises:
            Missing: packages cannot be had, or the module cannot be built.
        """
        if self._folder.exists():
            return
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder.parent, prefix="building-") as temporary:
            root, parts = Path(temporary) / "root", Path(temporary) / "parts"
            parts.mkdir()
            version = self._unpack(root)
            module = self._build_module(root, version)
            self._make_initrd(root, version, module, parts / "initrd")
            shutil.copy(root / "boot" / f"vmlinuz-{version}", parts / "vmlinuz")
            parts.rename(self._folder)

    def run(self, share: Path, program: str, timeout_s: float = 3600) -> str:
        """Boots, runs a Python program of the shared folder with this machine's Python, and powers off.

        Args:
            share: folder that the machine sees as /tmp/share, and may write to.
            program: a file's name in it.
            timeout_s: longest time.

        Returns:
            what the machine wrote on its console.

        Raises:
            subprocess.TimeoutExpired: it did not come to an end.
        """
        (share / "start").write_text(
            "export HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
            f"export PYTHONPATH='{Path(__file__).parents[2]}' EDGE_ISP_CACHE=/tmp/share/cache\n"
            f"'{sys.executable}' /tmp/share/{program}\n"
        )
        command = [
            *("qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-smp", "2", "-m", "2048"),
            *("-accel", "tcg,thread=multi", "-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot"),
            *("-kernel", str(self._folder / "vmlinuz"), "-initrd", str(self._folder / "initrd")),
            *("-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"),
            *("-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"),
            *("-virtfs", f"local,path={share},mount_tag=share,security_model=none"),
        ]
        return boot(command, share, timeout_s)

    def _unpack(self, root: Path) -> str:
        """Debian's kernel, its headers and the module's source, unpacked; returns the kernel's version."""
        root.mkdir()
        depends = self._call(["apt-cache", "depends", "linux-image-amd64"])
        match = re.search(r"Depends: linux-image-(\S+)", depends)
        if match is None:
            raise Missing("needs apt sources with linux-image-amd64")
        version = match[1]
        common = version.removesuffix("-amd64")
        names = [f"linux-image-{version}", f"linux-headers-{version}", f"linux-headers-{common}-common"]
        kbuild = f"linux-kbuild-{'.'.join(version.split('.')[:2])}"
        self._call(["apt-get", "download", *names, kbuild, "v4l2loopback-dkms", "busybox-static"], cwd=root.parent)
        for package in root.parent.glob("*.deb"):
            self._call(["dpkg-deb", "-x", str(package), str(root)])
        return version

    def _build_module(self, root: Path, version: str) -> Path:
        headers = root / "usr/src" / f"linux-headers-{version}"
        makefile = headers / "Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))
        kbuild = next(root.glob("usr/lib/linux-kbuild-*"))
        for name in ("scripts", "tools"):  # absolute links of the packages
            link = headers / name
            if not link.exists():
                link.unlink(missing_ok=True)
                link.symlink_to(kbuild / name)
        source = next(path for path in root.glob("usr/src/v4l2loopback-*") if path.is_dir())
        self._call(["make", "-C", str(headers), f"M={source}", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"])
        return source / "v4l2loopback.ko"

    def _make_initrd(self, root: Path, version: str, module: Path, target: Path) -> None:
        """BusyBox, the modules that find the disk, the loopback module and `init`."""
        self._call(["depmod", "-b", str(root), version])
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in ("bin", "dev", "proc", "sys", "newroot", "modules"):
                (folder / name).mkdir()
            shutil.copy(
                next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists()), folder / "bin"
            )
            (folder / "init").write_text(INIT)
            (folder / "init").chmod(0o755)
            order: list[str] = []
            for name in MODULES:
                shown = self._call(["modprobe", "-d", str(root), "-S", version, "--show-depends", name])
                paths = [line.split()[1] for line in shown.splitlines() if line.startswith("insmod")]
                order += [path for path in paths if path not in order]
            for path in (*order, str(module)):
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

    def _call(self, command: list[str], cwd: Path | None = None) -> str:
        done = subprocess.run(command, env=self._environment, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout
