"""Compiling for NPUs, over stand-ins for the vendors' programs: what is stored, what is refused.

`scripts/test-npu` runs the real compilers.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_isp.cli.main import app
from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard, find_model, read_card, shipped_models
from edge_isp.models.compile import compile_model
from edge_isp.models.compilers.packages import ANSWER
from edge_isp.models.compilers.table import COMPILERS, find_compiler

NAME = "rfdcsanet-t-generic"
NPU = "ethos-u65-256"
SIZE = (64, 48)
SHAPE = (1, 12, 16, 20)

VELA = """
import pathlib, shutil, sys
if "--version" in sys.argv:
    print("5.2.0")
    sys.exit()
source = pathlib.Path(sys.argv[1])
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder = pathlib.Path(options["--output-dir"])
folder.mkdir()
print("CPU operators = {on_cpu} (0.0%)")
print("NPU operators = {on_npu} (100.0%)")
system = options["--system-config"]
(folder / (source.stem + "_summary_" + system + ".csv")).write_text(
    "inferences_per_second,sram_memory_used\\n{rate},{sram_kib}\\n"
)
model = source.read_bytes()
(folder / (source.stem + "_vela.tflite")).write_bytes(model{change})
"""

Tool = Callable[..., Path]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Writes a program in Python; its path."""

    def write(text: str, name: str = "vela") -> Path:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
        path.chmod(0o755)
        return path

    return write


def vela(*, rate: float = 30.6, sram_kib: float = 366, on_cpu: int = 0, on_npu: int = 9, change: str = "") -> str:
    return VELA.format(rate=rate, sram_kib=sram_kib, on_cpu=on_cpu, on_npu=on_npu, change=change)


@pytest.fixture
def own(tmp_path: Path) -> ModelCard:
    """A model of one's own."""
    folder = tmp_path / "own"
    folder.mkdir()
    source = shipped_models()[NAME]
    shutil.copy(source.with_suffix(".tflite"), folder)
    text = source.read_text().partition("\n[variants.")[0] + "\n"
    (folder / source.name).write_text(text)
    return read_card(folder / source.name)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_variant_stands_beside_its_model_and_in_its_card(own: ModelCard, tool: Tool) -> None:
    folder = own.path.parent
    before = (folder / f"{NAME}.toml").read_text()
    done = compile_model(own, NPU, size=SIZE, program=tool(vela()))
    assert done.path == folder / f"{NAME}-{NPU}-64x48.tflite"
    assert files(folder) == {f"{NAME}.toml", f"{NAME}.tflite", done.path.name}
    card = read_card(done.card)
    assert card.find_variant(NPU, SHAPE) == done.path
    assert card.find_variant(NPU, (1, 16, 16, 20)) is None
    assert card.document["variants"][NPU]["64x48"] == {
        "file": done.path.name,
        "sha256": card.variants[0].sha256,
        "model_sha256": own.sha256,
        "compiler": "ethos-u-vela 5.2.0",
        "estimated_frames_per_second": 30.6,
        "on_chip_bytes": 366 * 1024,
    }
    assert (folder / f"{NAME}.toml").read_text().startswith(before)  # comments and all


def test_a_variant_of_another_model_is_not_used(own: ModelCard, tool: Tool) -> None:
    """A model that was trained again leaves variants behind that compute something else."""
    done = compile_model(own, NPU, size=SIZE, program=tool(vela()))
    text = done.card.read_text().replace(f'\nsha256 = "{own.sha256}"', f'\nsha256 = "{"0" * 64}"')
    done.card.write_text(text)
    with pytest.raises(ModelError, match=f"64x48.tflite: was compiled of another model than {NAME}.tflite.*again"):
        read_card(done.card).find_variant(NPU, SHAPE)


def test_another_size_is_added_and_the_same_one_replaced(own: ModelCard, tool: Tool) -> None:
    program = tool(vela())
    for size in (SIZE, (128, 96), SIZE):
        card = read_card(compile_model(own, NPU, size=size, program=program).card)
    assert [variant.size_name for variant in card.variants] == ["128x96", "64x48"]
    compile_model(card, NPU, size=SIZE, program=tool(vela(rate=12.5)))
    entry = read_card(own.path.with_suffix(".toml")).document["variants"][NPU]["64x48"]
    assert entry["estimated_frames_per_second"] == 12.5


def test_a_shipped_model_is_compiled_into_the_folder_of_models(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    monkeypatch.setenv("EDGE_ISP_MODELS", str(folder))
    shipped = find_model("rfdcsanet-t", None)
    compile_model(shipped, NPU, size=SIZE, program=tool(vela()))
    card = find_model("rfdcsanet-t", None)
    assert card.path.parent == folder
    assert card.find_variant(NPU, SHAPE) == folder / f"{NAME}-{NPU}-64x48.tflite"
    assert set(shipped.variants) <= {
        v for v in shipped.variants if v.path.parent == shipped.path.parent
    }  # nothing was written into the package
    compile_model(shipped, NPU, size=(128, 96), program=tool(vela()))  # the folder's card keeps what it has
    sizes = {variant.size_name for variant in find_model("rfdcsanet-t", None).variants}
    assert {"64x48", "128x96"} <= sizes


def test_the_variants_of_a_shipped_card_come_along(tool: Tool, tmp_path: Path) -> None:
    shipped = find_model("rfdcsanet-t", None)
    done = compile_model(shipped, NPU, size=SIZE, folder=tmp_path / "out", program=tool(vela()))
    card = read_card(done.card)
    assert {v.size_name for v in card.variants} == {"64x48", *(v.size_name for v in shipped.variants)}
    for file, _ in card.checksums.items():
        assert file.exists()


def test_another_release_in_the_folder_is_not_overwritten(own: ModelCard, tool: Tool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    text = own.path.with_suffix(".toml").read_text().replace(own.sha256, "0" * 64)
    (out / f"{NAME}.toml").write_text(text)
    with pytest.raises(ModelError, match=f"{NAME}.toml: is the card of another model or release; remove it"):
        compile_model(own, NPU, size=SIZE, folder=out, program=tool(vela()))
    assert files(out) == {f"{NAME}.toml"}


@pytest.mark.parametrize(
    ("npu", "text", "message"),
    [
        (NPU, vela(sram_kib=385), r"at 64x48 does not fit on ethos-u65-256: it needs 385 KiB .*, which has 384 KiB"),
        ("ethos-u55-256", vela(sram_kib=29_000), "does not fit on ethos-u55-256: it needs 29000 KiB .* 2048 KiB"),
        (NPU, vela(on_cpu=9, on_npu=0), "ethos-u65-256 takes none of its 9 operators"),
        (NPU, vela(change="[:-4]"), "the compiler wrote no .tflite of one graph"),
        (NPU, "import sys; print('no such operator'); sys.exit(3)", r"(?s)vela: cannot compile .*status 3.*no such op"),
        (NPU, "print('ok')", "wrote no model or no summary"),
    ],
)
def test_what_does_not_fit_or_fails_is_not_stored(
    npu: str, text: str, message: str, own: ModelCard, tool: Tool
) -> None:
    before = files(own.path.parent)
    with pytest.raises(ModelError, match=message):
        compile_model(own, npu, size=SIZE, program=tool(text))
    assert files(own.path.parent) == before
    assert read_card(own.path.with_suffix(".toml")).variants == ()


def test_a_compiler_that_changes_the_models_numbers(own: ModelCard, tool: Tool, tmp_path: Path) -> None:
    from edge_isp.models.tflite_graph import TfliteGraph

    graph = TfliteGraph(own.path.read_bytes(), "other")
    graph.resize(12, 16)
    graph.tensors[graph.outputs[0]].quantization.scale = [0.5]
    (tmp_path / "other.tflite").write_bytes(graph.to_bytes())
    text = vela(change=f" and pathlib.Path({str(tmp_path / 'other.tflite')!r}).read_bytes()")
    with pytest.raises(ModelError, match="the compiler of ethos-u65-256 changed the model's inputs and outputs"):
        compile_model(own, NPU, size=SIZE, program=tool(text))


def test_coral_has_8_mb_for_activations(own: ModelCard) -> None:
    """edgetpu_compiler compiles what does not fit, and such a model is slow or fails."""
    with pytest.raises(ModelError, match="at 1280x720 does not fit on edgetpu: it needs .* KiB .* has 8192 KiB"):
        compile_model(own, "edgetpu", size=(1280, 720))
    if shutil.which("edgetpu_compiler") is None:
        with pytest.raises(ModelError, match="'edgetpu_compiler' is needed, which is not installed: .*--compiler PATH"):
            compile_model(own, "edgetpu", size=(320, 240))


def test_coral_by_its_documented_command(own: ModelCard, tool: Tool) -> None:
    program = tool(
        """
        import pathlib, sys
        assert sys.argv[1:3] == ["--show_operations", "--out_dir"]
        source = pathlib.Path(sys.argv[4])
        target = pathlib.Path(sys.argv[3], source.stem + "_edgetpu.tflite")
        target.write_bytes(source.read_bytes())
        print("Edge TPU Compiler version 16.0.384591198")
        print("Number of operations that will run on CPU: 2")
        """
    )
    done = compile_model(own, "edgetpu", size=SIZE, program=program)
    assert (done.compiled.tool, done.compiled.operators_on_cpu) == ("edgetpu_compiler 16.0.384591198", 2)
    assert read_card(done.card).find_variant("edgetpu", SHAPE) == done.path


def test_neutron_by_its_documented_command(own: ModelCard, tool: Tool) -> None:
    program = tool(
        """
        import pathlib, sys
        options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
        assert options["--target"] == "imx95"
        pathlib.Path(options["--output"]).write_bytes(pathlib.Path(options["--input"]).read_bytes())
        """
    )
    done = compile_model(own, "neutron-imx95", size=SIZE, program=program)
    assert read_card(done.card).find_variant("neutron-imx95", SHAPE) == done.path


def test_a_python_without_the_vendors_package(own: ModelCard) -> None:
    with pytest.raises(
        ModelError, match="the Python package 'rknn-toolkit2' is needed, which .*python.* does not have"
    ):
        compile_model(own, "rknn-rk3588", size=SIZE, program=Path(sys.executable))


def test_rockchips_compiler_gets_int8_nchw(own: ModelCard, tool: Tool) -> None:
    """It takes NHWC exports for NCHW, whose picture is then a mixture of channels and columns."""
    program = tool(
        f"""
        import json, pathlib, sys
        import onnx
        source, target, soc = sys.argv[3:]
        assert sys.argv[1] == "-I" and sys.argv[2].endswith("build_rknn.py") and soc == "rk3588"
        graph = onnx.load(source).graph
        shapes = [[d.dim_value for d in t.type.tensor_type.shape.dim] for t in (*graph.input, *graph.output)]
        assert shapes == [[1, 20, 12, 16], [1, 48, 12, 16]], shapes
        assert all(t.type.tensor_type.elem_type == onnx.TensorProto.INT8 for t in (*graph.input, *graph.output))
        assert not any(node.op_type == "Transpose" for node in graph.node)
        pathlib.Path(target).write_bytes(b"compiled")
        print("{ANSWER}" + json.dumps({{"tool": "rknn-toolkit2 0", "operators": 9, "operators_on_cpu": 1}}))
        """
    )
    done = compile_model(own, "rknn-rk3588", size=SIZE, program=program)
    assert done.path.read_bytes() == b"compiled"
    assert (done.compiled.operators, done.compiled.operators_on_cpu) == (9, 1)


def test_every_size_for_execution_providers(own: ModelCard) -> None:
    done = compile_model(own, "onnx")
    card = read_card(done.card)
    assert done.path.name == f"{NAME}-onnx-any.onnx"
    assert card.find_variant("onnx", SHAPE) == card.find_variant("onnx", (1, 1, 1, 20)) == done.path


@pytest.mark.parametrize(
    ("npu", "size", "message"),
    [
        ("ethosu65-256", SIZE, "no NPU 'ethosu65-256'; there are: onnx, .*; did you mean 'ethos-u65-256'?"),
        ("hailo8", SIZE, "'hailo8': Hailo's Dataflow Compiler .* docs/npu.md says how it is done by hand"),
        ("tidl", SIZE, "'tidl': TI's compiler writes a folder"),
        (NPU, None, "compiled for ethos-u65-256 for one size of frames, such as 1280x720: give its size"),
        (NPU, (63, 48), "size must be even"),
    ],
)
def test_what_cannot_be_compiled(npu: str, size: tuple[int, int] | None, message: str, own: ModelCard) -> None:
    with pytest.raises(ModelError, match=message):
        compile_model(own, npu, size=size)


def test_a_compiler_that_cannot_be_run(own: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "text").touch(mode=0o644)
    with pytest.raises(ModelError, match="text: is no program that can be run; it must be vela"):
        compile_model(own, NPU, size=SIZE, program=tmp_path / "text")


def test_names_are_unique_and_every_delegates_variant_can_be_had() -> None:
    from edge_isp.engines.delegates import DELEGATES

    names = [compiler.npu for compiler in COMPILERS]
    assert len(set(names)) == len(names)
    by_hand = {"tflite", "hailo", "tidl"}
    for spec in DELEGATES:
        for wanted in spec.models.values():
            if wanted not in by_hand:
                assert find_compiler(wanted).variant in ("", wanted)


def test_the_command_says_the_estimate_and_what_was_not_verified(
    own: ModelCard, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tool(vela(on_cpu=2, on_npu=7))
    model = own.path.with_suffix(".toml")
    arguments = ["--model", str(model), "--size", "64x48", "--compiler", str(program)]
    result = CliRunner().invoke(app, ["compile", "--npu", NPU, *arguments])
    assert result.exit_code == 0, result.output
    assert "estimated 30.6 frames/s, 366 KiB of memory on the chip, 2 of 9 operators on the CPU" in result.output
    assert "not verified" not in result.output
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    result = CliRunner().invoke(app, ["compile", "--npu", NPU, "--model", str(model), "--size", "128x96"])
    assert result.exit_code == 0, result.output
    neutron = tool(
        "import pathlib, sys; a = sys.argv; pathlib.Path(a[4]).write_bytes(pathlib.Path(a[2]).read_bytes())", "neutron"
    )
    arguments[-1] = str(neutron)
    result = CliRunner().invoke(app, ["compile", "--npu", "neutron-imx95", *arguments])
    assert "not verified" in result.output
