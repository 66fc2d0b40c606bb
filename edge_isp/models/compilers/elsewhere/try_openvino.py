"""Runs in a Python with onnxruntime-openvino: SOURCE.onnx. Whether OpenVINO takes the whole graph."""

import json
import sys
from importlib.metadata import version

NOT_INSTALLED = 77
PROVIDER = "OpenVINOExecutionProvider"


def main() -> None:
    (source,) = sys.argv[1:]
    try:
        tool = f"onnxruntime-openvino {version('onnxruntime-openvino')}"
        import onnxruntime
    except ImportError:
        sys.exit(NOT_INSTALLED)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(source, options, providers=[(PROVIDER, {"device_type": "CPU"})])
    operators = sum(len(part.get_nodes()) for part in session.get_provider_graph_assignment_info())
    print("edge-isp-answer: " + json.dumps({"tool": tool, "operators": operators}))


if __name__ == "__main__":
    main()
