"""What a release says of itself, everywhere the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import edge_isp

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version() -> None:
    recipe = (ROOT / "packaging/conda/meta.yaml").read_text()
    assert PROJECT["version"] == edge_isp.__version__
    assert re.findall(r'^  version: "(.*)"$', recipe, re.MULTILINE) == [edge_isp.__version__]


def test_the_changelog_dates_the_version() -> None:
    versions = re.findall(r"^## \[(.+)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert versions[1][0] == edge_isp.__version__
    assert versions[1][1]


def test_the_recipe_needs_what_the_package_needs() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML (extra 'ros') is not installed")
    recipe = yaml.safe_load((ROOT / "packaging/conda/meta.yaml").read_text())
    python, *others = recipe["requirements"]["run"]
    assert python.removeprefix("python ") == PROJECT["requires-python"]
    assert sorted(need.replace(" ", "") for need in others) == sorted(PROJECT["dependencies"])
    command, target = recipe["build"]["entry_points"][0].split(" = ")
    assert PROJECT["scripts"] == {command: target}


def test_the_workflows_can_be_read_and_run_what_exists() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML (extra 'ros') is not installed")
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                for script in re.findall(r"^(scripts/[\w-]+)", step.get("run", ""), re.MULTILINE):
                    assert (ROOT / script).is_file(), f"{path}: {script}"
