"""LiteRT (ai-edge-litert): XNNPACK on the CPU, and external delegates."""

from __future__ import annotations

from importlib.metadata import version

from ai_edge_litert import interpreter

from edge_isp.engines.tflite import TfliteEngine


class LiteRtEngine(TfliteEngine):
    __doc__ = (TfliteEngine.__doc__ or "").replace("an interpreter of TensorFlow Lite", "LiteRT's interpreter")

    runtime = interpreter
    name = f"litert {version('ai-edge-litert')}"
    title = "LiteRT"
