"""Sinks by specification: `NAME[:ARGUMENT][,key=value...]`.

Every sink has the key `policy` beside its own: what its queue does when the sink is slower than the stream. The queue
is the pipeline's, so the sink only carries it there, as its attribute `policy`.
"""

from __future__ import annotations

from dataclasses import replace

from edge_isp.errors import SinkError, shortened
from edge_isp.sinks.base import Sink
from edge_isp.spec import construct, parse_spec, without_secrets

_POLICY = "policy"


def open_sink(spec: str) -> Sink:
    """The sink that a specification names, such as "png:pictures".

    Args:
        spec: `NAME[:ARGUMENT][,policy=POLICY][,key=value...]`.

    Raises:
        MissingDependencyError: the sink needs a package that is not installed.
        PluginError: there is no such sink.
        SinkError: the specification cannot be understood, or the sink cannot be opened.
    """
    parsed = parse_spec(spec)
    own = {key: value for key, value in parsed.settings.items() if key != _POLICY}
    sink: Sink = construct("sinks", replace(parsed, settings=own))
    if _POLICY in parsed.settings:
        try:
            setattr(sink, _POLICY, parsed.settings[_POLICY])
        except AttributeError as error:
            sink.close()
            raise SinkError(
                f"sink '{shortened(without_secrets(spec))}': its class has no room for a policy: {error}"
            ) from error
    return sink


def sink_policy(spec: str) -> str | None:
    """The name of the policy of a sink's queue in its specification; None where it has none.

    `QueuePolicy.parse` reads the name.

    Args:
        spec: `NAME[:ARGUMENT][,policy=POLICY][,key=value...]`.
    """
    return parse_spec(spec).settings.get(_POLICY)


def sink_name(spec: str) -> str:
    """A sink in events and statistics: its specification without settings and secrets, such as "png:pictures".

    Args:
        spec: `NAME[:ARGUMENT][,key=value...]`.
    """
    parsed = parse_spec(spec)
    argument = without_secrets(parsed.argument)
    return f"{parsed.name}:{argument}" if argument else parsed.name
