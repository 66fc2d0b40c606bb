"""Vendors' compilers that are Python packages: a program of ours runs in the Python that has the package.

Those packages need other versions of NumPy and ONNX Runtime than edge_isp may have, so that they live in a virtual
environment of their own, which `--compiler` names by its Python.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edge_isp.errors import ModelError
from edge_isp.models.compilers.base import Compiled, Job, find_program, run_program

_PROGRAMS = Path(__file__).parent / "elsewhere"

# Of the program's line that holds its answer.
ANSWER = "edge-isp-answer: "

# Exit status of the programs where the package is not installed.
_NOT_INSTALLED = 77


def run_rknn(job: Job) -> Compiled:
    """Rockchip's rknn-toolkit2; see `Compiler.run`.

    Args:
        job: the model, an `.onnx` of int8 NCHW.

    Raises:
        ModelError: the package is not installed or fails.
    """
    path = job.source.with_suffix(".rknn")
    answer = _run(job, "build_rknn.py", "rknn-toolkit2", str(path), job.npu.removeprefix("rknn-"))
    return Compiled(path, answer["tool"], None, None, answer["operators"], answer["operators_on_cpu"])


def run_qnn(job: Job) -> Compiled:
    """Qualcomm's compiler in onnxruntime-qnn: an `.onnx` of one node, whose content is a context binary.

    Args:
        job: the model, an `.onnx`.

    Raises:
        ModelError: the package is not installed, fails, or leaves any node to the CPU.
    """
    path = job.source.with_name(f"{job.source.stem}_context.onnx")
    answer = _run(job, "write_qnn_context.py", "onnxruntime-qnn", str(path), job.npu.removeprefix("qnn-v"))
    return Compiled(path, answer["tool"], None, None, answer["operators"], 0)


def run_openvino(job: Job) -> Compiled:
    """Proves that OpenVINO takes the whole of a model, which it compiles anew whenever it is loaded.

    Args:
        job: the model, an `.onnx`.

    Raises:
        ModelError: the package is not installed, fails, or leaves any node to the CPU's kernels.
    """
    answer = _run(job, "try_openvino.py", "onnxruntime-openvino")
    return Compiled(job.source, answer["tool"], None, None, answer["operators"], 0)


def _run(job: Job, name: str, package: str, *arguments: str) -> Any:
    python = sys.executable if job.program is None else find_program(job, "a Python", "")
    command = [python, "-I", str(_PROGRAMS / name), str(job.source), *arguments]
    try:
        output = run_program(command, job.source.parent)
    except ModelError as error:
        if f"(exit status {_NOT_INSTALLED})" in str(error):
            raise ModelError(
                f"to compile for {job.npu}, the Python package '{package}' is needed, which {python} does not have: "
                f"install it into a virtual environment of its own, and name its Python with --compiler PATH"
            ) from error
        raise
    answers = [line.removeprefix(ANSWER) for line in output.splitlines() if line.startswith(ANSWER)]
    if len(answers) != 1:
        raise ModelError(f"{python}: '{package}' ended without an answer")
    return json.loads(answers[0])
