"""The conformance suite of delegates: what a `DelegateSpec` must say, and what it must do where its hardware is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_isp.engines.base import EngineReport
from edge_isp.engines.delegates import DelegateSpec, delegates, probe
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.parity import ParityLimits
from edge_isp.models.card import find_model
from edge_isp.plugins import names

_FRAMES = 8
# Height and width of the input: enough to compare, and quick on the slowest NPU.
_SMALL = (16, 24)


def check_delegate(spec: DelegateSpec, *, model: str = "rfdcsanet-s", root: Path = Path("/")) -> EngineReport | None:
    """Checks a delegate; to be called from a test, on the board if there is one.

        def test_my_delegate():
            report = check_delegate(MY_SPEC)

    Everywhere it checks what the specification says: a name and a title, an engine that exists, which models it runs,
    how it is found; and that its entry point makes it known. Where the hardware is found, it also loads the delegate,
    compares its outputs with the CPU's as `edge_isp` does, and runs several inputs.

    Args:
        spec: the delegate, as its entry point gives it.
        model: name of a model that it can run.
        root: of the file system that is searched for the hardware.

    Returns:
        What ran, or None where the hardware was not found.

    Raises:
        AssertionError: the specification is not complete, or the delegate does not do what it must.
    """
    _check_specification(spec)
    found = probe(spec, root)
    if found.missing:
        return None
    return _check_runs(spec, model)


def _check_specification(spec: DelegateSpec) -> None:
    assert isinstance(spec, DelegateSpec), f"must be a DelegateSpec, found {type(spec).__name__}"
    assert spec.name, "name must not be empty"
    assert spec.name == spec.name.lower(), f"name must be lower case, found '{spec.name}'"
    assert not set(spec.name) & set(" ,=/"), f"name '{spec.name}' must not have spaces, commas, '=' or '/'"
    assert spec.name not in ("auto", "none", "cpu"), f"name '{spec.name}' has a meaning of its own"
    assert spec.title, "title must name the hardware for people"
    assert spec.engine in names("engines"), (
        f"engine must be one of {', '.join(names('engines'))}, found '{spec.engine}'"
    )
    assert spec.models, "models must say which variants run on which boards"
    assert all((*spec.models, *spec.models.values())), f"models must not have empty entries: {dict(spec.models)}"
    assert spec.libraries or spec.package or spec.provider, (
        "libraries, package or provider must say how the delegate is found"
    )
    known = [other for other in delegates() if other.name == spec.name]
    assert known == [spec], (
        f"'{spec.name}' is not among the delegates: the package needs an entry point in the group edge_isp.delegates"
        if not known
        else f"the entry point of '{spec.name}' gives another specification"
    )


def _check_runs(spec: DelegateSpec, model: str) -> EngineReport:
    card = find_model(model, None)
    delegation = Delegation(spec.name)
    allowed = ParityLimits(card.agreement.rms_lsb, card.agreement.mean_lsb)
    with FallbackEngine(card.path, delegation=delegation, limits=allowed) as engine:
        engine.resize((1, *_SMALL, engine.inputs[0].shape[3]))
        rng = np.random.default_rng(0)
        info = engine.inputs[0]
        limits = np.iinfo(np.dtype(info.dtype))
        for _ in range(_FRAMES):
            engine.run([rng.integers(limits.min, limits.max, info.shape, np.dtype(info.dtype), endpoint=True)])
        report = engine.report
    refused = "; ".join(event.reason for event in report.events if event.kind in ("refused", "dropped"))
    assert report.delegate == spec.name, f"'{spec.name}' is found, but {report.delegate} ran: {refused}"
    assert report.parity is not None, "the outputs were not compared with the CPU's"
    assert report.nodes_delegated or not report.partitions, f"'{spec.name}' took no operator of the graph"
    return report
