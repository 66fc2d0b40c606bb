"""The cache of compiled kernels: nothing that happens to it may stop a program or leave old machine code in use.

Every case is a process of its own, on a copy of the kernels with two small ones added, which compile in a second.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_isp.kernels import cache as cache_module
from edge_isp.kernels.cache import Store, cache_folder
from edge_isp.kernels.compiled import source_hash
from tests.kernels.sampling import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled")

KERNELS = Path(cache_module.__file__).parent

CALLEE = """
from edge_isp.kernels.compiled import kernel

@kernel
def constant():
    return 1
"""
CALLER = """
from edge_isp.kernels.callee import constant
from edge_isp.kernels.compiled import kernel

@kernel
def add(value):
    return value + constant()
"""
PROGRAM = """
from edge_isp.kernels.caller import add
result = add(1), add(1.0)
stats = add.stats
print(*result, sum(stats.cache_misses.values()), sum(stats.cache_hits.values()))
"""
COMPILED_NOW, LOADED = "2 2.0 2 0\n", "2 2.0 0 2\n"
WARNING = "compiled kernels cannot be kept"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the kernels and the two of this test."""
    folder = tmp_path / "site" / "edge_isp"
    shutil.copytree(KERNELS, folder / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "__init__.py").touch()
    (folder / "kernels" / "callee.py").write_text(CALLEE)
    (folder / "kernels" / "caller.py").write_text(CALLER)
    return folder.parent


def run(
    package: Path, cache: Path | None, program: str = PROGRAM, *, before: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program on the copy.

    Args:
        package: the folder on the module search path.
        cache: EDGE_ISP_CACHE; None: not set.
        program: Python.
        before: a command that starts Python.
        **environment: more variables.
    """
    places = ("EDGE_ISP_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    variables = {name: value for name, value in os.environ.items() if name not in places}
    variables |= {"PYTHONPATH": str(package)} | environment
    if cache:
        variables["EDGE_ISP_CACHE"] = str(cache)
    return subprocess.run(
        [*before, sys.executable, "-c", program],
        env=variables,
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
    )


def output(*arguments: object, **environment: object) -> str:
    """What a run prints; it must end well and say nothing on standard error."""
    done = run(*arguments, **environment)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_a_second_start_compiles_nothing_and_the_package_stays_as_it_was(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert output(package, cache) == COMPILED_NOW
    assert output(package, cache) == LOADED
    assert len(files(cache)) == 3  # `add` for two types, and `constant`
    assert {path.suffix for path in files(package)} <= {".py", ".pyc"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        lambda content: pickle.dumps("of another program"),
    ],
    ids=["empty", "last byte missing", "half", "one bit", "foreign"],
)
def test_a_damaged_file_is_compiled_again(package: Path, tmp_path: Path, damage: object) -> None:
    cache = tmp_path / "cache"
    output(package, cache)
    for path in files(cache):
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert output(package, cache) == COMPILED_NOW
    assert output(package, cache) == LOADED


def test_a_folder_in_the_place_of_a_file_stops_nothing(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    output(package, cache)
    for path in files(cache):
        path.unlink()
        path.mkdir()
    done = run(package, cache)
    assert done.stdout == COMPILED_NOW
    assert done.stderr.count(WARNING) == 1


def test_an_edited_dependency_is_compiled_into_what_calls_it(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    output(package, cache)
    callee = package / "edge_isp" / "kernels" / "callee.py"
    stamp = callee.stat()
    callee.write_text(CALLEE.replace("return 1", "return 5"))
    os.utime(callee, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # nor does the time of the file matter
    shutil.rmtree(package / "edge_isp" / "kernels" / "__pycache__", ignore_errors=True)
    assert output(package, cache) == "6 6.0 2 0\n"


def test_every_source_file_counts(package: Path) -> None:
    folder = package / "edge_isp" / "kernels"
    seen = {source_hash(folder)}
    for number, path in enumerate(sorted(folder.glob("*.py")), start=1):
        path.write_bytes(path.read_bytes() + b"# edited\n")
        seen.add(source_hash(folder))
        assert len(seen) == number + 1, path
    assert len(seen) > 15


def test_sources_that_change_under_a_running_process_do_not_reach_the_cache(package: Path, tmp_path: Path) -> None:
    # It imported the old function; the file on the disk is a new one by the time the kernel is compiled.
    edit = "import edge_isp.kernels.callee as c; open(c.__file__, 'a').write('# updated')\n"
    assert output(package, tmp_path / "cache", edit + PROGRAM) == COMPILED_NOW
    assert not (tmp_path / "cache").exists()


def test_another_processor_has_files_of_its_own(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    output(package, cache)
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert output(package, cache, **other) == COMPILED_NOW
    assert len(list((cache / "compiled-kernels").iterdir())) == 2
    assert output(package, cache) == LOADED
    assert output(package, cache, **other) == LOADED


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_bad(
    package: Path, tmp_path: Path, moment: str
) -> None:
    cache = tmp_path / "cache"
    die = f"import os, signal; {moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    assert run(package, cache, die + PROGRAM).returncode == -signal.SIGKILL
    (left,) = files(cache)
    assert left.suffix == ".tmp"
    assert output(package, cache) == COMPILED_NOW
    assert output(package, cache) == LOADED
    assert left in files(cache)  # it might belong to a process that is still at work
    os.utime(left, (0, 0))
    for path in files(cache):
        if path != left:
            path.unlink()
    output(package, cache)
    assert left not in files(cache)


def test_where_nothing_can_be_written_that_is_said_once(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(package, tmp_path / "file" / "cache")
    assert done.stdout == COMPILED_NOW
    assert done.stderr.count(WARNING) == 1
    assert "EDGE_ISP_CACHE" in done.stderr


@pytest.fixture
def read_only() -> tuple[str, ...]:
    """A command before Python that makes the folder `cache` read-only, for root too."""
    command = ("unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -o bind,ro cache cache && exec "$@"', "sh")
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    return command


def in_read_only(package: Path, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    done = run(package, package / "cache", before=command)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no read-only mount can be made here: {done.stderr.strip()}")
    return done


def test_an_empty_read_only_folder(package: Path, read_only: tuple[str, ...]) -> None:
    (package / "cache").mkdir()
    done = in_read_only(package, read_only)
    assert done.stdout == COMPILED_NOW
    assert done.stderr.count(WARNING) == 1
    assert files(package / "cache") == []


def test_a_full_read_only_folder_is_used_and_nothing_is_said(package: Path, read_only: tuple[str, ...]) -> None:
    output(package, package / "cache")
    done = in_read_only(package, read_only)
    assert done.stdout == LOADED
    assert done.stderr == ""


def test_a_home_that_is_not_there(package: Path) -> None:
    done = run(package, None, HOME="/proc/nobody")  # where not even root can make one
    assert done.stdout == COMPILED_NOW
    assert done.stderr.count(WARNING) == 1


def test_a_user_without_a_home(package: Path) -> None:
    # A user number that /etc/passwd does not know.
    done = run(package, None, "import os; os.getuid = lambda: 2**31 - 7\n" + PROGRAM)
    assert done.stdout == COMPILED_NOW
    assert done.stderr.count(WARNING) == 1
    assert "no home folder" in done.stderr


def test_two_processes_at_once(package: Path, tmp_path: Path) -> None:
    variables = os.environ | {"PYTHONPATH": str(package), "EDGE_ISP_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", PROGRAM]
    both = [subprocess.Popen(command, env=variables, cwd=package, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate()[0].startswith("2 2.0")
        assert process.returncode == 0
    assert output(package, tmp_path / "cache") == LOADED


def test_a_kernel_outside_the_folder_is_compiled_and_not_kept(package: Path, tmp_path: Path) -> None:
    (package / "theirs.py").write_text(CALLER)
    program = PROGRAM.replace("edge_isp.kernels.caller", "theirs")
    assert output(package, tmp_path / "cache", program) == COMPILED_NOW
    assert output(package, tmp_path / "cache", program) == COMPILED_NOW


def test_the_folder_is_the_first_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ISP_CACHE", "/own")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/first:/var/cache/second")
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/own/compiled-kernels")
    monkeypatch.delenv("EDGE_ISP_CACHE")
    assert cache_folder() == Path("/var/cache/first/compiled-kernels")
    monkeypatch.delenv("CACHE_DIRECTORY")
    assert cache_folder() == Path("/shared/edge_isp/compiled-kernels")
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert cache_folder() == Path("/home/somebody/.cache/edge_isp/compiled-kernels")


def test_folders_that_nobody_used_for_a_month_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ISP_CACHE", str(tmp_path))
    keys = {name: character * 32 for name, character in {"old": "0", "used": "1", "new": "2"}.items()}
    for name in ("old", "used"):
        Store.open(keys[name]).write("kernel", b"code")
    (tmp_path / "compiled-kernels" / "of somebody else").mkdir()
    for folder in (tmp_path / "compiled-kernels").iterdir():
        os.utime(folder, (0, 0))
    Store.open(keys["used"])  # a start that loads
    Store.open(keys["new"]).write("kernel", b"code")
    left = {folder.name for folder in (tmp_path / "compiled-kernels").iterdir()}
    assert left == {keys["used"], keys["new"], "of somebody else"}
    assert Store.open(keys["used"]).read("kernel") == b"code"
