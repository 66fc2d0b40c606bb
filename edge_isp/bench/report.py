"""The report of a benchmark, schema version 1: what is written, read back and published.

Durations are integers in nanoseconds, or floats where they are statistics. What is not known is null, never 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from edge_isp.errors import BenchError, shortened
from edge_isp.files import read_file

SCHEMA_VERSION = 1
PERCENTILES = "numpy linear"

_LARGEST_FILE_BYTES = 1 << 24

_Document = TypeVar("_Document")


class _Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A part of the report; unknown fields are an error."""


class Host(_Part):
    """The machine. `freq_khz` is the lowest and the highest clock of all CPUs that the governor may set."""

    board: str | None
    soc: str | None
    arch: str
    cpu_count: int
    kernel: str
    governor: str | None
    freq_khz: tuple[int, int] | None
    mem_total_bytes: int | None
    os: str | None


class Runtime(_Part):
    """What runs the model. `sha256` is that of its shared library `lib`, where it is known."""

    name: str
    version: str | None
    lib: str | None = None
    sha256: str | None = None


class Delegate(_Part):
    """The delegate that runs nodes of the graph in place of the runtime's own kernels.

    `sha256` is that of its shared library `lib`; all three are null where the delegate is a part of the runtime.
    """

    name: str
    lib: str | None
    sha256: str | None
    version: str | None = None


class Software(_Part):
    """Versions. `git_commit` of a checkout that edge_isp runs from."""

    edge_isp: str
    python: str
    numpy: str
    numba: str
    runtime: Runtime | None
    delegate: Delegate | None
    git_commit: str | None


class CameraMode(_Part):
    """The camera. `requested_fps` is null where frames came as fast as they were read."""

    backend: str
    model: str | None
    mode: str
    bayer: str
    bit_depth: int
    packing: str
    requested_fps: float | None
    buffer_count: int | None


class ModelFile(_Part):
    """The network. `nodes_delegated` of `nodes_total` nodes run in the delegate, where the engine reports them."""

    name: str
    sha256: str
    input_shape: list[int]
    dtype: str
    quant: str
    nodes_total: int | None
    nodes_delegated: int | None


class Settings(_Part):
    """The plan: at least `frames` and `duration_s`, after at least `warmup` frames and `warmup_s` seconds."""

    warmup: int
    warmup_s: float
    frames: int
    duration_s: float
    policy: str | None
    threads: int | None
    pinned: list[int] | None
    seed: int


class Distribution(_Part):
    """Statistics of one quantity over all frames after the warm-up; `first` is the value of the very first frame."""

    name: str
    unit: Literal["ns"]
    n: int
    mean: float
    std: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float
    first: float | None


class Rates(_Part):
    """Frames per second: of the sensor by its time stamps, of the camera, of the model, and delivered."""

    sensor_fps: float | None
    captured_fps: float | None
    processed_fps: float | None
    delivered_fps: float | None


class Intervals(_Part):
    """Intervals between two results. Frames are early, late or very late where their interval is below 0.9, above 1.1
    or above 1.9 of the median; `mad` is the median absolute deviation from the median."""

    p50: float
    p95: float
    p99: float
    mad: float
    early: int
    late: int
    very_late: int


class Latency(_Part):
    """From the start of exposure to the delivery of the result."""

    clock: Literal["sensor_monotonic"]
    e2e: Distribution


class Drops(_Part):
    """Frames that were lost. `unexplained` counts those that no event explains: any is an error of edge_isp."""

    total: int
    by_cause: dict[str, int]
    unexplained: int


class Resources(_Part):
    """Resources of the process. `rss_growth_bytes` is the highest resident memory after the first minute less that at
    its end; null for shorter runs. `cpu_percent` is in percent of one CPU. `rss_init_bytes` is what loading the runtime
    and the model, and the first inference, added to the resident memory of this process and the engine's own."""

    rss_start_bytes: int | None
    rss_end_bytes: int | None
    rss_peak_bytes: int | None
    rss_growth_bytes: int | None
    cpu_percent: float
    load_avg: float | None
    rss_init_bytes: int | None = None


class OperatorTime(_Part):
    """The nodes of one operator, as the runtime's profiler has timed them: their number in the graph, what runs them,
    and their nanoseconds together per inference."""

    operator: str
    executor: str
    nodes: int
    ns: float


class Throttled(_Part):
    """Whether the machine is throttled at the end, and has been since it started; `raw` is a word of flags as the
    firmware of a Raspberry Pi reports it."""

    now: bool
    occurred: bool
    raw: str


class Thermal(_Part):
    """Temperatures of the hottest sensor of the machine, in degrees Celsius."""

    start_c: float | None
    end_c: float | None
    max_c: float | None
    samples: int
    throttled: Throttled | None


class Energy(_Part):
    """What a meter of the machine counted; `source` is "none" where it has no meter."""

    source: str
    joules: float | None
    j_per_frame: float | None


class Overhead(_Part):
    """The whole pipeline and its bare engine, in turns in one process: the median rates of the rounds, with frames as
    fast as they are taken. `share` is the median of the rounds' ratios. CPU seconds are those of the whole process;
    other programs disturb them less than rates."""

    rounds: int
    engine_fps: float
    pipeline_fps: float
    share: float
    engine_cpu_s_per_frame: float
    pipeline_cpu_s_per_frame: float


class Baseline(_Part):
    """Another implementation, in a process of its own, in turns with the others: medians over the rounds.

    `rss_above_imports_bytes` is the highest resident memory less that after the imports. `skipped` says why there are
    no figures.
    """

    name: str
    makes: str
    rounds: int
    fps: float | None
    latency_p50_ns: float | None
    latency_p95_ns: float | None
    cpu_s_per_frame: float | None
    rss_above_imports_bytes: int | None
    rss_peak_bytes: int | None
    skipped: str | None


class Report(_Part):
    """What `edge-isp bench model`, `pipeline` and `soak` write. The key `peers` holds the baselines."""

    schema_version: Literal[1]
    kind: Literal["model", "pipeline", "soak"]
    started_utc: str
    duration_s: float
    percentiles: Literal["numpy linear"]
    host: Host
    software: Software
    camera: CameraMode | None
    model: ModelFile
    settings: Settings
    init_ns: int
    stages: list[Distribution]
    waits: list[Distribution]
    rates: Rates
    intervals: Intervals | None
    latency: Latency | None
    drops: Drops
    errors: int
    reconnects: int
    resources: Resources
    thermal: Thermal
    energy: Energy
    quality: dict[str, float] | None
    overhead: Overhead | None
    baselines: list[Baseline] | None = msgspec.field(name="peers")
    valid: bool
    invalid_reasons: list[str]
    samples_file: str | None
    operators: list[OperatorTime] | None = None


class Cell(_Part):
    """What was measured of one combination, or why it could not be."""

    model: str
    width: int
    height: int
    engine: str | None
    delegate: str
    threads: int | None
    report: Report | None
    error: str | None


class Matrix(_Part):
    """Reports of several combinations on one machine, each measured in a process of its own: what `edge-isp bench
    matrix` writes, and `bench model` and `bench pipeline` where an option is repeated."""

    schema_version: Literal[1]
    kind: Literal["matrix"]
    started_utc: str
    board: str
    cells: list[Cell]


def to_json(report: Report | Matrix) -> str:
    """Strict JSON with sorted keys; NaN is written as null.

    Args:
        report: what to write.
    """
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=1).decode()


def read_report(path: Path) -> Report:
    """Reads a report.

    Args:
        path: of its file.

    Raises:
        BenchError: it cannot be read, or it is not a report of this schema version.
    """
    return _read(path, Report, "report")


def read_matrix(path: Path) -> Matrix:
    """Reads the reports of several combinations.

    Args:
        path: of their file.

    Raises:
        BenchError: it cannot be read, or it is not a matrix of this schema version.
    """
    return _read(path, Matrix, "matrix")


def _read(path: Path, kind: type[_Document], name: str) -> _Document:
    content = read_file(path, BenchError, _LARGEST_FILE_BYTES)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BenchError(f"{path}: not a {name} of schema version {SCHEMA_VERSION}: {shortened(str(error))}") from error


def json_schema() -> dict[str, Any]:
    """The schema of `Report` in JSON Schema, draft 2020-12."""
    schema = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edge-isp bench, version 1", **schema}
