"""What a process and its machine consume while something is measured: memory, CPU time, heat, energy."""

from __future__ import annotations

import os
import resource
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from edge_isp.bench.report import Energy, Thermal, Throttled
from edge_isp.board import Board, Throttling, read_number, read_text

# Chips that measure the power of a whole board, by their names in hwmon.
_POWER_METERS = ("ina219", "ina226", "ina231", "ina238", "ina260", "ina3221")


@dataclass(frozen=True, slots=True)
class Meters:
    """Reads the kernel's counters anew with every call; None where there is no such counter.

    Args:
        root: the root of the file system; tests pass a folder of their own.
    """

    root: Path = Path("/")

    def power_w(self) -> tuple[str, float] | None:
        """The name of a power meter on the board, and its reading in watts."""
        for folder in sorted(self.root.glob("sys/class/hwmon/hwmon*")):
            name, microwatts = read_text(folder / "name"), read_number(folder / "power1_input")
            if name in _POWER_METERS and microwatts is not None:
                return name, microwatts / 1e6
        return None

    def rapl_uj(self) -> int | None:
        """The energy counter of an Intel or AMD package, in microjoules."""
        return read_number(self.root / "sys/class/powercap/intel-rapl:0/energy_uj")

    def rapl_range_uj(self) -> int:
        """The value in microjoules after which that counter starts again from 0."""
        return read_number(self.root / "sys/class/powercap/intel-rapl:0/max_energy_range_uj") or 0

    def busy_s(self) -> float | None:
        """CPU seconds of all processes since the machine started."""
        fields = (read_text(self.root / "proc/stat") or "").splitlines()[:1]
        if not fields or not fields[0].startswith("cpu "):
            return None
        user, nice, system, _, _, irq, softirq = (int(value) for value in fields[0].split()[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int | None:
        """Resident memory of this process."""
        return self._rss_bytes("self")

    def rss_with_children_bytes(self) -> int | None:
        """Resident memory of this process and of those that it has started, which engines may run in."""
        own = self._rss_bytes("self")
        if own is None:
            return None
        lists = (read_text(path) for path in self.root.glob("proc/self/task/*/children"))
        children = [number for text in lists for number in (text or "").split()]
        return own + sum(self._rss_bytes(number) or 0 for number in children)

    def _rss_bytes(self, process: str) -> int | None:
        text = read_text(self.root / "proc" / process / "statm")
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") if text else None


class InitialMemory:
    """What is added to the resident memory from here on, in this process and in those that engines run in."""

    def __init__(self) -> None:
        self._meters = Meters()
        self._before = self._meters.rss_with_children_bytes()

    def added(self) -> int | None:
        """Bytes since the beginning; None where the kernel does not count them."""
        now = self._meters.rss_with_children_bytes()
        return None if now is None or self._before is None else now - self._before


@dataclass
class Sampler:
    """Reads memory, temperature and power once a second, in a thread of its own; a context manager.

    Args:
        root: the root of the file system; tests pass a folder of their own.
        period_s: seconds from one reading to the next.

    Attributes:
        board: the machine that is sampled.
        rss_bytes: times in nanoseconds (CLOCK_MONOTONIC), each with the resident memory of this process.
        temperatures_c: readings of the hottest sensor.
        machine_cpus: the number of CPUs that all processes of the machine kept busy, on average.
    """

    root: Path = Path("/")
    period_s: float = 1.0
    rss_bytes: list[tuple[int, int]] = field(default_factory=list, init=False)
    temperatures_c: list[float] = field(default_factory=list, init=False)
    machine_cpus: float | None = field(default=None, init=False)
    _joules: float = field(default=0.0, init=False)
    _meter: str = field(default="none", init=False)

    def __post_init__(self) -> None:
        self.board, self._meters = Board(self.root), Meters(self.root)

    def __enter__(self) -> Sampler:
        self._stop = threading.Event()
        self._last_power: tuple[int, float] | None = None
        self._rapl = self._meters.rapl_uj()
        self._cpu_s, self._begun_ns = time.process_time(), time.monotonic_ns()
        self._busy_s = self._meters.busy_s()
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
        busy_s = self._meters.busy_s()
        if busy_s is not None and self._busy_s is not None:
            self.machine_cpus = (busy_s - self._busy_s) / self._wall_s

    def sample(self) -> None:
        """Takes one reading."""
        now = time.monotonic_ns()
        rss = self._meters.rss_bytes()
        if rss is not None:
            self.rss_bytes.append((now, rss))
        temperatures_c = self.board.temperatures_c().values()
        if temperatures_c:
            self.temperatures_c.append(max(temperatures_c))
        power = self._meters.power_w()
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
        """CPU time of this process over the time that passed, in percent of one CPU."""
        return 100 * self._cpu_s / self._wall_s

    def rss_peak_bytes(self) -> int:
        """The highest resident memory of this process so far, as the kernel counts it."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def rss_growth_bytes(self, settling_s: float = 60.0) -> int | None:
        """The growth of the resident memory after it has settled.

        Args:
            settling_s: seconds at the beginning that are left out.

        Returns:
            The highest reading after that time less the first one; None where the run was too short.
        """
        settled = [rss for at, rss in self.rss_bytes if at - self._begun_ns >= settling_s * 1e9]
        return max(settled) - settled[0] if len(settled) > 1 else None

    def thermal(self) -> Thermal:
        """The temperatures from the first reading to the last, and the throttling at the end."""
        found = self.temperatures_c
        return Thermal(
            start_c=found[0] if found else None,
            end_c=found[-1] if found else None,
            max_c=max(found, default=None),
            samples=len(found),
            throttled=_throttled(self.board.throttling()),
        )

    def energy(self, frames: int) -> Energy:
        """The energy that was consumed, where the machine has a meter.

        Args:
            frames: the number of frames that it was consumed for.
        """
        if self._meter == "none":
            return Energy(source="none", joules=None, j_per_frame=None)
        return Energy(source=self._meter, joules=self._joules, j_per_frame=self._joules / frames if frames else None)

    def _count_rapl(self) -> None:
        now = self._meters.rapl_uj()
        if now is None or self._rapl is None:
            return
        self._meter = "rapl"
        spent = now - self._rapl
        self._joules += (spent if spent >= 0 else spent + self._meters.rapl_range_uj()) / 1e6
        self._rapl = now

    def _run(self) -> None:
        while not self._stop.wait(self.period_s):
            self.sample()


def _throttled(found: Throttling | None) -> Throttled | None:
    if found is None:
        return None
    return Throttled(now=bool(found.now), occurred=bool(found.since_start), raw=hex(found.flags))
