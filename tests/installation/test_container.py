"""The steps of the Containerfile, run in a bootstrapped root: no image registry is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "Containerfile"


@dataclass
class Image:
    """What the Containerfile makes.

    Attributes:
        root: folder of its files.
        environment: of its processes.
        settings: the last value of every other instruction.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


def instructions() -> list[tuple[str, str]]:
    """Instructions and their arguments, in order."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def in_root(image: Image, command: list[str], *, prepare: str = "", user: str = "0") -> list[str]:
    """A command in the root, with its own mounts, as a container has it."""
    root = shlex.quote(str(image.root))
    script = (
        f"mount --bind {root} {root} && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && "
        f"mount -t tmpfs tmp {root}/tmp && {prepare or 'true'} && "
        f"exec chroot --userspec={user} {root} /usr/bin/env -i "
        + " ".join(shlex.quote(f"{key}={value}") for key, value in image.environment.items())
        + " "
        + shlex.join(command)
    )
    return ["unshare", "--mount", "sh", "-c", script]


def copy(root: Path, arguments: str) -> None:
    """COPY of files and folders of the project."""
    *sources, target = arguments.split()
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(path, root / target.lstrip("/"), symlinks=True, ignore=ignored)
        else:
            (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / target.lstrip("/"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image, made by the Containerfile's steps on a root that mmdebstrap bootstraps."""
    if os.geteuid() or shutil.which("mmdebstrap") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, and: apt install mmdebstrap")
    folder = tmp_path_factory.mktemp("container") / "root"
    sources = [path for path in ("/etc/apt/sources.list.d/debian.sources",) if Path(path).exists()]
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(folder), *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"mmdebstrap cannot bootstrap a root here: {done.stderr[-1000:]}")
    made = Image(folder, {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    # What reaches the package index of this machine; not a part of the image.
    of_build = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "http", "HTTP", "no_proxy"))}
    of_build["PIP_CERT"] = "/build-machine.crt"  # a step of the build installs certificates of its own
    for name, target in (
        ("/etc/resolv.conf", "etc/resolv.conf"),
        ("/etc/pip.conf", "etc/pip.conf"),
        ("/etc/ssl/certs/ca-certificates.crt", "build-machine.crt"),
    ):
        if Path(name).exists():
            shutil.copy(name, folder / target)
    for word, arguments in instructions():
        if word == "RUN":
            building = Image(folder, {**of_build, **made.environment})
            done = subprocess.run(
                in_root(building, ["sh", "-ec", arguments]), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        elif word == "COPY":
            copy(folder, arguments)
        elif word == "ENV":
            key, _, value = arguments.partition("=")
            made.environment[key] = value
        else:
            made.settings[word] = arguments
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def read_only(image: Image, command: list[str]) -> list[str]:
    """A command as the image's user, where only /tmp and the volume can be written to."""
    root = shlex.quote(str(image.root))
    volume = f"{root}{image.settings['WORKDIR']}"
    prepare = f"mount -t tmpfs -o uid=10001 volume {volume} && mount -o remount,bind,ro {root}"
    changed = ["sh", "-c", f"cd {image.settings['WORKDIR']} && exec {shlex.join(command)}"]
    return in_root(image, changed, prepare=prepare, user="10001:10001")


def entry(image: Image) -> list[str]:
    found: list[str] = json.loads(image.settings["ENTRYPOINT"])
    return found


@pytest.mark.slow
def test_it_runs_without_rights_in_a_read_only_root(image: Image) -> None:
    assert image.settings["USER"] == "edge-isp"
    command = [*entry(image), "run", "--frames", "2", "--json", "--sink", "jpeg:pictures"]
    done = subprocess.run(read_only(image, command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["sequence"] for line in done.stdout.splitlines()] == [0, 1]
    assert "compiling" not in done.stderr, "the kernels are in the image"
    written = subprocess.run(
        read_only(image, ["sh", "-c", "id -u; touch /opt/edge-isp/x"]), capture_output=True, text=True, check=False
    )
    assert written.stdout == "10001\n"
    assert "Read-only file system" in written.stderr or "Permission denied" in written.stderr


@pytest.mark.slow
def test_the_default_command_is_healthy(image: Image) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8000)) == 0:
            pytest.skip("another program serves at port 8000")
    health = json.loads(image.settings["HEALTHCHECK"].partition("CMD ")[2])
    default = json.loads(image.settings["CMD"])
    assert subprocess.run(in_root(image, health), capture_output=True, check=False).returncode, "nothing serves yet"
    process = subprocess.Popen(
        read_only(image, [*entry(image), *default]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        limit_s = time.monotonic() + 180
        while subprocess.run(in_root(image, health), capture_output=True, check=False).returncode:
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < limit_s, "not healthy within 3 minutes"
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout:
            process.stdout.close()


def test_the_image_has_what_its_pages_offer() -> None:
    """Recordings, videos and Home Assistant, under the name of the machine, which links and MQTT topics hold."""
    (install,) = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert '"/src[serve,video,recording,mqtt]"' in install
    page = (ROOT / "docs/configuration.md").read_text()
    for text in (CONTAINERFILE.read_text(), page):
        (example,) = re.findall(r"podman run --rm --read-only.*?edge-isp$", text, re.DOTALL | re.MULTILINE)
        assert '--hostname "$(hostname)"' in example
    assert "--no-healthcheck" in page


def test_every_instruction_is_one_that_the_test_runs() -> None:
    known = {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    words = [word for word, _ in instructions()]
    assert set(words) <= known
    assert words[0] == "FROM"
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in ("RUN", "COPY"))
    assert "HEALTHCHECK" in words
