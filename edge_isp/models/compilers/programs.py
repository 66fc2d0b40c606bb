"""Vendors' compilers that are programs, by their documented commands. None of them could be run here."""

from __future__ import annotations

import re

from edge_isp.errors import ModelError
from edge_isp.models.compilers.base import Compiled, Job, find_program, run_program


def run_edgetpu(job: Job) -> Compiled:
    """Google's edgetpu_compiler, for Coral; see `Compiler.run`.

    Args:
        job: the model, a `.tflite`.

    Raises:
        ModelError: the compiler is not installed or fails.
    """
    program = find_program(job, "edgetpu_compiler", "https://coral.ai/docs/edgetpu/compiler says how, for x86-64")
    folder = job.source.parent
    output = run_program([program, "--show_operations", "--out_dir", str(folder), str(job.source)], folder)
    path = folder / f"{job.source.stem}_edgetpu.tflite"
    if not path.exists():
        raise ModelError(f"{program}: wrote no {path.name}")
    return Compiled(
        path,
        f"edgetpu_compiler {_found(r'Edge TPU Compiler version ([0-9.]+)', output) or ''}".strip(),
        operators_on_cpu=_whole(_found(r"Number of operations that will run on CPU: (\d+)", output)),
    )


def run_neutron(job: Job) -> Compiled:
    """NXP's neutron-converter of the eIQ Neutron SDK, for i.MX 95; see `Compiler.run`.

    Args:
        job: the model, a `.tflite`.

    Raises:
        ModelError: the compiler is not installed or fails.
    """
    program = find_program(job, "neutron-converter", "it is in NXP's eIQ Toolkit")
    path = job.source.with_name(f"{job.source.stem}_neutron.tflite")
    target = job.npu.removeprefix("neutron-")
    output = run_program(
        [program, "--input", str(job.source), "--output", str(path), "--target", target], job.source.parent
    )
    if not path.exists():
        raise ModelError(f"{program}: wrote no {path.name}")
    return Compiled(
        path,
        "neutron-converter",
        operators=_whole(_found(r"Number of operators (?:imported|after import)\s*[:=]?\s*(\d+)", output)),
        operators_on_cpu=_whole(_found(r"Number of operators NOT converted\s*[:=]?\s*(\d+)", output)),
    )


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)
