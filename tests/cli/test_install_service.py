"""The unit that `install-service` writes: what it runs, what it may do, and that systemd takes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_isp.cli import install_service
from edge_isp.cli.configuration import Configuration
from edge_isp.cli.install_service import unit
from edge_isp.cli.main import command_line
from edge_isp.errors import ConfigError
from tests.cli.test_command_line import run

CONFIGURATION = """
[run]
sink = ["jpeg:SRV/pictures,every=30", "video:SRV/films/a.mp4", "png:here", "shm:x", "rtsp://host/x",
        "virtual:/dev/video10", "rosbag:SRV/bags/today", "mcap:SRV/raw/new/folder", "dng:SRV/dng.2026"]
save = "SRV/saved"
[[run.models]]
model = "raw-detector"
sink = ["png:SRV/boxes"]
[serve]
recordings = "SRV/recordings/of/today"
"""


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """Folders that exist."""
    srv = tmp_path / "srv"
    for name in ("pictures", "films", "bags/today", "raw", "dng.2026", "saved", "boxes", "recordings"):
        (srv / name).mkdir(parents=True)
    return srv


@pytest.fixture
def configuration(tmp_path: Path, srv: Path) -> Configuration:
    path = tmp_path / "edge isp.toml"
    path.write_text(CONFIGURATION.replace("SRV", str(srv)))
    return Configuration(path, command_line())


def settings(text: str) -> dict[str, list[str]]:
    """The unit's settings; those that are repeated are lists."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_it_runs_the_command_with_the_configuration(configuration: Configuration) -> None:
    of_user, of_system = (settings(unit(configuration, "run", system=system)) for system in (False, True))
    assert of_user["ExecStart"] == [f'{sys.executable} -m edge_isp run --config "{configuration.path}"']
    assert of_system["ExecStart"] == [f'{sys.executable} -m edge_isp run --config "%d/config.toml"']
    assert of_system["LoadCredential"] == [f"config.toml:{configuration.path}"]
    assert (of_user["WantedBy"], of_system["WantedBy"]) == (["default.target"], ["multi-user.target"])
    for found in (of_user, of_system):
        assert (found["Type"], found["WatchdogSec"], found["Restart"]) == (["notify"], ["30"], ["always"])


def test_it_writes_where_the_command_does(configuration: Configuration, srv: Path) -> None:
    folders = {
        "run": ["bags", "boxes", "dng.2026", "films", "pictures", "raw", "saved"],
        "serve": ["recordings"],
    }
    for command, names in folders.items():
        found = settings(unit(configuration, command, system=True))
        assert found["ReadWritePaths"] == [f"-{srv / name}" for name in names]


def test_a_folder_that_the_service_cannot_make_is_refused(tmp_path: Path) -> None:
    """To open the root to it would open everything."""
    path = tmp_path / "a.toml"
    path.write_text("[serve]\nrecordings = '/there is none/of this'\n[run]\nsink = ['png:/devices of none']\n")
    for command in ("run", "serve"):
        with pytest.raises(ConfigError, match=r"none.*: there is no such folder.*: make it first"):
            unit(Configuration(path, command_line()), command, system=False)


def test_it_is_hardened(configuration: Configuration) -> None:
    found = settings(unit(configuration, "run", system=True))
    for key, value in {"ProtectSystem": "strict", "NoNewPrivileges": "yes", "DevicePolicy": "closed"}.items():
        assert found[key] == [value]
    assert found["CapabilityBoundingSet"] == [""]
    assert all(re.fullmatch(r"(char-[a-z0-9_]+|/dev/hailo0) rw", device) for device in found["DeviceAllow"])
    assert "char-video4linux rw" in found["DeviceAllow"]


@pytest.mark.parametrize(("system", "highest"), [(True, 2.0), (False, 5.5)])
def test_systemd_analyze(configuration: Configuration, system: bool, highest: float, tmp_path: Path) -> None:
    """Exposure below 2 is what the service managers of distributions reach; a user's manager cannot drop more."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    path = tmp_path / "edge-isp.service"
    path.write_text(unit(configuration, "run", system=system))
    verified = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert "edge-isp.service" not in verified.stderr
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    match = re.search(r"Overall exposure level for edge-isp.service: ([0-9.]+)", done.stdout)
    if match is None:
        pytest.skip(f"systemd-analyze cannot judge a file: {done.stderr}")
    assert float(match[1]) <= highest, done.stdout


def test_a_unit_is_written_for_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    done = run("install-service")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "a service needs a configuration file" in done.stderr
    (tmp_path / "edge-isp").mkdir()
    (tmp_path / "edge-isp/config.toml").write_text("[run]\nframes = 1\n")
    printed = run("install-service", "--print")
    assert not (tmp_path / "systemd").exists()
    done = run("install-service")
    path = tmp_path / "systemd/user/edge-isp.service"
    assert f"{path} written" in done.stdout
    assert "systemctl --user enable --now edge-isp.service" in done.stdout
    assert path.read_text() == printed.stdout
    assert f"--config {tmp_path}/edge-isp/config.toml" in printed.stdout
    assert "did you mean 'run'" in run("install-service", "--command", "rnu").stderr
    for silent in ("record", "ros", "doctor"):
        refused = run("install-service", "--print", "--command", silent)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"a service runs run or serve, which report to systemd, found '{silent}'" in refused.stderr
    (tmp_path / "edge-isp/config.toml").write_text("[run]\nframse = 1\n")
    assert "did you mean 'frames'" in run("install-service").stderr


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("a.toml", "a.toml"), ("a b.toml", '"a b.toml"'), ("50%.toml", '"50%%.toml"'), ("$x.toml", '"$$x.toml"')],
)
def test_any_path_is_one_argument(name: str, quoted: str) -> None:
    assert install_service._quoted(name) == quoted
    with pytest.raises(ConfigError, match="a unit cannot hold"):
        install_service._quoted(f"{name}\nExecStartPre=evil")


def test_an_interpreter_that_the_service_cannot_start_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(ConfigError, match=r"may not enter .*: install edge_isp .*/opt/edge-isp, or use --user"):
        install_service._check_readable(closed / "bin" / "python")


def test_the_service_starts_where_systemd_runs(tmp_path: Path) -> None:
    """With the user's manager; READY comes with the first result."""
    state = (
        subprocess.run(
            ["systemctl", "--user", "is-system-running"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if shutil.which("systemctl")
        else "there is no systemctl"
    )
    if state not in ("running", "degraded"):
        pytest.skip(f"needs systemd's manager of this user: {state or 'it does not run'}")
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "systemd/user")
    name = f"edge-isp-test-{os.getpid()}.service"
    path = tmp_path / "config.toml"
    path.write_text("[run]\nframes = 100000\nthreads = 1\n")
    text = unit(Configuration(path, command_line()), "run", system=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    try:
        subprocess.run(["systemctl", "--user", "daemon-reload"], check=True)
        subprocess.run(["systemctl", "--user", "start", name], check=True, timeout=300)
        done = subprocess.run(["systemctl", "--user", "is-active", name], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "active"
    finally:
        subprocess.run(["systemctl", "--user", "stop", name], check=False)
        (folder / name).unlink()
        subprocess.run(["systemctl", "--user", "daemon-reload"], check=False)
