"""LiteRT (ai-edge-litert): XNNPACK on the CPU, and external delegates."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from ai_edge_litert import interpreter

from edge_isp.engines.base import Library
from edge_isp.engines.tflite import TfliteEngine


class LiteRtEngine(TfliteEngine):
    """A `.tflite` model in LiteRT's interpreter.

    The runtime gives every node that the delegate leaves to XNNPACK, and to its own kernels what XNNPACK leaves.

    Args:
        path: path of the model's file.
        threads: threads on the CPU; None for one fewer than there are cores.
        delegate: takes what it can of the graph.
        shape: shape of the first input; None for the file's.
        xnnpack: False leaves XNNPACK out.

    Raises:
        EngineError: the file is no model that the runtime can run, or the delegate cannot be loaded.
    """

    runtime = interpreter
    name = f"litert {version('ai-edge-litert')}"
    title = "LiteRT"
    library = Library(str(Path(interpreter.__file__).parent / "libpywrap_litert_common.so"), version("ai-edge-litert"))
