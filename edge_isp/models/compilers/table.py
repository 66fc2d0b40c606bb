"""The NPUs that models can be compiled for."""

from __future__ import annotations

from edge_isp.errors import ModelError, did_you_mean, shortened
from edge_isp.models.compilers.base import Compiled, Compiler, Job
from edge_isp.models.compilers.packages import run_openvino, run_qnn, run_rknn
from edge_isp.models.compilers.programs import run_edgetpu, run_neutron
from edge_isp.models.compilers.vela import run_vela

_KIB, _MIB = 1 << 10, 1 << 20

# Of a microcontroller's SRAM, what Arm's reference platform for Ethos-U55 (Corstone-300) gives to activations.
_U55_SRAM_BYTES = 2 * _MIB


def _keep(job: Job) -> Compiled:
    return Compiled(job.source, "edge-isp export")


def _vela(npu: str, title: str, on_chip_bytes: int) -> Compiler:
    return Compiler(npu, title, "tflite", ".tflite", run_vela, on_chip_bytes, verified="compiled; Vela's estimate")


COMPILERS = (
    Compiler("onnx", "ONNX Runtime's execution providers", "onnx", ".onnx", _keep, verified="run"),
    *(_vela(f"ethos-u55-{macs}", "Arm Ethos-U55 (microcontrollers)", _U55_SRAM_BYTES) for macs in (32, 64, 128, 256)),
    _vela("ethos-u65-256", "Arm Ethos-U65 (NXP i.MX 93)", 384 * _KIB),
    _vela("ethos-u65-512", "Arm Ethos-U65 with 512 multipliers", 384 * _KIB),
    *(_vela(f"ethos-u85-{macs}", "Arm Ethos-U85", 384 * _KIB) for macs in (128, 256, 512, 1024, 2048)),
    *(
        Compiler(
            f"rknn-{soc}", f"Rockchip {soc.upper()}", "onnx-nchw", ".rknn", run_rknn, verified="compiled; simulated"
        )
        for soc in ("rk3588", "rk3576", "rk3566", "rk3568", "rk3562", "rv1126b")
    ),
    *(
        Compiler(f"qnn-v{version}", title, "onnx", ".onnx", run_qnn, verified="compiled; simulated")
        for version, title in (
            (68, "Qualcomm Hexagon v68 (QCS6490)"),
            (73, "Qualcomm Hexagon v73 (QCS8550)"),
            (75, "Qualcomm Hexagon v75"),
            (79, "Qualcomm Hexagon v79"),
            (81, "Qualcomm Hexagon v81"),
        )
    ),
    Compiler("openvino", "Intel CPUs, GPUs and NPUs", "onnx", ".onnx", run_openvino, variant="onnx", verified="run"),
    Compiler("edgetpu", "Coral Edge TPU", "tflite", ".tflite", run_edgetpu, activation_bytes=8 * _MIB),
    Compiler("neutron-imx95", "NXP eIQ Neutron (i.MX 95)", "tflite", ".tflite", run_neutron),
)

# Their compilers need frames to measure ranges on, or write a folder of files.
_BY_HAND = {
    "hailo8": "Hailo's Dataflow Compiler quantises by itself and needs frames to measure",
    "hailo8l": "Hailo's Dataflow Compiler quantises by itself and needs frames to measure",
    "hailo10h": "Hailo's Dataflow Compiler quantises by itself and needs frames to measure",
    "hailo": "Hailo's Dataflow Compiler quantises by itself and needs frames to measure",
    "tidl": "TI's compiler writes a folder of files",
}


def find_compiler(npu: str) -> Compiler:
    """How models are compiled for an NPU.

    Args:
        npu: its name.

    Raises:
        ModelError: there is no such NPU in the table.
    """
    for compiler in COMPILERS:
        if compiler.npu == npu:
            return compiler
    if npu in _BY_HAND:
        raise ModelError(
            f"'{npu}': {_BY_HAND[npu]}, so edge_isp cannot run it; docs/npu.md says how it is done by hand"
        )
    names = [compiler.npu for compiler in COMPILERS]
    raise ModelError(f"no NPU '{shortened(npu)}'; there are: {', '.join(names)}{did_you_mean(npu, names)}")
