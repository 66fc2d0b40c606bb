"""Metrics for Prometheus, named by its conventions: base units, counters that end in `_total` and never go back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from edge_isp import __version__
from edge_isp.board import THROTTLING_CONDITIONS, Board
from edge_isp.pipeline import DropReason, FrameResult, Pipeline, PipelineState

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

# Upper bounds of the histograms' buckets, in seconds: from a kernel's fraction of a millisecond to a stalled camera.
_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters and histograms of a camera's results, and what its pipeline says when it is asked.

    Args:
        pipeline: of the live view.
        viewers: the number of viewers of each stream.
        exposure: exposure in nanoseconds and analogue gain of the newest frame; None where they are not known.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        viewers: Callable[[], dict[str, int]],
        exposure: Callable[[], tuple[int | None, float | None]],
    ) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._pipeline, self._viewers, self._exposure = pipeline, viewers, exposure
        self._registry = CollectorRegistry(auto_describe=False)
        self._results = Counter(
            "edge_isp_results", "Results by model and what ran it.", ["model", "delegate"], registry=self._registry
        )
        self._stages = Histogram(
            "edge_isp_stage_duration_seconds",
            "Time that a stage took for one frame.",
            ["model", "stage"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._age = Histogram(
            "edge_isp_result_age_seconds",
            "Time from the start of a frame's exposure to the delivery of its result.",
            ["model"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def observe(self, done: FrameResult) -> None:
        """Counts a result.

        Args:
            done: the result.
        """
        self._results.labels(done.model, done.delegate or "none").inc()
        self._age.labels(done.model).observe(done.latency_ns / 1e9)
        for stage, duration_ns in done.stages_ns.items():
            self._stages.labels(done.model, stage).observe(duration_ns / 1e9)

    def collect(self) -> Iterator[Metric]:
        """All metrics of the camera, for `exposition`."""
        yield from self._registry.collect()
        yield from self._frames()
        yield from self._state()

    def _frames(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        frames = CounterMetricFamily("edge_isp_frames", "Frames that the sensor made.", labels=["consumer"])
        delivered = CounterMetricFamily("edge_isp_frames_delivered", "Results delivered.", labels=["consumer"])
        skipped = CounterMetricFamily("edge_isp_frames_skipped", "Frames that were not asked for.", labels=["consumer"])
        dropped = CounterMetricFamily(
            "edge_isp_frames_dropped", "Frames that were lost, by reason.", labels=["consumer", "reason"]
        )
        in_flight = GaugeMetricFamily(
            "edge_isp_frames_in_flight", "Frames between camera and consumer.", labels=["consumer"]
        )
        for consumer in self._pipeline.consumers:
            counts = consumer.counts
            frames.add_metric([consumer.name], counts.frames)
            delivered.add_metric([consumer.name], counts.delivered)
            skipped.add_metric([consumer.name], counts.skipped)
            in_flight.add_metric([consumer.name], counts.in_flight)
            for reason in DropReason:  # also those without a frame yet, so that the first one shows in a rate
                dropped.add_metric([consumer.name, reason.value], counts.dropped.get(reason, 0))
        yield from (frames, delivered, skipped, dropped, in_flight)

    def _state(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        yield CounterMetricFamily(
            "edge_isp_camera_restarts", "Times that the camera was opened again.", value=self._pipeline.restarts
        )
        now = self._pipeline.state
        state = GaugeMetricFamily("edge_isp_pipeline_state", "1 for the state of the pipeline.", labels=["state"])
        for each in PipelineState:
            state.add_metric([each.value], each is now)
        viewers = GaugeMetricFamily("edge_isp_viewers", "Clients that watch a stream.", labels=["stream"])
        for stream, count in self._viewers().items():
            viewers.add_metric([stream], count)
        yield from (state, viewers)
        exposure_ns, gain = self._exposure()
        if exposure_ns is not None:
            yield GaugeMetricFamily(
                "edge_isp_exposure_seconds", "Exposure time of the newest frame.", value=exposure_ns / 1e9
            )
        if gain is not None:
            yield GaugeMetricFamily("edge_isp_analogue_gain_ratio", "Analogue gain of the newest frame.", value=gain)


class MachineMetrics:
    """What all cameras of a machine share: its temperatures, the process, and the version.

    Args:
        board: the machine.
    """

    def __init__(self, board: Board) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self._board = board
        self._process = ProcessCollector(registry=CollectorRegistry())

    def collect(self) -> Iterator[Metric]:
        """All metrics of the machine, for `exposition`."""
        from prometheus_client.metrics_core import GaugeMetricFamily

        yield from self._process.collect()
        build = GaugeMetricFamily("edge_isp_build_info", "1, with the version of edge_isp.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        temperature = GaugeMetricFamily(
            "edge_isp_board_temperature_celsius", "Temperatures of the machine.", labels=["sensor"]
        )
        for sensor, degrees in self._board.temperatures_c().items():
            temperature.add_metric([sensor], degrees)
        yield temperature
        throttling = self._board.throttling()
        if throttling is not None:
            throttled = GaugeMetricFamily(
                "edge_isp_board_throttled", "1 for a condition that slows the machine down now.", labels=["condition"]
            )
            for condition in THROTTLING_CONDITIONS:
                throttled.add_metric([condition], condition in throttling.now)
            yield throttled


class CamerasMetrics:
    """Metrics of several cameras, each sample with the label `camera`.

    Args:
        cameras: metrics by the camera's name.
    """

    def __init__(self, cameras: Mapping[str, Metrics]) -> None:
        self._cameras = cameras

    def collect(self) -> Iterator[Metric]:
        """All metrics of the cameras, for `exposition`."""
        families: dict[str, Metric] = {}
        for camera, metrics in self._cameras.items():
            for found in metrics.collect():
                samples = [sample._replace(labels={"camera": camera, **sample.labels}) for sample in found.samples]
                if found.name in families:
                    families[found.name].samples += samples
                else:
                    families[found.name], found.samples = found, samples
        yield from families.values()


def exposition(*parts: Metrics | MachineMetrics | CamerasMetrics) -> tuple[bytes, str]:
    """Metrics in Prometheus's text format, and its content type.

    Args:
        *parts: no two of them have a metric of the same name.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    for part in parts:
        registry.register(part)
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
