"""Every way in which a delegate can fail, on both runtimes: the stream goes on, and the report is true."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.engines import process
from edge_isp.engines.base import EngineReport
from edge_isp.engines.cpu import CpuEngine
from edge_isp.engines.fallback import Delegation, FallbackEngine
from edge_isp.engines.parity import ParityLimits, compare
from edge_isp.errors import EngineError, ModelError, PluginError
from edge_isp.models.card import find_model, shipped_models
from edge_isp.models.tflite_graph import TfliteGraph
from edge_isp.pipeline import FrameResult, ModelOptions, Pipeline
from tests.engines.npu_tools import MIXED, SMALL, Runtime, codes

Recording = Callable[..., Path]
LITERT = Runtime("litert", None)
FRAMES = 6
BY_CPU: dict[str, list[Any]] = {}  # pictures of the stream that every test runs, by runtime


def open_fallback(
    runtime: Runtime, delegate: str, *, card: Any = SMALL, size: int = 12, **settings: Any
) -> FallbackEngine:
    own = {key: settings.pop(key) for key in ("clock", "limits", "variant") if key in settings}
    delegation = Delegation(delegate, python=runtime.python, **settings)
    fallback = FallbackEngine(card.path, engine=runtime.engine, threads=1, delegation=delegation, live=False, **own)
    fallback.resize((1, size, size, card.input.shape[3]))
    return fallback


def frame(card: Any = SMALL, size: int = 12, seed: int = 0) -> Any:
    return [codes(size, size, card.input.shape[3], seed)]


def spread(found: Any, expected: Any) -> int:
    return int(np.abs(found[0].astype(int) - expected[0]).max())


def kinds(report: EngineReport) -> list[tuple[str, str]]:
    return [(event.kind, event.delegate) for event in report.events if event.delegate in ("npu", "libnpu")]


# The whole graph, or a part


@pytest.mark.parametrize("operators", ["conv,concat,logistic", "concat,logistic"])
@pytest.mark.parametrize("card", [SMALL, MIXED], ids=["small", "mixed"])
def test_a_delegate_runs_its_part_within_1_lsb(card: Any, operators: str, runtime: Runtime, npu: str) -> None:
    with open_fallback(runtime, "none", card=card) as cpu:
        expected = cpu.run(frame(card))
        assert cpu.report.nodes_delegated in (0, cpu.report.nodes)  # XNNPACK takes all or, of int8 in 2.14, nothing
    with open_fallback(runtime, f"{npu},operators={operators}", card=card, limits=ParityLimits((1.5,))) as fallback:
        found = fallback.run(frame(card))
        report = fallback.report
    taken = {"CONV_2D", "CONCATENATION", "LOGISTIC"} if "conv," in operators else {"CONCATENATION", "LOGISTIC"}
    graph = TfliteGraph(card.path.read_bytes(), card.name)
    names = {"conv": "CONV_2D", "concat": "CONCATENATION", "sigmoid": "LOGISTIC"}
    expected_nodes = sum(names.get(operator.kind) in taken for operator in graph.operators)
    assert report.delegate == "npu"
    assert (report.nodes_delegated, report.nodes) == (expected_nodes, len(graph.operators))
    partitions = {partition.executor: dict(partition.operators) for partition in report.partitions}
    assert set(partitions["npu"]) <= taken
    rest = partitions.get("XNNPACK" if runtime.engine == "litert" else "interpreter", {})
    assert sum(rest.values()) == report.nodes - report.nodes_delegated
    if runtime.engine == "litert" or "conv," not in operators:
        assert spread(found, expected) <= 1
        assert report.parity
        assert report.parity.max_lsb <= 1
    else:  # 2.14's own convolutions round twice, and in a deep network that adds up
        assert report.parity
        assert 0 < report.parity.rms_lsb <= 1.5
    assert min(report.first_inference_ns, report.steady_ns, report.cpu_ns) > 0
    assert dict(report.frames) == {"npu": 1}


def test_full_delegation_is_all_or_nothing(npu: str) -> None:
    with open_fallback(LITERT, npu, require_full=True) as fallback:
        fallback.run(frame())
        assert fallback.report.nodes_delegated == fallback.report.nodes == 37
    with (
        open_fallback(LITERT, f"{npu},operators=concat", require_full=True) as fallback,
        pytest.raises(
            EngineError, match="full delegation is required, and it takes 5 of 37 nodes; left are 32 CONV_2D"
        ),
    ):
        fallback.run(frame())
    with (
        open_fallback(LITERT, f"{npu},fail=invoke,after=7", require_full=True) as fallback,
        pytest.raises(EngineError, match="full delegation is required, and delegate 'npu' was lost: .*device lost"),
    ):
        fallback.run(frame())
        fallback.run(frame())


def test_full_delegation_is_not_the_cpu() -> None:
    with pytest.raises(EngineError, match="full delegation is required, and there is no NPU"):
        FallbackEngine(SMALL.path, delegation=Delegation(require_full=True))
    with pytest.raises(EngineError, match="full delegation is required, and the delegate is 'none'"):
        FallbackEngine(SMALL.path, delegation=Delegation("none", require_full=True))


# Failures at the start: `auto` goes on, a demanded delegate fails loudly

AT_THE_START = {
    "create": ({"fail": "create"}, "cannot be created: .*device /dev/npu0 not found"),
    "prepare": ({"fail": "prepare"}, "cannot prepare this model: .*out of device memory"),
    "invoke": ({"fail": "invoke"}, "failed to run this model: .*device lost"),
    "wrong": (
        {"fail": "invoke", "how": "wrong"},
        "disagrees with the CPU: .* LSB rms, .* at most; output '.*' is off by .* LSB rms and .* LSB in the mean",
    ),
    "nothing": ({"operators": "none"}, "takes none of the model's (16|37) nodes"),
    "option": ({"speed": "3"}, "cannot be created: .*unknown option"),
}


@pytest.mark.parametrize("case", list(AT_THE_START))
def test_a_delegate_that_never_works(
    case: str,
    runtime: Runtime,
    npu: str,
    known_npu: Callable[..., None],
) -> None:
    if runtime.python and case not in ("create", "prepare", "invoke"):
        pytest.skip("does not depend on the runtime")
    options, reason = AT_THE_START[case]
    known_npu(**options)
    with open_fallback(runtime, "auto") as fallback, open_fallback(runtime, "none") as cpu:
        for seed in range(5):
            assert spread(fallback.run(frame(seed=seed)), cpu.run(frame(seed=seed))) == 0
        assert fallback.settle(60)
        fallback.run(frame())
        report = fallback.report
    assert dict(report.frames) == {cpu.report.delegate: 6}
    assert kinds(report) == [("refused", "npu")]
    (said,) = [event.reason for event in report.events if event.delegate == "npu"]
    with (
        open_fallback(runtime, "npu") as fallback,
        pytest.raises(EngineError, match=f"delegate 'npu' cannot be used: .*{reason}"),
    ):
        fallback.run(frame())
    assert re.search(reason, said)


# Failures while streaming

# Two subsets, so that an inference is two invocations; six inferences before it is chosen, and one that warms up.
WHILE_STREAMING = {
    "error": ({"fail": "invoke", "after": "18"}, "device lost"),
    "crash": ({"fail": "invoke", "after": "18", "how": "crash"}, "process of engine '.*' ended with signal SIGABRT"),
    "hang": ({"fail": "invoke", "after": "18", "how": "hang"}, "did not answer within 1 s; its process was ended"),
    "wrong": ({"fail": "invoke", "after": "18", "how": "wrong"}, "disagrees with the CPU"),
}


@pytest.mark.parametrize("case", list(WHILE_STREAMING))
def test_a_delegate_that_is_lost(
    case: str, runtime: Runtime, npu: str, known_npu: Callable[..., None], recording: Recording
) -> None:
    options, reason = WHILE_STREAMING[case]
    known_npu(operators="concat", **options)
    limit_s = 1.0 if case in ("crash", "hang") else None
    stream, report = streamed(recording, runtime, "npu", time_limit_s=limit_s, check_every=1)
    lost = 2
    check_stream(stream, report, runtime, recording, ["npu"] * lost + ["cpu"] * (FRAMES - lost))
    assert kinds(report) == [("chosen", "npu"), ("dropped", "npu")]
    dropped = report.events[-1]
    assert dropped.frame == lost + 1  # and one that warmed up
    assert re.search(reason, dropped.reason)
    assert "tried again in 10 s" in dropped.reason


@pytest.mark.parametrize("stage", ["create", "prepare"])
def test_a_delegate_that_hangs_while_it_loads(
    stage: str, runtime: Runtime, known_npu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    known_npu(fail=stage, how="hang")
    with open_fallback(runtime, "auto", time_limit_s=1.0) as fallback, open_fallback(runtime, "none") as cpu:
        monkeypatch.setattr(process, "LOAD_LIMIT_S", 1.0)
        for seed in range(5):
            assert spread(fallback.run(frame(seed=seed)), cpu.run(frame(seed=seed))) == 0
        assert kinds(fallback.report) == []  # frames do not wait for it
        assert fallback.settle(60)
        fallback.run(frame())
        assert kinds(fallback.report) == [("refused", "npu")]
        (refused,) = (event for event in fallback.report.events if event.kind == "refused")
        assert "did not answer within 1 s; its process was ended" in refused.reason


def streamed(
    recording: Recording, runtime: Runtime, delegate: str, **settings: Any
) -> tuple[list[FrameResult], EngineReport]:
    delegation = Delegation(delegate, python=runtime.python, **settings)
    camera = ReplayCamera(recording(frames=FRAMES, width=32, height=24))
    with Pipeline(camera, ModelOptions(engine=runtime.engine, threads=1, delegation=delegation)) as pipeline:
        stream = list(pipeline)
        assert pipeline.report
        return stream, pipeline.report


def check_stream(
    stream: list[FrameResult], report: EngineReport, runtime: Runtime, recording: Recording, expected: list[str]
) -> None:
    """Every frame once and in order, with the CPU's pictures, made by whom the report says."""
    assert [done.picture.sequence for done in stream] == list(range(FRAMES))
    cpu = "XNNPACK" if runtime.engine == "litert" else "none"
    makers = [cpu if maker == "cpu" else maker for maker in expected]
    assert [done.delegate for done in stream] == makers
    made = dict(report.frames)
    assert sum(made.values()) == FRAMES + 1  # the pipeline warms up with the first frame
    assert all(made[maker] - makers.count(maker) in (0, 1) for maker in made)
    assert report.delegate == makers[-1]
    if runtime.engine not in BY_CPU:
        BY_CPU[runtime.engine] = [done.picture.rgb for done in streamed(recording, runtime, "none")[0]]
    for done, picture in zip(stream, BY_CPU[runtime.engine], strict=True):
        np.testing.assert_array_equal(done.picture.rgb, picture)


# Spot checks, back-off


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_whole_frames_are_checked_at_first_and_every_n_frames(npu: str) -> None:
    # Five subsets: ten inferences are right (six when it is chosen, four frames), the rest are not.
    options = f"{npu},operators=concat,fail=invoke,how=wrong,after=50"
    with open_fallback(LITERT, "none") as cpu:
        expected = cpu.run(frame())
    for every, right in ((0, [True] * 4 + [False] * 3 + [True] * 2), (6, [True] * 4 + [False] + [True] * 4)):
        with open_fallback(LITERT, options, check_every=every) as fallback:
            assert [spread(fallback.run(frame()), expected) == 0 for _ in range(9)] == right


def test_an_error_of_the_cpu_in_a_spot_check_is_not_the_delegates(npu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(engine: CpuEngine, inputs: list[Any]) -> list[Any]:
        raise EngineError("the CPU failed")

    with open_fallback(LITERT, npu) as fallback:
        fallback.run(frame())
        with monkeypatch.context() as patched:
            patched.setattr(CpuEngine, "run", fail)
            with pytest.raises(EngineError, match="^the CPU failed$"):
                fallback.run(frame())
        assert kinds(fallback.report) == [("chosen", "npu")]
        fallback.run(frame())
        assert fallback.report.delegate == "npu"


def test_a_lost_delegate_is_tried_again_ever_more_rarely(
    npu: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, clock = tmp_path / "broken", Clock()
    with open_fallback(LITERT, f"{npu},fail=invoke,while={broken}", clock=clock) as fallback:

        def run_twice() -> None:
            """What is due is tried in the background, and its outcome is taken with the next frame."""
            fallback.run(frame())
            assert fallback.settle(60)
            fallback.run(frame())

        fallback.run(frame())
        assert fallback.report.delegate == "npu"
        broken.touch()
        caplog.clear()
        for wait_s in (10, 20, 40, 80, 160, 320, 600, 600):  # doubles, up to ten minutes
            run_twice()
            assert fallback.report.delegate == "XNNPACK"
            clock.now_s += wait_s - 1
            events = len(fallback.report.events)
            run_twice()
            assert len(fallback.report.events) == events
            clock.now_s += 1
        broken.unlink()
        run_twice()
        assert fallback.report.delegate == "npu"
        assert kinds(fallback.report) == [
            ("chosen", "npu"),
            ("dropped", "npu"),
            *[("refused", "npu")] * 7,
            ("chosen", "npu"),
            ("restored", "npu"),
        ]
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 9  # the log alone says all that was lost and came back
        # Lost again at once: it goes on waiting; lost after it has worked for longer: it starts afresh.
        broken.touch()
        fallback.run(frame())
        assert "tried again in 600 s" in fallback.report.events[-1].reason
        broken.unlink()
        clock.now_s += 600
        run_twice()
        clock.now_s += 601
        broken.touch()
        fallback.run(frame())
        assert "tried again in 10 s" in fallback.report.events[-1].reason


def test_another_size_is_another_start(npu: str) -> None:
    with open_fallback(LITERT, npu) as fallback:
        fallback.run(frame())
        fallback.resize((1, 8, 10, 8))
        assert fallback.run([codes(8, 10)])[0].shape == (1, 8, 10, 12)
        assert fallback.report.delegate == "npu"
        assert kinds(fallback.report) == [("chosen", "npu")] * 2


# The CPU's own candidates


def test_what_xnnpack_refuses_runs_in_the_plain_interpreter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "slice.tflite"
    path.write_bytes(slice_model())
    x = np.arange(-8, 8, dtype=np.int8).reshape(1, 2, 2, 4)
    with FallbackEngine(path, delegation=Delegation("none")) as fallback:
        (out,) = fallback.run([x])
        assert fallback.report.delegate == "none"
        assert [(e.kind, e.delegate) for e in fallback.report.events] == [("refused", "XNNPACK")]
    np.testing.assert_array_equal(out, x[..., :2])


def slice_model() -> bytes:
    """An int8 SLICE whose output claims another scale than its input, which XNNPACK does not take."""
    graph = TfliteGraph(SMALL.path.read_bytes(), "slice")
    model, subgraph = graph.model, graph.model.subgraphs[0]

    def tensor(name: bytes, shape: list[int], kind: int, content: bytes | None, scale: float) -> int:
        entry, buffer = schema.TensorT(), schema.BufferT()
        entry.name, entry.shape, entry.type = name, np.array(shape, np.int32), kind
        entry.buffer = len(model.buffers)
        if content is not None:
            buffer.data = np.frombuffer(content, np.uint8)
        model.buffers.append(buffer)
        entry.quantization = schema.QuantizationParametersT()
        if scale:
            entry.quantization.scale, entry.quantization.zeroPoint = [scale], [0]
        subgraph.tensors.append(entry)
        return len(subgraph.tensors) - 1

    subgraph.tensors = []
    x = tensor(b"x", [1, 2, 2, 4], schema.TensorType.INT8, None, 0.5)
    begin = tensor(b"begin", [4], schema.TensorType.INT32, np.zeros(4, np.int32).tobytes(), 0)
    size = tensor(b"size", [4], schema.TensorType.INT32, np.array([1, 2, 2, 2], np.int32).tobytes(), 0)
    y = tensor(b"y", [1, 2, 2, 2], schema.TensorType.INT8, None, 0.25)
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SLICE
    code.version = 2
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [x, begin, size], [y]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SliceOptions, schema.SliceOptionsT()
    model.operatorCodes, model.signatureDefs = [code], None
    subgraph.operators, subgraph.inputs, subgraph.outputs = [operator], [x], [y]
    return graph.to_bytes()


def test_a_model_for_another_npu_is_one_clear_error(tmp_path: Path) -> None:
    graph = TfliteGraph(SMALL.path.read_bytes(), "custom")
    code = graph.model.operatorCodes[graph.model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"ethos-u"
    path = tmp_path / "compiled.tflite"
    path.write_bytes(graph.to_bytes())
    with pytest.raises(EngineError, match="has the custom operator 'ethos-u', which only the delegate"):
        FallbackEngine(path)


# What cannot be asked for


def test_wrong_names_and_libraries(npu: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no delegate 'nope'; there are: edgetpu, vx, .*given by its path"):
        FallbackEngine(SMALL.path, delegation=Delegation("nope"))
    with pytest.raises(EngineError, match=r"delegate 'edgetpu' \(Coral Edge TPU\) cannot be used: there is no library"):
        FallbackEngine(SMALL.path, delegation=Delegation("edgetpu"))
    with pytest.raises(EngineError, match="there is no library .*/none.so"):
        FallbackEngine(SMALL.path, delegation=Delegation(f"{tmp_path}/none.so"))
    foreign = tmp_path / "libforeign.so"
    content = bytearray(Path(npu).read_bytes())
    content[18:20] = (243).to_bytes(2, "little")  # what makes a library one for RISC-V
    foreign.write_bytes(content)
    with pytest.raises(EngineError, match=r"libforeign.so: is for riscv \(64 bit\), this Python is for "):
        FallbackEngine(SMALL.path, delegation=Delegation(str(foreign)))
    (tmp_path / "text.so").write_text("no library at all, only a text")
    with pytest.raises(EngineError, match="text.so: is not a shared library"):
        FallbackEngine(SMALL.path, delegation=Delegation(f"{tmp_path}/text.so"))


# Variants

VARIANT = "rfdcsanet-m-generic"


@pytest.fixture
def card(tmp_path: Path) -> Callable[..., Any]:
    """A copy of a shipped model whose card has a variant "npu"."""

    def make(variant: bytes, sha256: str | None = None, tolerance_lsb: float = 1.5) -> Any:
        source = shipped_models()[VARIANT]
        (tmp_path / f"{VARIANT}.tflite").write_bytes(source.with_suffix(".tflite").read_bytes())
        (tmp_path / "compiled.tflite").write_bytes(variant)
        digest = sha256 or hashlib.sha256(variant).hexdigest()
        text = source.read_text()
        assert "rms_lsb = 1.5\n" in text
        text = text.replace("rms_lsb = 1.5\n", f"rms_lsb = {tolerance_lsb}\n")
        text += f'\n[variants.npu.24x24]\nfile = "compiled.tflite"\nsha256 = "{digest}"\n'
        (tmp_path / f"{VARIANT}.toml").write_text(text)
        return find_model(str(tmp_path / f"{VARIANT}.toml"), None)

    return make


def fallback_of(card: Any, delegate: str = "npu") -> FallbackEngine:
    return FallbackEngine(
        card.path,
        threads=1,
        delegation=Delegation(delegate),
        limits=ParityLimits(card.agreement.rms_lsb, card.agreement.mean_lsb),
        variant=card.find_variant,
    )


def static(card: Any = SMALL, size: int = 12) -> bytes:
    graph = TfliteGraph(card.path.read_bytes(), card.name)
    graph.resize(size, size)
    return graph.to_bytes()


def test_a_delegate_gets_its_variant(card: Callable[..., Any], known_npu: Callable[..., None]) -> None:
    known_npu(models={"*": "npu"})
    with fallback_of(card(static())) as fallback:
        fallback.resize((1, 12, 12, 8))
        fallback.run(frame())
        assert fallback.report.delegate == "npu"


def test_a_variant_that_is_not_there_or_not_the_cards(card: Callable[..., Any], known_npu: Callable[..., None]) -> None:
    known_npu(models={"*": "other"})
    described = card(static())
    check_refused(described, "the model's card has no variant 'other' for .*edge-isp compile --npu other")
    known_npu(models={"*": "npu"})
    described = card(static(), sha256="0" * 64)
    check_refused(described, "compiled.tflite: is not the model that its card describes: expected SHA-256")
    described = card(static())
    (described.path.parent / "compiled.tflite").unlink()
    check_refused(described, "compiled.tflite: cannot be read: No such file")


def check_refused(card: Any, reason: str) -> None:
    """A bad variant is an error where its delegate is demanded; otherwise the CPU runs the model."""
    with fallback_of(card) as fallback:
        fallback.resize((1, 12, 12, 8))
        with pytest.raises((EngineError, ModelError), match=reason):
            fallback.run(frame())
    with fallback_of(card, "auto") as fallback:
        fallback.resize((1, 12, 12, 8))
        for seed in range(5):
            assert fallback.run(frame(seed=seed))[0].shape == (1, 12, 12, 12)
        assert fallback.settle(60)
        fallback.run(frame())
        assert kinds(fallback.report) == [("refused", "npu")]
        (refused,) = [event for event in fallback.report.events if event.kind == "refused"]
        assert re.search(reason, refused.reason)


def test_a_delegate_gets_the_variant_of_the_frames_size(
    card: Callable[..., Any], known_npu: Callable[..., None]
) -> None:
    """One variant per NPU meant one size of frames per card."""
    known_npu(models={"*": "npu"})
    described = card(static())
    folder = described.path.parent
    (folder / "larger.tflite").write_bytes(larger := static(size=16))
    digest = hashlib.sha256(larger).hexdigest()
    text = (folder / f"{VARIANT}.toml").read_text()
    (folder / f"{VARIANT}.toml").write_text(
        f'{text}\n[variants.npu.32x32]\nfile = "larger.tflite"\nsha256 = "{digest}"\n'
    )
    with fallback_of(find_model(str(folder / f"{VARIANT}.toml"), None)) as fallback:
        for size in (12, 16, 12):
            fallback.resize((1, size, size, 8))
            fallback.run([codes(size, size)])
            assert fallback.report.delegate == "npu"
        fallback.resize((1, 14, 14, 8))
        with pytest.raises(EngineError, match=r"no variant 'npu' for inputs of \(1, 14, 14, 8\)"):
            fallback.run([codes(14, 14)])


def test_a_variant_of_another_model(card: Callable[..., Any], known_npu: Callable[..., None]) -> None:
    known_npu(models={"*": "npu"})
    graph = TfliteGraph(static(), "scale")
    graph.tensors[graph.outputs[0]].quantization.scale = [0.02]
    with fallback_of(card(graph.to_bytes())) as fallback:
        fallback.resize((1, 12, 12, 8))
        with pytest.raises(
            ModelError, match="compiled.tflite: output must be int8 scale 0.0156863 .* is int8 scale 0.02"
        ):
            fallback.run(frame())
    with fallback_of(card(static(MIXED))) as fallback:
        fallback.resize((1, 12, 12, 8))
        with pytest.raises(
            ModelError, match="compiled.tflite: output must be .* is int8 scale 0.00392157 zero point -128"
        ):
            fallback.run(frame())


def test_the_card_says_how_far_a_delegate_may_be_off(card: Callable[..., Any], known_npu: Callable[..., None]) -> None:
    known_npu(models={"*": "npu"}, fail="invoke", how="wrong", offset="2")
    with fallback_of(card(static(), tolerance_lsb=2.1)) as fallback:
        fallback.resize((1, 12, 12, 8))
        fallback.run(frame())
        assert fallback.report.parity
        assert 1.5 < fallback.report.parity.rms_lsb <= 2
    with fallback_of(card(static())) as fallback, pytest.raises(EngineError, match="disagrees with the CPU"):
        fallback.resize((1, 12, 12, 8))
        fallback.run(frame())


def test_agreement_is_counted_in_steps() -> None:
    with FallbackEngine(SMALL.path, delegation=Delegation("none")) as fallback:
        (info,) = fallback.outputs
    a, b = np.zeros((2, 2), np.int8), np.array([[0, 0], [0, 2]], np.int8)
    agreement, other = compare([a], [b], [info]), compare([b], [a], [info])
    assert (agreement.outputs[0].mean_lsb, other.outputs[0].mean_lsb) == (-0.5, 0.5)
    assert (agreement.rms_lsb, agreement.max_lsb, agreement.equal) == (1.0, 2.0, 0.75)
