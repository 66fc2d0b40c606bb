"""`edge-isp install-service`: a systemd unit that runs a command with the configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_isp.cli.configuration import FILE, Configuration
from edge_isp.errors import ConfigError, did_you_mean, shortened
from edge_isp.files import write_file

_SYSTEM_UNITS = Path("/etc/systemd/system")
_UNIT = "edge-isp.service"
_CREDENTIAL = "config.toml"
# Those that report to the manager; it would kill any other.
_COMMANDS = ("run", "serve")

# What a system unit may open beside the basic devices: cameras, their buffers, NPUs. A name that begins with "char-" is
# that of a driver in /proc/devices.
_DEVICES = (
    "char-video4linux",
    "char-media",
    "char-dma_heap",
    "char-drm",  # Rockchip's NPU
    "char-apex",  # Coral, PCIe
    "char-usb_device",  # Coral, USB
    "char-accel",
    "/dev/hailo0",
)
_GROUPS = ("video", "render", "plugdev")

# Every unit: what a process that reads a camera and writes files does not need. MemoryDenyWriteExecute is missing,
# since numba makes machine code; netlink is how libudev finds cameras.
_HARDENING = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UMask=0077
"""
# These need the system's manager.
_SYSTEM_HARDENING = """\
DynamicUser=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectClock=yes
ProtectHostname=yes
ProtectKernelModules=yes
ProtectProc=invisible
PrivateMounts=yes
RemoveIPC=yes
DevicePolicy=closed
"""


def install_service(
    context: typer.Context,
    command: Annotated[
        str, typer.Option("--command", metavar="NAME", help="The command that runs: 'run' or 'serve'.")
    ] = "run",
    system: Annotated[
        bool,
        typer.Option(
            "--system/--user",
            help="Install for the whole system, where the service starts with the machine and runs as a user of its "
            "own, or for this user.",
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--print", help="Print the unit, and write nothing.")] = False,
    start: Annotated[bool, typer.Option("--start", help="Start the service, now and with each boot or login.")] = False,
) -> None:
    """Write a systemd unit that runs a command with the configuration file, see 'edge-isp config'."""
    root = context.find_root().command
    if command not in _COMMANDS:
        raise ConfigError(
            f"a service runs {' or '.join(_COMMANDS)}, which report to systemd, found '{shortened(command)}'"
            f"{did_you_mean(command, _COMMANDS)}"
        )
    source: Path | None = context.meta[FILE]
    if source is None:
        raise ConfigError("a service needs a configuration file: --config FILE.toml, or ~/.config/edge-isp/config.toml")
    configuration = Configuration(source.absolute(), root)
    configuration.require_valid()
    if system:
        _check_readable(Path(sys.executable))
    text = unit(configuration, command, system=system)
    if show:
        print(text, end="")
        return
    folder = _SYSTEM_UNITS if system else _user_units()
    path = folder / _UNIT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, text.encode("utf-8"), overwrite=True)
    except OSError as error:
        hint = "; a unit of the system needs root: sudo" if system and os.geteuid() else ""
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}{hint}") from error
    print(f"{path} written")
    manager = ["systemctl"] if system else ["systemctl", "--user"]
    commands_to_start = [[*manager, "daemon-reload"], [*manager, "enable", "--now", _UNIT]]
    if not start:
        print("start it with: " + " && ".join(" ".join(line) for line in commands_to_start))
        return
    for line in commands_to_start:
        _call(line)


def unit(configuration: Configuration, command: str, *, system: bool) -> str:
    """The text of the unit.

    Args:
        configuration: the file that the service uses; its path must be absolute.
        command: of edge-isp.
        system: whether it is one of the system's manager, or of a user's.
    """
    # A user of its own need not be able to read the file: the manager hands it over.
    file = _quoted(str(configuration.path))
    config = f'"%d/{_CREDENTIAL}"' if system else file
    start = " ".join([*map(_quoted, [sys.executable, "-m", "edge_isp", command, "--config"]), config])
    lines = [
        "# Written by 'edge-isp install-service'.",
        "[Unit]",
        f"Description=edge_isp: {command}",
        "After=network.target",
        "# Restart also after many failures: a camera may come back.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "# READY comes with the first result, WATCHDOG as long as every stage responds.",
        "Type=notify",
        "NotifyAccess=main",
        "# A model that has to be compiled for an NPU may take minutes at the first start.",
        "TimeoutStartSec=300",
        "WatchdogSec=30",
        "Restart=always",
        "RestartSec=2",
        f"ExecStart={start}",
        "# Relative paths in the configuration begin here; compiled kernels are kept in the cache.",
        "WorkingDirectory=%S/edge-isp",
        "StateDirectory=edge-isp",
        "CacheDirectory=edge-isp",
        "Environment=PYTHONUNBUFFERED=1",
        "# Memory of pictures goes back to the system at once: glibc would keep it, and the service seem to grow.",
        "Environment=MALLOC_MMAP_THRESHOLD_=1048576",
        *_HARDENING.splitlines(),
    ]
    if system:
        lines += _SYSTEM_HARDENING.splitlines()
        lines += [f"LoadCredential={_CREDENTIAL}:{configuration.path}"]
        lines += [f"SupplementaryGroups={' '.join(group for group in _GROUPS if _exists(group))}"]
        lines += [f"DeviceAllow={device} rw" for device in _DEVICES]
    lines += [f"ReadWritePaths=-{_quoted(str(folder))}" for folder in _written(configuration, command)]
    lines += ["", "[Install]", f"WantedBy={'multi-user' if system else 'default'}.target", ""]
    return "\n".join(lines)


def _written(configuration: Configuration, command: str) -> list[Path]:
    """Folders outside the service's own that it writes to; raises ConfigError for one that it could never make."""
    values = configuration.values((command,))
    if command == "run":
        specs = [spec for table in (values, *configuration.models()) for spec in table.get("sink", ())]
        folders = [*map(_folder_of, specs), Path(values.get("save", ""))]
    else:
        folders = [Path(values.get("recordings", ""))]
    outside = [folder for folder in folders if folder.is_absolute() and not _is_device_or_address(folder)]
    return sorted(set(map(_existing, outside)))


def _folder_of(spec: str) -> Path:
    """The folder that a sink writes to."""
    from edge_isp.spec import parse_spec

    parsed = parse_spec(spec)
    path = Path(parsed.argument)
    # A file's folder, or the folder itself: a suffix says which. A bag is a new folder each time.
    is_inside = parsed.name == "rosbag" or (path.suffix != "" and not os.path.isdir(path))
    return path.parent if is_inside else path


def _is_device_or_address(path: Path) -> bool:
    return path.is_relative_to("/dev") or str(path).startswith("//")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists: one that the service has to make cannot be opened to it."""
    found = next(each for each in (folder, *folder.parents) if os.path.isdir(each))
    if found == Path("/"):
        raise ConfigError(f"{folder}: there is no such folder, and a service cannot make it: make it first")
    return found


def _check_readable(interpreter: Path) -> None:
    """Refuses an interpreter that a user of the service's own could not start."""
    for folder in {*interpreter.parents, *interpreter.resolve().parents}:
        if not folder.stat().st_mode & 0o001:
            raise ConfigError(
                f"{interpreter}: the system's service runs as a user of its own, which may not enter {folder}: install "
                "edge_isp in a folder that everybody can read, such as /opt/edge-isp, or use --user"
            )


def _quoted(argument: str) -> str:
    """An argument as a unit has it; raises ConfigError for one that it cannot have."""
    if any(character in argument for character in "\n\r\0"):
        raise ConfigError(f"a unit cannot hold the path {argument!r}")
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != argument or " " in argument or "'" in argument or ";" in argument else escaped


def _exists(group: str) -> bool:
    import grp

    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True


def _user_units() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "systemd", "user")


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError(f"{' '.join(command)}: {error.strerror or error}: is this a system with systemd?") from error
    if done.returncode:
        raise ConfigError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}")
