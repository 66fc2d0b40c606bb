"""Runs an .onnx of int8 NCHW in Rockchip's simulator: SOC MODEL.onnx INPUTS.npy OUTPUTS.npz; outputs are NHWC.

Runs in a Python with rknn-toolkit2. Which operators the NPU takes, its compiler says: see `edge-isp compile`.
"""

import json
import sys
from importlib.metadata import version

import numpy as np
from rknn.api import RKNN


def main() -> None:
    soc, model, inputs, outputs = sys.argv[1:]
    rknn = RKNN(verbose=False)
    rknn.config(target_platform=soc, optimization_level=2)
    if rknn.load_onnx(model) != 0 or rknn.build(do_quantization=False) != 0 or rknn.init_runtime() != 0:
        sys.exit("rknn-toolkit2 failed")
    frames = [rknn.inference([frame], data_format="nhwc") for frame in np.load(inputs)]
    np.savez(outputs, *(np.moveaxis(np.stack(values), 2, -1) for values in zip(*frames, strict=True)))
    print(json.dumps({"versions": {"rknn-toolkit2": version("rknn-toolkit2")}}))


if __name__ == "__main__":
    main()
