"""Which operators LiteRT runs by itself, and which its delegate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Interpreter


def planned_operators(path: Path, shape: tuple[int, ...]) -> tuple[Any, list[dict[str, Any]]]:
    """An interpreter of a model, and the operators of its plan: a partition of the delegate is one, named "DELEGATE".

    Args:
        path: of the `.tflite`.
        shape: of its input.
    """
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
    interpreter.allocate_tensors()
    return interpreter, interpreter._get_ops_details()
