"""A delegate for edge_isp: an NPU whose vendor ships an external delegate of TensorFlow Lite.

A delegate is data: how the hardware is found, and how its library is loaded. `edge_isp` probes, loads, compares and
falls back; nothing of that has to be written.
"""

from __future__ import annotations

from edge_isp import DelegateSpec

ACME = DelegateSpec(
    name="acme",
    title="ACME NPU",
    engine="litert",
    # Every board, with the model's own .tflite. A compiler's output would be named here as a variant of the card.
    models={"*": "tflite"},
    # The first that is found in the folders of the dynamic linker, or the path of one.
    libraries=("libacme_tflite_delegate.so",),
    # A device file that must be there and may be opened; () where the library finds the device itself.
    devices=(),
    limits="convolutions and concatenations; the rest stays on the CPU",
)
