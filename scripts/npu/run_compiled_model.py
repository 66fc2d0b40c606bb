"""Runs a .tflite in LiteRT's CompiledModel with Intel's plug-in, on the CPU: MODEL.tflite INPUTS.npy OUTPUTS.npz.

Runs in a Python with ai-edge-litert and ai-edge-litert-sdk-intel. Prints one line of JSON.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import ai_edge_litert
import numpy as np
from ai_edge_litert import interpreter
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import IntelOpenVinoGraphBackend, Options


def main() -> None:
    model, inputs, outputs = sys.argv[1:]
    folder = Path(ai_edge_litert.__file__).parent / "vendors" / "intel_openvino"
    plain = interpreter.Interpreter(
        model, experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    described = plain.get_output_details()
    nodes = len(plain._get_ops_details())  # noqa: SLF001 - there is no public name for it
    options = Options()
    options.hardware_accelerators = HardwareAccelerator.NPU
    options.intel_openvino_options.graph_backend = IntelOpenVinoGraphBackend.CPU
    environment = Environment.create(
        dispatch_library_path=str(folder / "dispatch"), compiler_plugin_path=str(folder / "compiler")
    )
    compiled = CompiledModel.from_file(model, environment=environment, options=options)
    whole = compiled.is_fully_accelerated()
    signature = next(iter(compiled.get_signature_list().values()))
    places = [signature["outputs"].index(entry["name"]) for entry in described]
    sources, targets = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    frames = []
    for frame in np.load(inputs):
        sources[0].write(np.ascontiguousarray(frame))
        compiled.run_by_index(0, sources, targets)
        frames.append(
            [
                targets[place].read(int(np.prod(entry["shape"])), np.dtype(np.int8)).reshape(entry["shape"])
                for place, entry in zip(places, described, strict=True)
            ]
        )
    np.savez(outputs, *(np.stack(values) for values in zip(*frames, strict=True)))
    packages = ["ai-edge-litert", "ai-edge-litert-sdk-intel"]
    print(json.dumps({"nodes": nodes, "on_cpu": 0 if whole else None, "versions": {p: version(p) for p in packages}}))


if __name__ == "__main__":
    main()
