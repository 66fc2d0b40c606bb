"""Runs an .onnx by an execution provider: qnn|openvino MODEL.onnx INPUTS.npy OUTPUTS.npz.

Runs in a Python with onnxruntime-qnn or onnxruntime-openvino. Prints one line of JSON.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime


def open_qnn(model: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    import onnxruntime_qnn

    name = "QNNExecutionProvider"
    onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    backend = Path(onnxruntime_qnn.__file__).parent / "libQnnHtp.so"
    options.add_provider_for_devices(devices[:1], {"backend_path": str(backend)})
    return onnxruntime.InferenceSession(model, options)


def open_openvino(model: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model, options, providers=[("OpenVINOExecutionProvider", {"device_type": "CPU"}), "CPUExecutionProvider"]
    )


def main() -> None:
    tool, model, inputs, outputs = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = (open_qnn if tool == "qnn" else open_openvino)(model, options)
    nodes = on_cpu = 0
    for part in session.get_provider_graph_assignment_info():
        count = len(part.get_nodes())
        nodes += count
        on_cpu += count if part.ep_name == "CPUExecutionProvider" else 0
    name = session.get_inputs()[0].name
    frames = [session.run(None, {name: frame}) for frame in np.load(inputs)]
    np.savez(outputs, *(np.stack(values) for values in zip(*frames, strict=True)))
    packages = ["onnxruntime", "onnxruntime-qnn"] if tool == "qnn" else ["onnxruntime-openvino"]
    print(json.dumps({"nodes": nodes, "on_cpu": on_cpu, "versions": {p: version(p) for p in packages}}))


if __name__ == "__main__":
    main()
