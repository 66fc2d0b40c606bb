"""tflite-runtime 2.14, for vendor delegates that are tied to it; up to Python 3.11, with NumPy 1.

XNNPACK takes nothing of an int8 model from it, so that the CPU is several times slower than with LiteRT.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import tflite_runtime  # noqa: F401

from edge_isp.engines.base import Library
from edge_isp.engines.tflite import TfliteEngine
from edge_isp.errors import PluginError

if int(np.__version__.split(".")[0]) >= 2:  # its interpreter can be imported all the same, and fails later, obscurely
    raise PluginError(
        f"tflite-runtime {version('tflite-runtime')} needs NumPy 1, found {np.__version__}; install 'numpy<2', or give "
        "it a virtual environment of its own, which --engine-python names"
    )

from tflite_runtime import _pywrap_tensorflow_interpreter_wrapper, interpreter


class TfliteRuntimeEngine(TfliteEngine):
    """A `.tflite` model in tflite-runtime's interpreter.

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
    name = f"tflite-runtime {version('tflite-runtime')}"
    title = "tflite-runtime"
    library = Library(str(_pywrap_tensorflow_interpreter_wrapper.__file__), version("tflite-runtime"))
