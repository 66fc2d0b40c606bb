"""Frames from a camera through models to consumers and sinks: threads, queues, dropped frames, recovery."""

from edge_isp.pipeline.consumer import Consumer
from edge_isp.pipeline.drops import (
    DeadlineMissed,
    DelegateChange,
    DropReason,
    Event,
    FrameCounts,
    FramesDropped,
    MetadataIgnored,
    PipelineState,
    StateChange,
    WallClockStepped,
)
from edge_isp.pipeline.options import ModelOptions, QueuePolicy, StreamOptions
from edge_isp.pipeline.pairing import FramePair, FramePairer, Pairs, Unpaired, UnpairedReason, pair
from edge_isp.pipeline.pipeline import Pipeline
from edge_isp.pipeline.reconnect import ReconnectPolicy
from edge_isp.pipeline.subscription import Subscription
from edge_isp.results import FrameResult

__all__ = [
    "Consumer",
    "DeadlineMissed",
    "DelegateChange",
    "DropReason",
    "Event",
    "FrameCounts",
    "FramePair",
    "FramePairer",
    "FrameResult",
    "FramesDropped",
    "MetadataIgnored",
    "ModelOptions",
    "Pairs",
    "Pipeline",
    "PipelineState",
    "QueuePolicy",
    "ReconnectPolicy",
    "StateChange",
    "StreamOptions",
    "Subscription",
    "Unpaired",
    "UnpairedReason",
    "WallClockStepped",
    "pair",
]
