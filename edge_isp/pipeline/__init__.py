"""The loop: threads, hand-over policies, losses, recovery."""

from edge_isp.pipeline.consumer import Consumer, Processed
from edge_isp.pipeline.drops import Cause, Counts, Event, Loss, State, StateChange
from edge_isp.pipeline.pipeline import Pipeline
from edge_isp.pipeline.source import Recovery

__all__ = [
    "Cause",
    "Consumer",
    "Counts",
    "Event",
    "Loss",
    "Pipeline",
    "Processed",
    "Recovery",
    "State",
    "StateChange",
]
