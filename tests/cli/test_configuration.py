"""The configuration file, the environment and the options: which wins, what is wrong, what is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_isp.cli import run_stream
from edge_isp.cli.configuration import VARIABLE, Configuration, for_task, leaves, options_of
from edge_isp.cli.main import app, command_line
from edge_isp.errors import ConfigError, SinkError
from edge_isp.results import FrameResult
from tests.cli.in_process import run

RUN = """
[run]
camera = "synthetic:none.png"
model = "rfdcsanet-m"
sink = ["png:one", "jpeg:two,every=30"]
tile = "640x480"
confidence = 1
lens_shading = false

[[run.models]]
model = "raw-detector"
every = 3
threads = 1
sink = ["png:boxes"]

[bench.model]
threads = 2
"""


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither that of this machine."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(VARIABLE, raising=False)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edge-isp.toml"
    path.write_text(text)
    return path


def shown(*arguments: str) -> dict[str, tuple[Any, str]]:
    """What `config show --json` says: value and source of each option."""
    done = run("config", "show", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {row["option"]: (row["value"], row["source"]) for row in json.loads(done.stdout)["options"]}


def test_options_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Seen at what is complained of: a sensor profile that does not exist."""
    path = written(tmp_path, '[run]\nprofile = "of-the-file"\n')
    assert "profile 'of-the-file'" in run("run", "--config", path).stderr
    monkeypatch.setenv("EDGE_ISP_RUN_PROFILE", "of-the-environment")
    assert "profile 'of-the-environment'" in run("run", "--config", path).stderr
    assert "profile 'of-the-option'" in run("run", "--config", path, "--profile", "of-the-option").stderr


def test_where_the_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("option", "variable", "user"):
        (tmp_path / f"{name}.toml").write_text(f'[run]\nprofile = "{name}"\n')
    assert "there is no configuration file" in run("config", "check").stderr
    users = tmp_path / "config/edge-isp/config.toml"
    users.parent.mkdir(parents=True)
    (tmp_path / "user.toml").rename(users)
    assert "profile 'user'" in run("run").stderr
    monkeypatch.setenv(VARIABLE, str(tmp_path / "variable.toml"))
    assert "profile 'variable'" in run("run").stderr
    assert "profile 'option'" in run("run", "--config", tmp_path / "option.toml").stderr
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing.toml"))
    assert "missing.toml: cannot be read: No such file" in run("run").stderr


def test_show_says_where_each_value_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = written(tmp_path, RUN)
    monkeypatch.setenv(VARIABLE, str(path))
    monkeypatch.setenv("EDGE_ISP_RUN_MODEL", "rfdcsanet-s")
    found = shown()
    assert found["sink"] == (["png:one", "jpeg:two,every=30"], str(path))
    assert found["model"] == ("rfdcsanet-s", "environment variable EDGE_ISP_RUN_MODEL")
    assert found["lens_shading"] == (False, str(path))
    assert found["check_every"] == (1000, "default")
    assert found["engine"] == (None, "default")
    assert shown("bench", "model")["threads"] == (2, str(path))
    text = run("config", "show").stdout
    assert f"file: {path}" in text
    assert re.search(r'camera += "synthetic:none.png"  \(.*edge-isp.toml\)', text)
    assert 'models: model = "raw-detector", every = 3' in text
    assert "did you mean 'bench model'" in run("config", "show", "bench", "modle").stderr


def test_every_option_of_every_command_can_be_configured() -> None:
    """By its long name; nothing is left out, and no two share a variable."""
    variables = []
    for path, leaf in leaves(command_line()):
        keys = {option.key for option in options_of(path, leaf)}
        for parameter in leaf.params:
            long = [name for name in getattr(parameter, "opts", ()) if name.startswith("--")]
            if parameter.param_type_name == "option" and long and long[0] not in ("--help", "--config", "--version"):
                assert long[0][2:].replace("-", "_") in keys
        variables += [option.variable for option in options_of(path, leaf)]
    assert len(variables) == len(set(variables)) > 100


def test_every_command_has_the_option_and_its_help() -> None:
    for path, _ in leaves(command_line()):
        output = run(*path, "--help").stdout if path in {("run",), ("bench", "kernels")} else None
        if output is not None:
            assert "--config" in output
            assert "EDGE_ISP_RUN" not in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\nmodle = 'x'", "unknown key run.modle; did you mean 'model'?"),
        ("[run]\nauto-exposure = true", "unknown key run.auto-exposure; did you mean 'auto_exposure'?"),
        ("[run]\nzzzzzz = 1", "unknown key run.zzzzzz; there are: auto_brightness, auto_exposure, camera"),
        ("[rnu]\nmodel = 'x'", "no command 'rnu'; did you mean 'run'?"),
        ("model = 'x'", "no command 'model'"),
        ("[bench.modle]", "no command 'modle' in [bench]; did you mean 'model'?"),
        ("run = 3", "run must be a table of options, found 3"),
        ("[run]\nthreads = true", "run.threads must be a whole number, found true"),
        ("[run]\nthreads = 1.5", "run.threads must be a whole number, found 1.5"),
        ("[run]\nconfidence = 'x'", "run.confidence must be a number, found 'x'"),
        ("[run]\njson = 1", "run.json must be true or false, found 1"),
        ("[run]\ncamera = 3", "run.camera must be a text, found 3"),
        ("[run]\nsink = 'png:x'", "run.sink must be a list of texts, found 'png:x'"),
        ("[run]\nsink = ['png:x', 3]", "run.sink must be a list of texts, found ['png:x', 3]"),
        ("[run]\ntile = [640, 480]", "run.tile must be a text, found [640, 480]"),
        ("[[run.models]]\nmodel = 'x'\nevry = 2", "unknown key run.models[0].evry; did you mean 'every'?"),
        ("[[run.models]]\nevery = 2", "run.models[0].model is missing"),
        ("[[run.models]]\nmodel = 'x'\ncamera = 'x'", "unknown key run.models[0].camera"),
        ("[run]\nmodels = 'x'", "run.models must be tables, [[run.models]], found 'x'"),
        ("[run]\nmodels = ['x']", "run.models[0] must be a table, found 'x'"),
        ("[run", "not a TOML file"),
        ("[[run]]\nmodel = 'x'", "run must be a table of options, found [a table]"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        Configuration(written(tmp_path, text), command_line()).require_valid()
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "edge-isp.toml"))
    assert "\n" not in str(error.value)


def test_check_names_every_fault(tmp_path: Path) -> None:
    path = written(tmp_path, "[run]\nmodle = 'x'\nthreads = 'x'\n[bench.model]\nthread = 1\n")
    done = run("config", "check", path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert "did you mean 'threads'" in lines[2]
    done = run("run", "--config", path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "; 2 more: edge-isp config check" in done.stderr
    assert run("config", "check", written(tmp_path, RUN)).stdout == f"{path}: no faults\n"


def test_values_out_of_range_are_refused_as_on_the_command_line(tmp_path: Path) -> None:
    done = run("run", "--config", written(tmp_path, "[run]\nthreads = 0\n"))
    assert done.returncode == 2
    assert "--threads" in done.stderr


def test_several_models_of_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [run]
        frames = 3
        json = true
        threads = 1
        sink = ["jpeg:pictures,every=2", "png:all,policy=block"]
        [[run.models]]
        model = "rfdcsanet-m"
        every = 2
        sink = ["jpeg:better"]
        """,
    )
    monkeypatch.chdir(tmp_path)
    done = run("run", "--config", path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    first = [line["sequence"] for line in lines if line["model"].startswith("rfdcsanet-s")]
    assert first == [0, 1, 2]
    further = [line["sequence"] for line in lines if line["model"].startswith("rfdcsanet-m")]
    assert further == [0, 2]
    files = {folder: len(list((tmp_path / folder).iterdir())) for folder in ("pictures", "all", "better")}
    assert files == {"pictures": 2, "all": 3, "better": 2}


@pytest.mark.parametrize(
    ("first", "options", "second"),
    [
        (
            "raw-detector",
            "confidence = 0.5\nclass = ['person']\niou = 0.5\ninput_size = 320\ntrack = true\nzone = 'zones.toml'",
            "rfdcsanet-s",
        ),
        ("rfdcsanet-s", "lens_shading = false\ntile = '640x480'", "raw-detector"),
    ],
)
def test_a_further_model_of_another_task_has_what_concerns_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: str, options: str, second: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("zones.toml").write_text('[[zone]]\nname = "all"\npolygon = [[0, 0], [0, 1], [1, 1]]\n')
    text = f"[run]\nframes = 1\njson = true\nthreads = 1\nmodel = '{first}'\n{options}\n"
    path = written(tmp_path, f"{text}[[run.models]]\nmodel = '{second}'\nsink = ['png:further']\n")
    done = run("run", "--config", path)
    assert done.returncode == 0, done.stderr
    assert len(list(Path("further").iterdir())) == 1
    # What it says itself is refused as on the command line.
    path = written(tmp_path, f"{text}[[run.models]]\nmodel = 'rfdcsanet-s'\nconfidence = 0.3\n")
    assert "makes pictures" in run("run", "--config", path).stderr


def test_options_of_another_task_have_their_defaults() -> None:
    """As `serve` asks, which has some of the options only."""
    values = {"confidence": 0.5, "track": True, "zone": Path("zones.toml"), "tone": "srgb"}
    assert for_task(values, "raw-detector") == values
    assert for_task(values, "rfdcsanet-s") == {"confidence": None, "track": False, "zone": None, "tone": "srgb"}


def test_losses_of_a_sink_are_shown() -> None:
    pytest.importorskip("av", reason="needs the extra [video]")
    done = run("run", "--frames", 3, "--json", "--sink", "rtsp://user:secret@127.0.0.1:1/x")
    assert done.returncode == 0
    assert "rtsp://***@127.0.0.1:1/x: 3 of 3 results lost: not sent 3" in done.stderr
    assert "secret" not in done.stderr


def test_a_wrong_policy_of_a_sink_opens_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("run", "--sink", "png:out,policy=wait")
    assert done.returncode == 1
    assert "policy must be 'latest', 'block' or 'buffered(N)'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sink_gets_the_tone_and_the_profile_of_its_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[tuple[str, str, str]] = []

    def open_sink(spec: str, *, profile: Any, tone: str) -> Any:
        opened.append((spec, profile.name, tone))
        if len(opened) == 2:
            raise SinkError("both were opened")
        return Nothing()

    monkeypatch.setattr(run_stream, "open_sink", open_sink)
    path = written(
        tmp_path,
        """
        [run]
        tone = "srgb"
        profile = "imx477"
        sink = ["png:of-the-first"]
        [[run.models]]
        model = "raw-detector"
        tone = "camera"
        profile = "imx708"
        sink = ["png:of-the-second"]
        """,
    )
    assert "both were opened" in run("run", "--config", path).stderr
    assert opened == [("png:of-the-first", "imx477", "srgb"), ("png:of-the-second", "imx708", "camera")]


class Nothing:
    """A sink."""

    def write(self, result: FrameResult) -> None:
        """Takes a result."""

    def close(self) -> None:
        """Ends."""


def test_the_plain_application_is_unchanged() -> None:
    """Others may extend `app`; the configuration is added where it runs."""
    assert "--config" not in CliRunner().invoke(app, ["run", "--help"]).output
