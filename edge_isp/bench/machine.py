"""What is to be known of the machine: what it is, how hot, how busy, and what it consumes. Linux only."""

from __future__ import annotations

import os
import platform
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_isp.bench.report import Energy, Host, Thermal, Throttled

# Bits of the Raspberry Pi's firmware flags: under-voltage, clock capped, throttled, soft temperature limit.
_THROTTLED_NOW, _THROTTLED_SINCE_START = 0xF, 0xF0000
_METERS = ("ina219", "ina226", "ina231", "ina238", "ina260", "ina3221")


@dataclass(frozen=True, slots=True)
class Machine:
    """Reads what the kernel says.

    Args:
        root: of the file system; tests bring their own.
    """

    root: Path = Path("/")

    def host(self) -> Host:
        """What the machine is."""
        frequencies = [
            (low, high)
            for folder in self._all("sys/devices/system/cpu/cpufreq/policy*")
            if (low := _number(folder / "scaling_min_freq")) and (high := _number(folder / "scaling_max_freq"))
        ]
        return Host(
            board=self._line("proc/device-tree/model") or self._line("sys/class/dmi/id/product_name"),
            soc=self._compatible() or self._cpu_model(),
            arch=platform.machine(),
            cpu_count=os.cpu_count() or 1,
            kernel=platform.release(),
            governor=self.governor(),
            freq_khz=(min(f[0] for f in frequencies), max(f[1] for f in frequencies)) if frequencies else None,
            mem_total_bytes=self._memory(),
            os=self._os(),
        )

    def governor(self) -> str | None:
        """Of the CPUs' clocks; several are joined, None where clocks cannot be set here."""
        found = {_text(f / "scaling_governor") for f in self._all("sys/devices/system/cpu/cpufreq/policy*")}
        return "+".join(sorted(name for name in found if name)) or None

    def temperature_c(self) -> float | None:
        """Of the hottest sensor."""
        found = [_number(zone / "temp") for zone in self._all("sys/class/thermal/thermal_zone*")]
        return max((value / 1000 for value in found if value is not None), default=None)

    def throttled(self) -> Throttled | None:
        """The flags of a Raspberry Pi's firmware; None where there is none."""
        for path in self._all("sys/devices/platform/soc*/soc*:firmware/get_throttled"):
            text = _text(path)
            if text:
                flags = int(text, 16)
                return Throttled(
                    now=bool(flags & _THROTTLED_NOW), occurred=bool(flags & _THROTTLED_SINCE_START), raw=hex(flags)
                )
        return None

    def power_w(self) -> tuple[str, float] | None:
        """Name of a power meter on the board, and what it shows."""
        for folder in self._all("sys/class/hwmon/hwmon*"):
            name, microwatts = _text(folder / "name"), _number(folder / "power1_input")
            if name in _METERS and microwatts is not None:
                return name, microwatts / 1e6
        return None

    def rapl_uj(self) -> int | None:
        """The energy counter of an Intel or AMD package."""
        return _number(self.root / "sys/class/powercap/intel-rapl:0/energy_uj")

    def rapl_range_uj(self) -> int:
        """Where that counter begins anew."""
        return _number(self.root / "sys/class/powercap/intel-rapl:0/max_energy_range_uj") or 0

    def busy_s(self) -> float | None:
        """CPU seconds of all processes since the machine started."""
        fields = (_text(self.root / "proc/stat") or "").splitlines()[:1]
        if not fields or not fields[0].startswith("cpu "):
            return None
        user, nice, system, _, _, irq, softirq = (int(value) for value in fields[0].split()[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int | None:
        """Resident memory of this process."""
        text = _text(self.root / "proc/self/statm")
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") if text else None

    def _all(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))

    def _line(self, path: str) -> str | None:
        text = _text(self.root / path)
        return text.split("\0")[0].strip() or None if text else None

    def _compatible(self) -> str | None:
        text = _text(self.root / "proc/device-tree/compatible")
        return [part for part in text.split("\0") if part][-1] if text else None

    def _cpu_model(self) -> str | None:
        return next((v for k, v in self._pairs("proc/cpuinfo", ":") if k in ("model name", "Model")), None)

    def _memory(self) -> int | None:
        found = (v for k, v in self._pairs("proc/meminfo", ":") if k == "MemTotal")
        return next((int(value.split()[0]) * 1024 for value in found), None)

    def _os(self) -> str | None:
        return next((v.strip('"') for k, v in self._pairs("etc/os-release", "=") if k == "PRETTY_NAME"), None)

    def _pairs(self, path: str, separator: str) -> Iterator[tuple[str, str]]:
        for line in (_text(self.root / path) or "").splitlines():
            key, found, value = line.partition(separator)
            if found:
                yield key.strip(), value.strip()


@dataclass
class Sampler:
    """Looks at memory, temperature and power once a second, in a thread of its own; a context manager.

    Attributes:
        machine_cpus: how many CPUs all processes of the machine kept busy, on average.
    """

    machine: Machine
    period_s: float = 1.0
    rss_bytes: list[tuple[int, int]] = field(default_factory=list)  # time in ns, value
    temperatures_c: list[float] = field(default_factory=list)
    machine_cpus: float | None = None
    _joules: float = 0.0
    _meter: str = "none"

    def __enter__(self) -> Sampler:
        self._stop = threading.Event()
        self._last_power: tuple[int, float] | None = None
        self._rapl = self.machine.rapl_uj()
        self._cpu_s, self._begun_ns = time.process_time(), time.monotonic_ns()
        self._busy_s = self.machine.busy_s()
        self.sample()
        self._thread = threading.Thread(target=self._run, name="edge_isp bench sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()
        self._cpu_s = time.process_time() - self._cpu_s
        self._wall_s = (time.monotonic_ns() - self._begun_ns) / 1e9
        busy_s = self.machine.busy_s()
        if busy_s is not None and self._busy_s is not None:
            self.machine_cpus = (busy_s - self._busy_s) / self._wall_s

    def sample(self) -> None:
        """One look."""
        now = time.monotonic_ns()
        rss = self.machine.rss_bytes()
        if rss is not None:
            self.rss_bytes.append((now, rss))
        temperature = self.machine.temperature_c()
        if temperature is not None:
            self.temperatures_c.append(temperature)
        power = self.machine.power_w()
        if power is not None:
            self._meter = power[0]
            if self._last_power is not None:
                then, watts = self._last_power
                self._joules += (watts + power[1]) / 2 * (now - then) / 1e9
            self._last_power = now, power[1]
        else:
            self._count_rapl()

    @property
    def cpu_percent(self) -> float:
        """Of one CPU, over the whole time."""
        return 100 * self._cpu_s / self._wall_s

    def rss_peak_bytes(self) -> int:
        """The highest resident memory of this process so far, as the kernel counts it."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def rss_growth_bytes(self, settling_s: float = 60.0) -> int | None:
        """The highest memory after the first minute over that at its end; None where the time was too short."""
        settled = [rss for at, rss in self.rss_bytes if at - self._begun_ns >= settling_s * 1e9]
        return max(settled) - settled[0] if len(settled) > 1 else None

    def thermal(self) -> Thermal:
        """Temperatures from beginning to end."""
        found = self.temperatures_c
        return Thermal(
            start_c=found[0] if found else None,
            end_c=found[-1] if found else None,
            max_c=max(found, default=None),
            samples=len(found),
            throttled=self.machine.throttled(),
        )

    def energy(self, frames: int) -> Energy:
        """What was consumed, if there is a meter."""
        if self._meter == "none":
            return Energy(source="none", joules=None, j_per_frame=None)
        return Energy(source=self._meter, joules=self._joules, j_per_frame=self._joules / frames if frames else None)

    def _count_rapl(self) -> None:
        now = self.machine.rapl_uj()
        if now is None or self._rapl is None:
            return
        self._meter = "rapl"
        spent = now - self._rapl
        self._joules += (spent if spent >= 0 else spent + self.machine.rapl_range_uj()) / 1e6
        self._rapl = now

    def _run(self) -> None:
        while not self._stop.wait(self.period_s):
            self.sample()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.lstrip("-").isdecimal() else None
