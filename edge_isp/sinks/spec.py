"""Sinks by specification: `NAME[:ARGUMENT][,key=value...]`."""

from __future__ import annotations

from edge_isp.sinks.base import Sink
from edge_isp.spec import construct, parse_spec


def open_sink(spec: str) -> Sink:
    """The sink that a specification names, such as "png:pictures".

    Args:
        spec: `NAME[:ARGUMENT][,key=value...]`.

    Raises:
        MissingDependencyError: the sink needs a package that is not installed.
        PluginError: there is no such sink.
        SinkError: the specification cannot be understood, or the sink cannot be opened.
    """
    sink: Sink = construct("sinks", parse_spec(spec))
    return sink
