"""Arm's Vela, for Ethos-U: a `.tflite` whose operators are one command stream for the NPU.

A model is compiled twice, as it is and arranged for Ethos-U (`models.ethos_u`), which computes the same. The one that
Vela estimates to be faster is kept.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace

from edge_isp.errors import ModelError
from edge_isp.models.compilers.base import Compiled, Job, find_program, run_program
from edge_isp.models.ethos_u import arrange_for_ethos_u

# System configuration and memory mode, both of the file vela.ini that Vela brings. An i.MX 93 has an Ethos-U65-256 at
# 1 GHz and DRAM of 3.5 GB/s, which is "High_End", and 384 KiB of SRAM for the NPU. A microcontroller with an Ethos-U55
# keeps activations in SRAM.
_SYSTEMS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_High_End", "Dedicated_Sram_384KB"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}


def run_vela(job: Job) -> Compiled:
    """Compiles a model; see `Compiler.run`.

    Args:
        job: whose NPU is one of Vela's accelerator configurations.

    Raises:
        ModelError: Vela is not installed or fails.
    """
    system, memory = _SYSTEMS[job.npu.rpartition("-")[0]]
    return vela(job, system, memory)


def vela(job: Job, system: str, memory: str) -> Compiled:
    """Compiles a model for a system of one's own choice.

    Args:
        job: see `run_vela`.
        system: name of the system configuration.
        memory: name of the memory mode.

    Raises:
        ModelError: Vela is not installed or fails.
    """
    program = find_program(job, "vela", "pip install ethos-u-vela")
    as_it_is = _compiled(program, job, system, memory)
    arranged = job.source.parent / "arranged" / job.source.name
    arranged.parent.mkdir()
    arranged.write_bytes(arrange_for_ethos_u(job.source.read_bytes(), job.source.name))
    other = _compiled(program, replace(job, source=arranged), system, memory)
    return max(as_it_is, other, key=lambda compiled: compiled.frames_per_second or 0.0)


def _compiled(program: str, job: Job, system: str, memory: str) -> Compiled:
    folder = job.source.parent / "vela"
    output = run_program(
        [
            *(program, str(job.source), "--accelerator-config", job.npu, "--config", "Arm/vela.ini"),
            *("--system-config", system, "--memory-mode", memory, "--output-dir", str(folder)),
        ],
        job.source.parent,
    )
    path = folder / f"{job.source.stem}_vela.tflite"
    summary = folder / f"{job.source.stem}_summary_{system}.csv"
    counts = {target: re.search(rf"^{target} operators = (\d+)", output, re.MULTILINE) for target in ("CPU", "NPU")}
    if not path.exists() or not summary.exists() or not all(counts.values()):
        raise ModelError(f"{program}: wrote no model or no summary; is it a Vela of another kind than version 4 or 5?")
    with summary.open(newline="") as file:
        figures = next(csv.DictReader(file))
    on_cpu, on_npu = (int(found[1]) for found in counts.values() if found)
    return Compiled(
        path,
        f"ethos-u-vela {run_program([program, '--version'], folder).split()[-1]}",
        float(figures["inferences_per_second"]),
        round(1024 * float(figures["sram_memory_used"])),
        on_cpu + on_npu,
        on_cpu,
    )
