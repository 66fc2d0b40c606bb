"""What vendors' compilers and simulators make of the shipped models: docs/npu-measured.json, tables in docs/npu.md.

Two questions are asked of each model. Of Vela: which operators are left on the CPU, how much memory on the chip is
needed, and how fast it estimates the NPU. Of each simulator and accelerator that runs on this machine: whether it takes
the whole graph, and how far its outputs are from those of LiteRT on the CPU, on frames of the recording that ships and,
for detectors, on simulated frames of photographs. `scripts/test-npu` installs the tools and runs this.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.spec import demo_recording
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.engines.litert import LiteRtEngine
from edge_isp.errors import ModelError
from edge_isp.frame import RawFrame
from edge_isp.metering.meter import complete_frame
from edge_isp.models.card import ModelCard, read_card, shipped_models
from edge_isp.models.compilers.base import Job
from edge_isp.models.compilers.packages import run_rknn
from edge_isp.models.compilers.vela import vela
from edge_isp.models.export import Export, export_model
from edge_isp.results import Detections
from edge_isp.tasks.registry import task_for

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
BEGIN, END = "<!-- written by scripts/test-npu: begin -->", "<!-- written by scripts/test-npu: end -->"

# Accelerator, system configuration and memory mode, and what the table's column says. High_End has the DRAM of an
# i.MX 93 (3.5 GB/s), Client_Server 11 GB/s.
VELA = (
    ("ethos-u65-256", "Ethos_U65_High_End", "Dedicated_Sram_384KB", "U65-256, i.MX 93"),
    ("ethos-u65-256", "Ethos_U65_Client_Server", "Dedicated_Sram_384KB", "U65-256, fast DRAM"),
    ("ethos-u65-512", "Ethos_U65_High_End", "Dedicated_Sram_384KB", "U65-512"),
    ("ethos-u65-512", "Ethos_U65_Client_Server", "Dedicated_Sram_384KB", "U65-512, fast DRAM"),
    ("ethos-u85-1024", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB", "U85-1024"),
    ("ethos-u55-256", "Ethos_U55_High_End_Embedded", "Shared_Sram", "U55-256"),
)
ISP_SIZES, DETECTOR_SIZES = ((1280, 720), (1920, 1080)), ((320, 320), (416, 416), (640, 640))

# Of the frames that simulators run: they are slow.
ISP_SIZE, DETECTOR_SIZE = (416, 288), (416, 416)
RUNNERS = ("qnn", "rknn", "openvino", "litert")
TITLES = {
    "qnn": "QNN HTP simulator",
    "rknn": "RKNN simulator, rk3588",
    "openvino": "OpenVINO provider, CPU",
    "litert": "CompiledModel, Intel, CPU",
}
_SURE, _LEAST_OVERLAP = 0.4, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", type=Path, required=True, help="folder of the tools' virtual environments")
    parser.add_argument("--tool", action="append", choices=("vela", *RUNNERS), help="may be repeated; by default all")
    parser.add_argument("--model", action="append", help="name of a shipped model; may be repeated; by default all")
    parser.add_argument("--out", type=Path, default=DOCS / "npu-measured.json")
    parser.add_argument("--table", type=Path, default=DOCS / "npu.md", help="the page whose table is written")
    parser.add_argument(
        "--photographs",
        type=int,
        default=28,
        help="photographs that detectors see; QNN's simulator takes a minute each",
    )
    asked = parser.parse_args()
    names = asked.model or list(shipped_models())
    cards = [read_card(shipped_models()[name]) for name in names]
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {"estimates": [], "runs": []}
    tools = [tool for tool in asked.tool or ("vela", *RUNNERS) if (asked.venvs / tool / "bin/python").exists()]
    for tool in tools:
        for card in cards:
            print(f"{tool}: {card.name}", file=sys.stderr)
            if tool == "vela":
                entries = estimates(card, asked.venvs / "vela/bin/vela")
                found["estimates"] = [e for e in found["estimates"] if e["model"] != card.name] + entries
            else:
                run = compared(card, tool, asked.venvs / tool / "bin/python", asked.photographs)
                others = [r for r in found["runs"] if (r["model"], r["tool"]) != (card.name, tool)]
                found["runs"] = [*others, run]
                print(json.dumps(run), file=sys.stderr)
    found |= {"machine": platform.machine(), "date": datetime.now(UTC).date().isoformat()}
    found["runs"].sort(key=lambda run: (run["model"], RUNNERS.index(run["tool"])))
    found["estimates"].sort(key=lambda entry: (entry["model"], entry["size"]))
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    before, _, rest = asked.table.read_text().partition(BEGIN)
    asked.table.write_text(f"{before}{BEGIN}\n\n{tables(found)}\n{END}{rest.partition(END)[2]}")


# Estimates


def estimates(card: ModelCard, program: Path) -> list[dict[str, Any]]:
    """What Vela says of a model at each size on each NPU."""
    entries = []
    for size in ISP_SIZES if card.task == "isp" else DETECTOR_SIZES:
        with tempfile.TemporaryDirectory() as scratch:
            source = export_model(card, Path(scratch), Export("tflite", size=size))
            for npu, system, memory, _ in VELA:
                entry: dict[str, Any] = {
                    "model": card.name,
                    "sha256": card.sha256,
                    "size": f"{size[0]}x{size[1]}",
                    "npu": npu,
                }
                entry |= {"system": system, "memory": memory}
                folder = Path(scratch, f"{npu}-{system}")
                folder.mkdir()
                job = Job(npu, folder / source.name, program)
                job.source.write_bytes(source.read_bytes())
                try:
                    done = vela(job, system, memory)
                except ModelError as error:
                    entries.append(entry | {"problem": str(error)})
                    continue
                entries.append(
                    entry
                    | {
                        "tool": done.tool,
                        "frames_per_second": done.frames_per_second,
                        "on_chip_kib": round((done.on_chip_bytes or 0) / 1024, 1),
                        "operators": done.operators,
                        "operators_on_cpu": done.operators_on_cpu,
                        "file_bytes": done.path.stat().st_size,
                    }
                )
    return entries


# Runs


def compared(card: ModelCard, tool: str, python: Path, photographs: int) -> dict[str, Any]:
    """How far a tool's outputs are from those of the CPU, and what it leaves to the CPU."""
    frames = test_frames(card, photographs)
    inputs = [tensor for _, tensor in frames]
    run: dict[str, Any] = {"model": card.name, "sha256": card.sha256, "tool": tool, "frames": len(inputs)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            outputs, said = run_tool(card, tool, python, folder, inputs)
        except (ModelError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            return run | {"problem": reason.strip().splitlines()[-1][:300]}
    expected = on_cpu(card, inputs)
    run |= said | parity(card, outputs, expected)
    if card.task == "detector":
        run |= detections(card, frames, outputs, expected)
    return run


def test_frames(card: ModelCard, photographs: int) -> list[tuple[RawFrame, NDArray[np.int8]]]:
    """Frames and the model's inputs that they make: the recording that ships, and for detectors photographs."""
    with ReplayCamera(demo_recording()) as camera:
        frames = [frame for _ in range(1) if (frame := camera.read()) is not None]
        encoded = [encode(card, frame) for frame in frames]
    data = os.environ.get("EDGE_ISP_DATA")
    if card.task == "isp":
        rows, columns = card.input_size(*ISP_SIZE)
        return [(frame, crop(tensor, rows, columns)) for frame, tensor in encoded]
    if data is None:
        print("EDGE_ISP_DATA is not set: detections are compared on the recording that ships only", file=sys.stderr)
        return encoded
    for photo in sorted(Path(data, "coco/images/train2017").glob("*.jpg"))[-photographs:]:
        side = min(Image.open(photo).size) // 2 * 2
        if side < DETECTOR_SIZE[0]:
            continue
        with SyntheticCamera(photo, width=side, height=side, fps=None, frames=1) as camera:
            if (frame := camera.read()) is not None:
                encoded.append(encode(card, frame))
    return encoded


def encode(card: ModelCard, frame: RawFrame) -> tuple[RawFrame, NDArray[np.int8]]:
    task = task_for(card)
    complete = complete_frame(frame)
    tensor = np.zeros(task.input_shape(frame.format), np.int8)
    task.encode(complete, tensor)
    return complete, tensor


def crop(tensor: NDArray[np.int8], rows: int, columns: int) -> NDArray[np.int8]:
    """The middle of an input."""
    top, left = (tensor.shape[1] - rows) // 2, (tensor.shape[2] - columns) // 2
    return np.ascontiguousarray(tensor[:, top : top + rows, left : left + columns])


def on_cpu(card: ModelCard, inputs: Sequence[NDArray[np.int8]]) -> list[list[NDArray[np.int8]]]:
    with LiteRtEngine(card.path, threads=1, shape=inputs[0].shape) as engine:
        return [engine.run([tensor]) for tensor in inputs]


def run_tool(
    card: ModelCard, tool: str, python: Path, folder: Path, inputs: Sequence[NDArray[np.int8]]
) -> tuple[list[list[NDArray[np.int8]]], dict[str, Any]]:
    """A tool's outputs of each input, and what it says of itself."""
    size = ISP_SIZE if card.task == "isp" else DETECTOR_SIZE
    form = {"rknn": "onnx-nchw", "litert": "tflite"}.get(tool, "onnx")
    model = export_model(card, folder, Export(form, size=size))
    np.save(folder / "inputs.npy", np.stack(inputs))
    arguments = [str(model), str(folder / "inputs.npy"), str(folder / "outputs.npz")]
    said: dict[str, Any] = {}
    if tool == "rknn":
        compiled = run_rknn(Job("rknn-rk3588", model, python))
        said = {"nodes": compiled.operators, "on_cpu": compiled.operators_on_cpu}
        arguments = ["rk3588", *arguments]
    elif tool != "litert":
        arguments = [tool, *arguments]
    script = {"rknn": "run_rknn.py", "litert": "run_compiled_model.py"}.get(tool, "run_onnxruntime.py")
    done = subprocess.run(
        [str(python), "-I", str(HERE / script), *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("{")]  # simulators write much else
    said |= json.loads(answer)
    with np.load(folder / "outputs.npz") as archive:
        stacked = [archive[name] for name in archive.files]
    return [[values[place] for values in stacked] for place in range(len(inputs))], said


def parity(
    card: ModelCard, outputs: Sequence[Sequence[NDArray[np.int8]]], expected: Sequence[Sequence[NDArray[np.int8]]]
) -> dict[str, Any]:
    """Root mean square and mean difference of each output, in steps of its quantisation, and of all together."""
    rms, mean = [], []
    squares = values = 0.0
    for place in range(len(card.outputs)):
        found = np.stack([frame[place] for frame in outputs]).astype(np.float64)
        right = np.stack([frame[place] for frame in expected]).astype(np.float64)
        if found.shape != right.shape:
            return {"problem": f"output {place} is {found.shape[1:]}, expected {right.shape[1:]}"}
        difference = found - right
        squares, values = squares + float(np.square(difference).sum()), values + difference.size
        rms.append(round(float(np.sqrt(np.square(difference).mean())), 3))
        mean.append(round(float(difference.mean()), 3))
    return {"rms_lsb": round((squares / values) ** 0.5, 3), "rms_lsb_of_outputs": rms, "mean_lsb_of_outputs": mean}


def detections(
    card: ModelCard,
    frames: Sequence[tuple[RawFrame, NDArray[np.int8]]],
    outputs: Sequence[Sequence[NDArray[np.int8]]],
    expected: Sequence[Sequence[NDArray[np.int8]]],
) -> dict[str, Any]:
    """How many of the CPU's detections are found again: the same class, boxes that overlap by half."""
    task = task_for(card)
    counts = {"detections": 0, "found_again": 0, "sure_detections": 0, "sure_found_again": 0, "found_by_tool": 0}
    for (frame, tensor), found, right in zip(frames, outputs, expected, strict=True):
        ours, theirs = task.decode(right, frame, tensor), task.decode(found, frame, tensor)
        assert isinstance(ours, Detections)
        assert isinstance(theirs, Detections)
        counts["found_by_tool"] += len(theirs.xyxy)
        for box, label, confidence in zip(ours.xyxy, ours.class_id, ours.confidence, strict=True):
            again = any(
                other == label and overlap(box, candidate) >= _LEAST_OVERLAP
                for candidate, other in zip(theirs.xyxy, theirs.class_id, strict=True)
            )
            counts["detections"] += 1
            counts["found_again"] += again
            counts["sure_detections"] += bool(confidence > _SURE)
            counts["sure_found_again"] += bool(confidence > _SURE) and again
    return counts


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared)


# Tables


def tables(found: dict[str, Any]) -> str:
    lines = []
    estimated = [column for column in VELA if column[0] != "ethos-u55-256"]
    by_key: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for entry in found["estimates"]:
        by_key.setdefault((entry["model"], entry["size"]), {})[entry["npu"], entry["system"]] = entry
    if by_key:
        tool = next(e["tool"] for e in found["estimates"] if "tool" in e)
        lines += [f"Estimated frames per second, by {tool}; not measured on hardware:", ""]
        lines.append(
            f"| model | frame | operators on the CPU | {' | '.join(c[3] for c in estimated)} | SRAM on U55-256, MiB |"
        )
        lines.append(f"|---|---|---|{'---|' * (len(estimated) + 1)}")
        for (model, size), entries in by_key.items():
            rates = [entries.get((npu, system), {}) for npu, system, _, _ in estimated]
            on_cpu_count = max((e.get("operators_on_cpu", 0) for e in entries.values()), default=0)
            u55 = entries.get(("ethos-u55-256", "Ethos_U55_High_End_Embedded"), {})
            cells = [f"{rate['frames_per_second']:.1f}" if "frames_per_second" in rate else "fails" for rate in rates]
            sram = f"{u55['on_chip_kib'] / 1024:.1f}" if "on_chip_kib" in u55 else "fails"
            lines.append(f"| `{family(model)}` | {size} | {on_cpu_count} | {' | '.join(cells)} | {sram} |")
        lines.append("")
    if found["runs"]:
        lines += [
            f"Run on {found['machine']} ({found['date']}): operators that the tool took, difference from LiteRT on the "
            "CPU in steps of the output (rms), and for detectors which of the CPU's detections were found again, above "
            "a confidence of 0.4 and in all:",
            "",
            f"| model | {' | '.join(TITLES.values())} |",
            f"|---|{'---|' * len(TITLES)}",
        ]
        for model in dict.fromkeys(run["model"] for run in found["runs"]):
            cells = []
            for tool in TITLES:
                runs = [r for r in found["runs"] if (r["model"], r["tool"]) == (model, tool)]
                cells.append(run_cell(runs[0]) if runs else "not run")
            lines.append(f"| `{family(model)}` | {' | '.join(cells)} |")
        lines.append("")
        versions = {name: number for run in found["runs"] for name, number in run.get("versions", {}).items()}
        lines += [f"Versions: {', '.join(f'{name} {number}' for name, number in sorted(versions.items()))}.", ""]
    return "\n".join(lines)


def run_cell(run: dict[str, Any]) -> str:
    if "problem" in run:
        return "fails"
    taken = f"{run['nodes'] - run['on_cpu']} of {run['nodes']}" if run["on_cpu"] is not None else "a part"
    cell = f"{taken}, {run['rms_lsb']:.2f}"
    if "detections" in run:
        cell += f", {run['sure_found_again']} of {run['sure_detections']}, {run['found_again']} of {run['detections']}"
    return cell


def family(model: str) -> str:
    return model.rpartition("-")[0]


if __name__ == "__main__":
    main()
