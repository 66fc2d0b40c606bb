"""Delegates as data: for each NPU how it is found, loaded and fed, and what it is known to refuse.

Another package adds one through an entry point in the group `edge_isp.delegates`, whose value is a `DelegateSpec`.
"""

from __future__ import annotations

import fnmatch
import glob
import grp
import os
import platform
import pwd
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from pathlib import Path

from edge_isp.board import Board
from edge_isp.engines.base import TensorInfo
from edge_isp.errors import EngineError, PluginError


@dataclass(frozen=True, slots=True)
class DelegateSpec:
    """How one NPU is found, loaded and fed.

    Attributes:
        name: that `--delegate` takes.
        title: of the hardware, for people.
        engine: name of the engine that loads it.
        models: which of a card's variants it runs, by a pattern of the device tree's "compatible" ("*" fits every
            board). "tflite" and "onnx" stand for the model's own file where it is of that format. An execution provider
            of ONNX Runtime takes an "onnx" where there is no variant that was compiled for it. On a board that no
            pattern fits, it is not tried.
        libraries: file names or paths; the first that is there is loaded.
        devices: patterns of device files, of which it needs one.
        usb: (vendor, product) in hexadecimal, any of which stands for a device file.
        package: Python package that it needs.
        distribution: what it needs to be installed with pip, where that brings a package under another's name, as
            onnxruntime-openvino brings `onnxruntime`.
        options: that it is loaded with. `{variant}` and `{package}` in a value stand for the folder of the variant's
            file and that of the Python package, `{threads}` for the number of threads.
        provider: of ONNX Runtime: the execution provider's name.
        limits: what it is known to refuse or to be slow at.
    """

    name: str
    title: str
    engine: str
    models: Mapping[str, str]
    libraries: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    usb: tuple[tuple[str, str], ...] = ()
    package: str = ""
    distribution: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True)
class Delegate:
    """A delegate as an engine loads it: found on this board, its options final.

    Attributes:
        name: of its `DelegateSpec`, or the library's file name.
        library: path of the shared library; "" where a Python package brings it.
        options: that it is loaded with; `{package}` in a value stands for the package's folder, wherever that is in the
            Python that loads it.
        provider: see `DelegateSpec`.
        package: see `DelegateSpec`.
        inputs: the model's inputs, for runtimes that do not know them.
        outputs: the model's outputs, likewise.
    """

    name: str
    library: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    package: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What looking for a delegate found.

    Attributes:
        missing: why it cannot be used here; "" where it can.
        library: path of its shared library, where it has one and it was found.
        board: the pattern of `DelegateSpec.models` that the board fits.
    """

    missing: str
    library: str = ""
    board: str = ""


_NXP_8MP = "fsl,imx8mp*"

DELEGATES: tuple[DelegateSpec, ...] = (
    DelegateSpec(
        name="edgetpu",
        title="Coral Edge TPU",
        engine="litert",
        models={"*": "edgetpu"},
        libraries=("libedgetpu.so.1",),
        devices=("/dev/apex_*",),
        usb=(("1a6e", "089a"), ("18d1", "9302")),
        limits="takes only what edgetpu_compiler compiled, for one frame size; activations beyond 8 MB do not fit",
    ),
    DelegateSpec(
        name="vx",
        title="NXP i.MX 8M Plus (VeriSilicon VIP8000)",
        engine="litert",
        models={_NXP_8MP: "tflite"},
        libraries=("/usr/lib/libvx_delegate.so",),
        devices=("/dev/galcore",),
        limits="the first inference compiles the graph for seconds; weights per channel are slower than per tensor",
    ),
    DelegateSpec(
        name="ethos-u",
        title="Arm Ethos-U65 (NXP i.MX 93)",
        engine="litert",
        models={"fsl,imx93*": "ethos-u65-256"},
        libraries=("/usr/lib/libethosu_delegate.so",),
        devices=("/dev/ethosu*",),
        limits="takes only what Vela compiled, for one frame size; large MEANs stay on the CPU",
    ),
    DelegateSpec(
        name="neutron",
        title="NXP eIQ Neutron (i.MX 95)",
        engine="litert",
        models={"fsl,imx95*": "neutron-imx95"},
        libraries=("/usr/lib/liblitert_neutron_delegate.so", "/usr/lib/libneutron_delegate.so"),
        devices=("/dev/neutron*",),
        limits="takes only what neutron-converter compiled; of large frames it converts few operators",
    ),
    DelegateSpec(
        name="teflon",
        title="Mesa Teflon (VeriSilicon, Rockchip and Ethos-U by mainline drivers)",
        engine="litert",
        models={"*": "tflite"},
        libraries=(
            "/usr/lib/teflon/libteflon.so",
            "/usr/lib/aarch64-linux-gnu/libteflon.so",
            "/usr/local/lib/libteflon.so",
        ),
        devices=("/dev/accel/accel*", "/dev/dri/renderD*"),
        limits="takes few operators, convolutions and additions among them; which ones depends on Mesa and the NPU",
    ),
    DelegateSpec(
        name="verisilicon",
        title="VeriSilicon NPU by TIM-VX (Amlogic A311D, S905D3)",
        engine="litert",
        models={"amlogic,a311d*": "tflite", "amlogic,g12b*": "tflite", "amlogic,sm1*": "tflite"},
        libraries=("libvx_delegate.so", "libtim-vx_delegate.so"),
        devices=("/dev/galcore",),
        limits="the first inference compiles the graph for seconds",
    ),
    DelegateSpec(
        name="tidl",
        title="TI TIDL (AM62A, AM67A, AM68, AM69, TDA4)",
        engine="litert",
        models={"ti,am62a*": "tidl", "ti,am67a*": "tidl", "ti,j7*": "tidl", "ti,am68*": "tidl", "ti,am69*": "tidl"},
        libraries=("libtidl_tfl_delegate.so",),
        devices=("/dev/rpmsg*", "/dev/remote-proc*"),
        options={"artifacts_folder": "{variant}", "import": "no", "debug_level": "0"},
        limits="needs the folder that TI's compiler wrote, for one frame size, beside the variant's file",
    ),
    DelegateSpec(
        name="qnn",
        title="Qualcomm Hexagon by the execution provider of ONNX Runtime",
        engine="onnxruntime",
        models={
            **dict.fromkeys(("qcom,qcm6490*", "qcom,qcs6490*", "qcom,sc7280*"), "qnn-v68"),
            **dict.fromkeys(("qcom,qcs8550*", "qcom,sm8550*"), "qnn-v73"),
            "qcom,*": "onnx",
        },
        package="onnxruntime_qnn",
        devices=("/dev/fastrpc-cdsp*", "/dev/adsprpc-smd*"),
        options={"backend_path": "{package}/libQnnHtp.so"},
        provider="QNNExecutionProvider",
        limits="takes quantised graphs of one frame size",
    ),
    DelegateSpec(
        name="qnn-tflite",
        title="Qualcomm Hexagon by its delegate of TensorFlow Lite",
        engine="litert",
        models={"qcom,*": "tflite"},
        libraries=("libQnnTFLiteDelegate.so",),
        devices=("/dev/fastrpc-cdsp*", "/dev/adsprpc-smd*"),
        options={"backend_type": "htp", "htp_performance_mode": "2"},
    ),
    DelegateSpec(
        name="rknn",
        title="Rockchip NPU by rknn-toolkit-lite2",
        engine="rknn",
        models={
            f"rockchip,{soc}*": f"rknn-{soc}" for soc in ("rk3588", "rk3576", "rk3566", "rk3568", "rk3562", "rv1126b")
        },
        libraries=("librknnrt.so",),
        package="rknnlite",
        limits="takes only what rknn-toolkit2 compiled for this SoC, for one frame size",
    ),
    DelegateSpec(
        name="hailo",
        title="Hailo-8, Hailo-8L and Hailo-10H",
        engine="hailo",
        models={"*": "hailo"},
        package="hailo_platform",
        devices=("/dev/hailo*", "/dev/h1x*"),
        limits="takes only what Hailo's compiler made for this chip, for one frame size",
    ),
    DelegateSpec(
        name="openvino",
        title="Intel NPUs, GPUs and CPUs by the execution provider of OpenVINO",
        engine="onnxruntime",
        models={"*": "onnx"},
        distribution="onnxruntime-openvino",
        options={"device_type": "CPU", "num_of_threads": "{threads}"},
        provider="OpenVINOExecutionProvider",
        limits="runs on the CPU by default: device_type=NPU and device_type=GPU name another device",
    ),
    DelegateSpec(
        name="litert-intel",
        title="Intel NPUs, GPUs and CPUs by LiteRT's CompiledModel",
        engine="compiled-model",
        models={"*": "tflite"},
        package="ai_edge_litert_sdk_intel",
        devices=("/dev/accel/accel*", "/dev/dri/renderD*"),
        options={"accelerator": "npu", "vendor": "intel_openvino", "graph_backend": "NPU"},
        limits="compiles when it is loaded, for the frame size of the model's file, and takes the whole graph or none",
    ),
    DelegateSpec(
        name="litert-npu",
        title="NPUs by a vendor's dispatch library for LiteRT's CompiledModel",
        engine="compiled-model",
        models={"*": "tflite"},
        libraries=(
            "libLiteRtDispatch_Qualcomm.so",
            "libLiteRtDispatch_MediaTek.so",
            "libLiteRtDispatch_GoogleTensor.so",
        ),
        options={"accelerator": "npu"},
        limits="compiles when it is loaded, for the frame size of the model's file, and takes the whole graph or none",
    ),
    DelegateSpec(
        name="litert-gpu",
        title="GPUs by WebGPU in LiteRT's CompiledModel",
        engine="compiled-model",
        models={"*": "tflite"},
        package="ai_edge_litert",
        devices=("/dev/dri/renderD*",),
        options={"accelerator": "gpu"},
        limits="needs a driver of Vulkan; takes the whole graph or none, for the frame size of the model's file",
    ),
    DelegateSpec(
        name="armnn",
        title="Arm NN (Mali GPUs)",
        engine="litert",
        models={"*": "tflite"},
        libraries=("libarmnnDelegate.so",),
        devices=("/dev/mali*",),
        options={"backends": "GpuAcc", "logging-severity": "error"},
    ),
)


def delegates(refused: Callable[[str, str], object] | None = None) -> tuple[DelegateSpec, ...]:
    """All delegates, ours and others', in the order in which `auto` tries them: others' first.

    Args:
        refused: is called with the name and the reason of each entry point that cannot be loaded; None makes it an
            error.

    Raises:
        PluginError: another package's is none or cannot be loaded, or two have one name.
    """
    found: dict[str, DelegateSpec] = {}
    for entry in entry_points(group="edge_isp.delegates"):
        try:
            spec = entry.load()
        except Exception as error:
            reason = f"{entry.value} cannot be loaded: {type(error).__name__}: {error}"
            if refused is None:
                raise PluginError(f"delegate '{entry.name}': {reason}") from error
            refused(entry.name, reason)
            continue
        if not isinstance(spec, DelegateSpec):
            raise PluginError(f"delegate '{entry.name}' ({entry.value}) must be a DelegateSpec, found {type(spec)}")
        found[spec.name] = spec
    specs = (*found.values(), *DELEGATES)
    if len({spec.name for spec in specs}) < len(specs):
        raise PluginError(f"more than one delegate has the same name: {', '.join(sorted(s.name for s in specs))}")
    return specs


def find_delegate(name: str) -> DelegateSpec:
    """Finds a delegate by its name.

    Args:
        name: of the delegate.

    Raises:
        PluginError: there is none.
    """
    for spec in delegates():
        if spec.name == name:
            return spec
    raise PluginError(
        f"no delegate '{name}'; there are: {', '.join(spec.name for spec in delegates())}; "
        "a library that is not among them is given by its path"
    )


def is_installed(spec: DelegateSpec) -> bool:
    """Whether this Python has the packages that a delegate needs; True where it needs none.

    Args:
        spec: the delegate.
    """
    return not _missing_package(spec)


def probe(spec: DelegateSpec, root: Path = Path("/"), *, packages: bool = True) -> Probe:
    """Looks for a delegate: the board, its Python package, its library, its device; loads nothing.

    Args:
        spec: the delegate.
        root: the root of the file system that is searched.
        packages: False where the delegate is to run in another Python, whose packages are not known here.
    """
    compatible = Board(root).compatible()
    board = next((p for p in spec.models if p == "*" or any(fnmatch.fnmatch(c, p) for c in compatible)), "")
    if not board:
        return Probe(f"is on boards of {', '.join(spec.models)}; this is {compatible[0] if compatible else 'another'}")
    if packages and (missing := _missing_package(spec)):
        return Probe(missing, board=board)
    library = ""
    if spec.libraries:
        library = next(filter(None, (_find_library(name, root) for name in spec.libraries)), "")
        if not library:
            return Probe(f"there is no library {' or '.join(spec.libraries)}", board=board)
        foreign = foreign_architecture(library)
        if foreign:
            return Probe(foreign, library, board)
    return Probe(_missing_device(spec, root), library, board)


def resolve(spec: DelegateSpec, found: Probe, model: Path) -> Delegate:
    """The delegate as an engine loads it.

    Args:
        spec: the delegate.
        found: where it was found.
        model: the path of the model's file.
    """
    options = {key: value.replace("{variant}", str(model.parent)) for key, value in spec.options.items()}
    return Delegate(spec.name, found.library, options, spec.provider, spec.package)


def foreign_architecture(library: str | Path) -> str:
    """Why this Python cannot load a shared library.

    Args:
        library: the path of the library.

    Returns:
        That it is missing, not a library, or for another architecture; "" where it can be loaded.
    """
    try:
        theirs, ours = _elf_header(Path(library)), _elf_header(Path(sys.executable))
    except OSError as error:
        return f"{library}: cannot be read: {error.strerror}"
    if theirs is None:
        return f"{library}: is not a shared library (ELF)"
    if ours is not None and theirs != ours:
        return f"{library}: is for {_architecture(theirs)}, this Python is for {_architecture(ours)}"
    return ""


def require_library(library: str | Path) -> None:
    """Refuses a shared library that this Python cannot load.

    Args:
        library: the path of the library.

    Raises:
        EngineError: it is missing, not a library, or for another architecture.
    """
    wrong = foreign_architecture(library)
    if wrong:
        raise EngineError(wrong)


def access_denied(device: Path) -> str:
    """Why this user may not use a device file, and what mends it.

    Args:
        device: the path of the device file.

    Returns:
        The reason; "" where the user may use it.
    """
    if os.access(device, os.R_OK | os.W_OK):
        return ""
    status = device.stat()
    try:
        group, user = grp.getgrgid(status.st_gid).gr_name, pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        group, user = str(status.st_gid), str(os.getuid())
    remedy = (
        f"sudo usermod -aG {group} {user}, then log in again"
        if group != "root"
        else "a udev rule must give it to a group"
    )
    return f"no permission on {device} (group {group}, mode {status.st_mode & 0o777:04o}): {remedy}"


def _missing_package(spec: DelegateSpec) -> str:
    """Why this Python cannot load a delegate for want of a package; "" where it has them all."""
    if spec.package and find_spec(spec.package) is None:
        return f"the Python package '{spec.package}' is not installed"
    if spec.distribution and not _has_distribution(spec.distribution):
        return f"'{spec.distribution}' is not installed; it needs a virtual environment of its own: --engine-python"
    # Both bring the package of the same name, of which the one that was installed last is there.
    if spec.distribution and spec.engine != spec.distribution and _has_distribution(spec.engine):
        return (
            f"'{spec.distribution}' and '{spec.engine}' are both installed, and each overwrites the other's files; "
            f"install '{spec.distribution}' in a virtual environment of its own: --engine-python"
        )
    return ""


def _has_distribution(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _missing_device(spec: DelegateSpec, root: Path) -> str:
    if not spec.devices or any(_usb_present(vendor, product, root) for vendor, product in spec.usb):
        return ""
    found = sorted(p for pattern in spec.devices for p in glob.glob(str(root / pattern.lstrip("/"))))
    if not found:
        usb = "".join(f" or USB device {vendor}:{product}" for vendor, product in spec.usb)
        return f"there is no {' or '.join(spec.devices)}{usb}: no such device, or its driver is not loaded"
    denied = [access_denied(Path(path)) for path in found]
    return "" if "" in denied else denied[0]


def _usb_present(vendor: str, product: str, root: Path) -> bool:
    for path in (root / "sys/bus/usb/devices").glob("*/idVendor"):
        try:
            found = (path.read_bytes().strip(), (path.parent / "idProduct").read_bytes().strip())
            if found == (vendor.encode(), product.encode()):
                return True
        except OSError:  # it was pulled out meanwhile
            continue
    return False


def _find_library(name: str, root: Path) -> str:
    """Path of a library; "" where it is not in any folder that the loader searches."""
    triplet = f"{platform.machine()}-linux-gnu"
    folders = [
        *filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")),
        *(f"/{folder}" for folder in ("usr/local/lib", f"usr/lib/{triplet}", "usr/lib", f"lib/{triplet}", "lib")),
    ]
    candidates = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in folders]
    for candidate in candidates:
        path = root / candidate.lstrip("/")
        if path.exists():
            return str(path)
    return ""


_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}


def _elf_header(path: Path) -> tuple[int, int] | None:
    """(bits, machine) of an ELF file; None for a file of another kind."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    return 32 * header[4], int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")


def _architecture(header: tuple[int, int]) -> str:
    bits, machine = header
    return f"{_MACHINES.get(machine, f'machine {machine}')} ({bits} bit)"
