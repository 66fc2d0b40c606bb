"""Runs in a Python with rknn-toolkit2: SOURCE.onnx TARGET.rknn SOC. The integers of the model are kept.

The package's compiler says on standard output, from native code, which operators the NPU takes; so this program runs
itself once more and reads that.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import version

NOT_INSTALLED = 77
ROW = re.compile(r"\s\d+\s+(\w+)\s+\w+\s+(NPU|CPU|GPU)\s")


def build(source: str, target: str, soc: str) -> None:
    from rknn.api import RKNN

    rknn = RKNN(verbose=True)
    # From level 3 on operators are merged in ways that change values.
    rknn.config(target_platform=soc, optimization_level=2)
    if rknn.load_onnx(source) != 0 or rknn.build(do_quantization=False) != 0 or rknn.export_rknn(target) != 0:
        sys.exit("rknn-toolkit2 failed")
    rknn.release()


def main() -> None:
    if sys.argv[-1] == "--build":
        build(*sys.argv[1:4])
        return
    try:
        tool = f"rknn-toolkit2 {version('rknn-toolkit2')}"
    except ImportError:
        sys.exit(NOT_INSTALLED)
    done = subprocess.run(
        [sys.executable, "-I", __file__, *sys.argv[1:], "--build"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = done.stdout.decode("utf-8", errors="replace")
    if done.returncode != 0:
        print(output)
        sys.exit(1)
    rows = [row for row in ROW.findall(output) if row[0] not in ("InputOperator", "OutputOperator")]
    on_cpu = sum(target != "NPU" for _, target in rows)
    print("edge-isp-answer: " + json.dumps({"tool": tool, "operators": len(rows), "operators_on_cpu": on_cpu}))


if __name__ == "__main__":
    main()
