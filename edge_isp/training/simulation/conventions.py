"""What the simulation on the CPU (`samples`) and that on the training device (`isp.device_simulation`) share.

It imports nothing, since the device's machine has little installed.
"""

from __future__ import annotations

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")

# By which the photographs that are trained on are reduced.
REDUCTIONS = (2, 4)

# The network's input holds noise as a multiple of its standard deviation in the square-root domain (see the card).
NOISE_FACTOR = 8.0
