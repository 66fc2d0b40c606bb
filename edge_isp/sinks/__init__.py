"""Sinks: whatever results are written to."""

from edge_isp.sinks.annotate import annotate, picture_of
from edge_isp.sinks.base import Sink
from edge_isp.sinks.spec import open_sink

__all__ = ["Sink", "annotate", "open_sink", "picture_of"]
