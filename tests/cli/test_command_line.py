"""The command line as a process: quiet ends, exit statuses, suggestions, one line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.recordings import DEMO

EDGE_ISP = [sys.executable, "-m", "edge_isp"]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*EDGE_ISP, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_the_module_is_the_command() -> None:
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("command", [["run", "--help"], ["run", "--json"], ["devices"], ["bench", "schema"]])
def test_a_closed_pipe_ends_quietly(command: list[str]) -> None:
    """What `edge-isp ... | head -1` does, with a reader that closes at once."""
    with subprocess.Popen([*EDGE_ISP, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(120) in (0, 141), errors
    assert "Traceback" not in errors
    assert "Broken" not in errors


def test_a_full_disk_is_one_line() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    with full.open("w") as output:
        done = subprocess.run([*EDGE_ISP, "--help"], stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "edge-isp: error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--camera", "sythetic:x.png"], "did you mean 'synthetic'?"),
        (["run", "--camera", "synthetic:x.png,width=abc"], "width must be a whole number, found 'abc'"),
        (["run", "--camera", "synthetic:x.png,fps=x"], "fps must be a number"),
        (["run", "--camera", "synthetic:x.png,widht=64"], "unknown widht; did you mean 'width'?"),
        (["run", "--camera", "synthetic:x.png,sensor=2"], "no sensor profile '2'"),
        (["run", "--camera", "x" * 5000], "camera 'xxx"),
        (["run", "--camera", "none.raw"], "camera 'none.raw': no such file or folder"),
        (["run", "--tone", "sgrb"], "tone must be one of camera, srgb, found 'sgrb'; did you mean 'srgb'?"),
        (["run", "--model", "rfdcsanet-x"], "did you mean 'rfdcsanet-"),
        (["run", "--engine", "litter"], "did you mean 'litert'?"),
        (["run", "--sink", "pgn:out"], "did you mean 'png'?"),
        (["run", "--sink", "png:out,quality=3"], "unknown quality"),
        (["run", "--profile", "imx21"], "did you mean 'imx219'?"),
        (["run", "--policy", "wait"], "latest"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("edge-isp: error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing half-written


@pytest.mark.parametrize("as_json", [True, False])
def test_verbose_says_what_is_applied_to_the_first_frame(as_json: bool) -> None:
    arguments = ["run", "--camera", DEMO, "--frames", 2, "--tone", "srgb", "--auto-brightness"]
    plain, verbose = (run(*arguments, *more) for more in ([], ["--json", "-v"] if as_json else ["-v"]))
    assert (plain.returncode, verbose.returncode) == (0, 0)
    assert "applied to" not in plain.stderr
    lines = verbose.stderr.splitlines()
    first = lines.index(f"applied to frame 0 of {DEMO}:")
    steps = {line[2:15].strip(): line[16:] for line in lines[first + 1 : first + 10]}
    assert steps["black level"] == "R, Gr, Gb, B 64, 64, 64, 64; white 1023 (10 bits) [profile 'imx219']"
    assert steps["white balance"] == "red 1.749, blue 1.426, 5700 K [file]"
    assert steps["lens shading"] == "not corrected: the frame has none, as its source says"
    assert steps["noise"] == "analogue gain 2 [file, profile 'imx219']"
    assert steps["tone"] == "srgb curve [IEC 61966-2-1]"
    assert "automatic" in steps["brightness"]
    assert set(steps) > {"defects", "colour matrix", "orientation"}
    assert verbose.stderr.count("applied to frame") == 1
    assert verbose.stdout.count('"sequence"') == (2 if as_json else 0)


def test_an_unknown_command_has_a_suggestion() -> None:
    done = run("devises")
    assert done.returncode == 2
    assert "devices" in done.stderr


def test_a_sink_gets_as_many_results_as_frames_are_asked_for(tmp_path: Path) -> None:
    done = run(
        "run", "--camera", DEMO, "--frames", "2", "--sink", f"png:{tmp_path / 'a'}", "--save", tmp_path / "b", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [
        path.name for path in sorted((tmp_path / "b").iterdir())
    ]
    assert len(list((tmp_path / "a").iterdir())) == 2
