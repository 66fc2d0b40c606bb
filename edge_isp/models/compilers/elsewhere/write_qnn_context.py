"""Runs in a Python with onnxruntime-qnn: SOURCE.onnx TARGET.onnx HEXAGON. The whole graph as a context binary."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

NOT_INSTALLED = 77
PROVIDER = "QNNExecutionProvider"


def main() -> None:
    source, target, hexagon = sys.argv[1:]
    try:
        import onnxruntime
        import onnxruntime_qnn
    except ImportError:
        sys.exit(NOT_INSTALLED)
    options = onnxruntime.SessionOptions()
    for key, value in {
        "ep.context_enable": "1",
        "ep.context_file_path": target,
        "ep.context_embed_mode": "1",
        "session.disable_cpu_ep_fallback": "1",
        "session.record_ep_graph_assignment_info": "1",
    }.items():
        options.add_session_config_entry(key, value)
    onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    backend = Path(str(onnxruntime_qnn.__file__)).parent / "libQnnHtp.so"
    options.add_provider_for_devices(devices[:1], {"backend_path": str(backend), "htp_arch": hexagon})
    session = onnxruntime.InferenceSession(source, options)
    operators = sum(len(part.get_nodes()) for part in session.get_provider_graph_assignment_info())
    tool = f"onnxruntime-qnn {version('onnxruntime-qnn')}"
    print("edge-isp-answer: " + json.dumps({"tool": tool, "operators": operators}))


if __name__ == "__main__":
    main()
