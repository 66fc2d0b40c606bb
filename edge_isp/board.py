"""What this machine is, as the Linux kernel describes it: board, SoC, clocks, temperature, throttling, memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The bits of the word that the firmware of a Raspberry Pi reports; the same bits 16 places higher say that the
# condition has occurred since the machine started. Source: documentation of `vcgencmd get_throttled`.
_CONDITIONS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
THROTTLING_CONDITIONS = tuple(_CONDITIONS.values())
_UNDER_VOLTAGE, _THROTTLED = 1 << 0, 1 << 2
_SINCE_START = 16

# The firmware's device is `soc/soc:firmware` on a Raspberry Pi 4 and `soc@107c000000/soc@107c000000:firmware` on a
# Raspberry Pi 5, and it has been below `axi` as well; its driver's folder links to it under whichever name it has.
_FIRMWARE = ("sys/bus/platform/drivers/raspberrypi-firmware/*", "sys/devices/platform/*/*:firmware")

# Until the next start of the machine; the kernel's own interface, so that no package is needed.
FIX_GOVERNOR = "to fix it: echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"


@dataclass(frozen=True, slots=True)
class ClockPolicy:
    """CPUs that share one clock, and how it is governed. What the kernel does not say is None.

    Attributes:
        name: the kernel's name of it ("policy0").
        governor: what sets the clock ("performance", "ondemand").
        frequency_khz: the clock now.
        allowed_khz: lowest and highest clock that the governor may set.
        maximum_khz: the highest clock of the hardware.
    """

    name: str
    governor: str | None
    frequency_khz: int | None
    allowed_khz: tuple[int, int] | None
    maximum_khz: int | None


@dataclass(frozen=True, slots=True)
class Throttling:
    """Why the machine may be slower than it could be.

    Attributes:
        flags: a word as the firmware of a Raspberry Pi reports it.
    """

    flags: int

    @property
    def now(self) -> tuple[str, ...]:
        """The conditions that hold now ("under-voltage")."""
        return tuple(name for bit, name in _CONDITIONS.items() if self.flags >> bit & 1)

    @property
    def since_start(self) -> tuple[str, ...]:
        """The conditions that have occurred since the machine started."""
        return tuple(name for bit, name in _CONDITIONS.items() if self.flags >> (bit + _SINCE_START) & 1)


@dataclass(frozen=True, slots=True)
class Board:
    """Reads the kernel's files anew with every call. What they do not say is None or empty, never an error.

    Args:
        root: the root of the file system; tests pass a folder of their own.
    """

    root: Path = Path("/")

    def model(self) -> str | None:
        """The name of the board: from the device tree ("Raspberry Pi 5 Model B Rev 1.0"), else from the BIOS."""
        names = (read_text(self.root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
        return read_text(self.root / "proc/device-tree/model") or " ".join(filter(None, names)) or None

    def compatible(self) -> tuple[str, ...]:
        """What the device tree calls the board and its SoC, most particular first; empty without a device tree."""
        text = read_text(self.root / "proc/device-tree/compatible") or ""
        return tuple(name for name in text.split("\0") if name)

    def soc(self) -> str | None:
        """The SoC by the device tree ("brcm,bcm2712"), else the model of the processor."""
        compatible = self.compatible()
        return compatible[-1] if compatible else self.processor()

    def processor(self) -> str | None:
        """The model of the processor, as /proc/cpuinfo names it; Arm kernels name none."""
        return next((value for key, value in self._pairs("proc/cpuinfo", ":") if key == "model name"), None)

    def clock_policies(self) -> tuple[ClockPolicy, ...]:
        """The clocks of the CPUs; empty where the kernel does not govern them."""
        found = []
        for folder in self._all("sys/devices/system/cpu/cpufreq/policy*"):
            lowest, highest = read_number(folder / "scaling_min_freq"), read_number(folder / "scaling_max_freq")
            found.append(
                ClockPolicy(
                    name=folder.name,
                    governor=read_text(folder / "scaling_governor"),
                    frequency_khz=read_number(folder / "scaling_cur_freq"),
                    allowed_khz=None if lowest is None or highest is None else (lowest, highest),
                    maximum_khz=read_number(folder / "cpuinfo_max_freq"),
                )
            )
        return tuple(found)

    def governor(self) -> str | None:
        """The governor of the CPUs' clocks; several are joined by "+"."""
        return "+".join(sorted({policy.governor for policy in self.clock_policies() if policy.governor})) or None

    def temperatures_c(self) -> dict[str, float]:
        """Temperatures in degrees Celsius by the names of their sensors ("cpu-thermal (thermal_zone0)")."""
        found = {}
        for zone in self._all("sys/class/thermal/thermal_zone*"):
            millidegrees = read_number(zone / "temp")
            if millidegrees is not None:
                found[f"{read_text(zone / 'type') or ''} ({zone.name})".strip()] = millidegrees / 1000
        return found

    def throttling(self) -> Throttling | None:
        """Whether the machine is throttled; None where nothing says so.

        The firmware of a Raspberry Pi knows best. Kernels without its file still show under-voltage as a hardware
        monitor's alarm, and on any board the cooling devices of the CPUs' clocks show that heat keeps these down.
        """
        for pattern in _FIRMWARE:
            for path in self._all(f"{pattern}/get_throttled"):
                text = read_text(path)
                try:
                    return Throttling(int(text or "", 16))
                except ValueError:
                    continue  # not readable, or not a number: another file may be
        alarms, states = list(self._voltage_alarms()), list(self._cooling_states())
        if not alarms and not states:
            return None
        return Throttling(_UNDER_VOLTAGE * any(alarms) | _THROTTLED * any(states))

    def memory_bytes(self) -> int | None:
        """The size of the main memory."""
        found = (value for key, value in self._pairs("proc/meminfo", ":") if key == "MemTotal")
        return next((int(value.split()[0]) * 1024 for value in found), None)

    def available_memory_bytes(self) -> int | None:
        """Memory that this process could get now: what the system has, and what its control groups leave to it."""
        found = (value for key, value in self._pairs("proc/meminfo", ":") if key == "MemAvailable")
        return min((*(int(value.split()[0]) * 1024 for value in found), *self._left_in_groups()), default=None)

    def _left_in_groups(self) -> Iterator[int]:
        """What is left of the limits of this process's control groups: a service's MemoryMax, a container's memory."""
        hierarchy = self.root / "sys/fs/cgroup"
        for key, value in self._pairs("proc/self/cgroup", "::"):
            group = hierarchy / value.strip("/")
            for folder in (group, *group.parents) if key == "0" else ():
                limit, used = read_number(folder / "memory.max"), read_number(folder / "memory.current")
                if limit is not None and used is not None:
                    statistics = (read_text(folder / "memory.stat") or "").split()
                    # Cached files count as used, and are given up when memory is wanted.
                    cached = dict(zip(statistics[::2], statistics[1::2], strict=False)).get("inactive_file", "0")
                    yield max(limit - used + int(cached), 0)

    def system(self) -> str | None:
        """The name of the operating system ("Debian GNU/Linux 13 (trixie)")."""
        found = (value.strip('"') for key, value in self._pairs("etc/os-release", "=") if key == "PRETTY_NAME")
        return next(found, None)

    def kernel(self) -> str:
        """The release of the running kernel."""
        return platform.release()

    def architecture(self) -> str:
        """The machine's architecture ("aarch64")."""
        return platform.machine()

    def cpu_count(self) -> int:
        """The number of CPUs."""
        return os.cpu_count() or 1

    def _voltage_alarms(self) -> Iterator[int]:
        for folder in self._all("sys/class/hwmon/hwmon*"):
            if read_text(folder / "name") == "rpi_volt":
                alarm = read_number(folder / "in0_lcrit_alarm")
                if alarm is not None:
                    yield alarm

    def _cooling_states(self) -> Iterator[int]:
        for folder in self._all("sys/class/thermal/cooling_device*"):
            if "cpufreq" in (read_text(folder / "type") or ""):
                state = read_number(folder / "cur_state")
                if state is not None:
                    yield state

    def _all(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))

    def _pairs(self, path: str, separator: str) -> Iterator[tuple[str, str]]:
        for line in (read_text(self.root / path) or "").splitlines():
            key, found, value = line.partition(separator)
            if found:
                yield key.strip(), value.strip()


def read_text(path: Path) -> str | None:
    """The text of one of the kernel's files, without white space and null bytes around it.

    Args:
        path: the file.

    Returns:
        The text; None where the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \t\r\n\0")
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """The decimal number in one of the kernel's files.

    Args:
        path: the file.

    Returns:
        The number; None where the file cannot be read or holds none.
    """
    text = read_text(path)
    return int(text) if text and text.removeprefix("-").isdecimal() else None
