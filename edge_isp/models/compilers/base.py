"""What a vendor's compiler is, what it is asked and what it answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_isp.errors import ModelError

# The slowest takes a minute for the largest shipped model at 1920x1080.
_LIMIT_S = 3600
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a compiler.

    Attributes:
        npu: that it is for, see `Compiler`.
        source: the path of the exported model, in a folder that the compiler may write into.
        program: the compiler, or the Python that has its package; None to look for it.
    """

    npu: str
    source: Path
    program: Path | None


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiler made, and what it says of it.

    Attributes:
        path: of the compiled file.
        tool: the compiler and its version ("ethos-u-vela 5.2.0").
        frames_per_second: that it estimates; None where it does not.
        on_chip_bytes: memory on the chip that the model needs; None where the compiler does not say.
        operators: the number of operators that are left to run; None where it is not known.
        operators_on_cpu: the number of those that the NPU does not take.
    """

    path: Path
    tool: str
    frames_per_second: float | None = None
    on_chip_bytes: int | None = None
    operators: int | None = None
    operators_on_cpu: int | None = None


@dataclass(frozen=True, slots=True)
class Compiler:
    """How models are compiled for one NPU.

    Attributes:
        npu: name of the NPU, which `--npu` takes and under which cards keep what was compiled.
        title: of the hardware, for people.
        format: that the compiler reads, see `Export`.
        suffix: of the file that it writes, with the dot.
        run: runs it.
        on_chip_bytes: memory on the chip that must be enough for what the compiler says; None for any.
        activation_bytes: memory on the chip that all activations must fit into, as edge_isp counts them, for a compiler
            that does not say; None for any.
        variant: the name under which cards keep the file, where it is not the NPU's.
        verified: what was seen of the compiler and of its result; "" where nothing was.
    """

    npu: str
    title: str
    format: str
    suffix: str
    run: Callable[[Job], Compiled]
    on_chip_bytes: int | None = None
    activation_bytes: int | None = None
    variant: str = ""
    verified: str = ""


def find_program(job: Job, name: str, install: str) -> str:
    """The path of a compiler's program.

    Args:
        job: that may name it.
        name: of the program.
        install: how it is installed.

    Raises:
        ModelError: it is not installed.
    """
    if job.program is not None:
        if not os.access(job.program, os.X_OK) or job.program.is_dir():
            raise ModelError(f"{job.program}: is no program that can be run; it must be {name}")
        return str(job.program)
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise ModelError(
            f"to compile for {job.npu}, the program '{name}' is needed, which is not installed: {install}; or name it "
            "with --compiler PATH"
        )
    return found


def run_program(command: Sequence[str], folder: Path) -> str:
    """Runs a compiler; what it wrote on standard output and standard error.

    Args:
        command: the program and its arguments.
        folder: that it runs in.

    Raises:
        ModelError: it cannot be started, fails, or does not end within an hour.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # another Python's
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_S,
            check=False,
        )
    except OSError as error:
        raise ModelError(f"{command[0]}: cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{command[0]}: did not end within {_LIMIT_S} s") from error
    output = done.stdout.decode("utf-8", errors="replace")
    if done.returncode != 0:
        lines = [line.rstrip() for line in output.splitlines() if line.strip()]
        raise ModelError(
            f"{command[0]}: cannot compile this model (exit status {done.returncode}):\n"
            + "\n".join(lines[-_SHOWN_LINES:])
        )
    return output
