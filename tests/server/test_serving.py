"""The server without its packages, and the views without a detector or pictures."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from edge_isp.errors import MissingDependencyError, PipelineError
from edge_isp.server.live_view import LiveView
from edge_isp.server.serving import check_packages
from tests.server.support import open_scene


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "simplejpeg", "prometheus_client"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find_spec = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> Any:
        return None if name == missing else object() if name in ("starlette", "uvicorn") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    with pytest.raises(MissingDependencyError, match=rf"'{missing}'.*pip install 'edge-isp\[serve\]'"):
        check_packages()


def test_a_view_needs_a_model() -> None:
    with pytest.raises(PipelineError, match="at least one model"):
        LiveView(open_scene, [])
