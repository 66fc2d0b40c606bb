"""The loop: threads, hand-over policies, losses, recovery."""

from edge_isp.pipeline.consumer import Consumer, FrameResult
from edge_isp.pipeline.drops import DropReason, Event, FrameCounts, FramesDropped, PipelineState, StateChange
from edge_isp.pipeline.pipeline import Pipeline
from edge_isp.pipeline.source import ReconnectPolicy

__all__ = [
    "Consumer",
    "DropReason",
    "Event",
    "FrameCounts",
    "FrameResult",
    "FramesDropped",
    "Pipeline",
    "PipelineState",
    "ReconnectPolicy",
    "StateChange",
]
