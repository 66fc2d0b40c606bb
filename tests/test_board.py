"""What a machine is, read from folders of files as kernels of several boards have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_isp.board import Board, ClockPolicy, Throttling, read_number, read_text

RASPBERRY_PI_4 = "sys/devices/platform/soc/soc:firmware/get_throttled"
RASPBERRY_PI_5 = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
BELOW_AXI = "sys/devices/platform/axi/axi:firmware/get_throttled"
BY_DRIVER = "sys/bus/platform/drivers/raspberrypi-firmware/firmware-of-tomorrow/get_throttled"


def write(root: Path, files: dict[str, str]) -> Board:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Board(root)


def test_a_raspberry_pi(tmp_path: Path) -> None:
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    board = write(
        tmp_path,
        {
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
            "proc/meminfo": "MemTotal:        8245132 kB\nMemFree: 1 kB\n",
            "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n',
            f"{policy}/scaling_governor": "ondemand\n",
            f"{policy}/scaling_cur_freq": "1800000\n",
            f"{policy}/scaling_min_freq": "1500000\n",
            f"{policy}/scaling_max_freq": "2400000\n",
            f"{policy}/cpuinfo_max_freq": "2400000\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "51234\n",
            "sys/class/thermal/thermal_zone1/temp": "-1500\n",
            RASPBERRY_PI_5: "50005\n",
        },
    )
    assert board.model() == "Raspberry Pi 5 Model B Rev 1.0"
    assert board.compatible() == ("raspberrypi,5-model-b", "brcm,bcm2712")
    assert board.soc() == "brcm,bcm2712"
    assert board.memory_bytes() == 8245132 * 1024
    assert board.system() == "Debian GNU/Linux 13 (trixie)"
    assert board.governor() == "ondemand"
    assert board.clock_policies() == (ClockPolicy("policy0", "ondemand", 1_800_000, (1_500_000, 2_400_000), 2_400_000),)
    assert board.temperatures_c() == {"cpu-thermal (thermal_zone0)": 51.234, "(thermal_zone1)": -1.5}
    throttling = board.throttling()
    assert throttling == Throttling(0x50005)
    assert throttling.now == throttling.since_start == ("under-voltage", "throttled")


MEMINFO = "MemTotal:        8245132 kB\nMemAvailable:    4000000 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 8245132 kB\n"}, None),
        ({"proc/meminfo": MEMINFO}, 4_000_000 * 1024),
        # A service's own limit, of which cached files are given up.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/system.slice/edge-isp.service\n",
                "sys/fs/cgroup/system.slice/edge-isp.service/memory.max": "300000000\n",
                "sys/fs/cgroup/system.slice/edge-isp.service/memory.current": "200000000\n",
                "sys/fs/cgroup/system.slice/edge-isp.service/memory.stat": "anon 150000000\ninactive_file 40000000\n",
            },
            140_000_000,
        ),
        # That of the slice around it; the service itself has none.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "1:name=systemd:/\n0::/system.slice/edge-isp.service\n",
                "sys/fs/cgroup/system.slice/edge-isp.service/memory.max": "max\n",
                "sys/fs/cgroup/system.slice/edge-isp.service/memory.current": "200000000\n",
                "sys/fs/cgroup/system.slice/memory.max": "500000000\n",
                "sys/fs/cgroup/system.slice/memory.current": "600000000\n",
            },
            0,
        ),
        # A container sees its group as the root.
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000000\n",
                "sys/fs/cgroup/memory.current": "1000\n",
            },
            999_000,
        ),
    ],
)
def test_available_memory_heeds_the_limits_of_services_and_containers(
    files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    assert write(tmp_path, files).available_memory_bytes() == expected


@pytest.mark.parametrize("path", [RASPBERRY_PI_4, RASPBERRY_PI_5, BELOW_AXI, BY_DRIVER])
def test_throttling_is_found_under_every_name_of_the_firmware(path: str, tmp_path: Path) -> None:
    throttling = write(tmp_path, {path: "a0008\n"}).throttling()
    assert throttling is not None
    assert throttling.now == ("soft temperature limit",)
    assert throttling.since_start == ("frequency capped", "soft temperature limit")


@pytest.mark.parametrize(
    ("alarm", "state", "now"),
    [
        ("1", "0", ("under-voltage",)),
        ("0", "2", ("throttled",)),
        ("0", "0", ()),
        ("1", "1", ("under-voltage", "throttled")),
    ],
)
def test_throttling_without_the_firmwares_file(alarm: str, state: str, now: tuple[str, ...], tmp_path: Path) -> None:
    """Recent kernels of the Raspberry Pi 5, and boards of others."""
    board = write(
        tmp_path,
        {
            "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
            "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
            "sys/class/hwmon/hwmon1/in0_lcrit_alarm": f"{alarm}\n",
            "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
            "sys/class/thermal/cooling_device0/cur_state": "4\n",
            "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
            "sys/class/thermal/cooling_device1/cur_state": f"{state}\n",
        },
    )
    throttling = board.throttling()
    assert throttling is not None
    assert (throttling.now, throttling.since_start) == (now, ())


def test_a_damaged_word_of_the_firmware_is_not_an_answer(tmp_path: Path) -> None:
    assert write(tmp_path, {RASPBERRY_PI_4: "?\n"}).throttling() is None


def test_a_pc(tmp_path: Path) -> None:
    board = write(
        tmp_path,
        {
            "sys/class/dmi/id/sys_vendor": "ACME\n",
            "sys/class/dmi/id/product_name": "Roadrunner\n",
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Imaginary CPU @ 3 GHz\n",
        },
    )
    assert board.model() == "ACME Roadrunner"
    assert (board.soc(), board.compatible()) == ("Imaginary CPU @ 3 GHz", ())


def test_several_governors_are_all_named(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpufreq"
    governors = {"policy0": "schedutil", "policy4": "performance", "policy6": "performance"}
    board = write(tmp_path, {f"{folder}/{name}/scaling_governor": f"{g}\n" for name, g in governors.items()})
    assert board.governor() == "performance+schedutil"


def test_a_machine_of_which_nothing_is_known(tmp_path: Path) -> None:
    board = Board(tmp_path)
    assert {board.model(), board.soc(), board.governor(), board.memory_bytes(), board.system()} == {None}
    assert board.throttling() is None
    assert (board.temperatures_c(), board.clock_policies(), board.compatible()) == ({}, (), ())
    assert board.cpu_count() > 0


def test_files_that_are_not_numbers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(" 12 MHz\n")
    assert read_text(tmp_path / "file") == "12 MHz"
    assert {read_number(tmp_path / "file"), read_number(tmp_path / "none"), read_text(tmp_path)} == {None}
