"""Makes the profiles that ship in the package, `calibration/profiles/*.toml`, from libcamera's tuning files.

    python scripts/make_profiles.py FOLDER        # FOLDER holds vc4_imx219.json and so on

A sensor whose file is not there keeps the profile that it has.

The tuning files are libcamera's src/ipa/rpi/vc4/data (Raspberry Pi Ltd, BSD-2-Clause, see NOTICE). What they do
not say comes from the kernel drivers (facts, no code: bit depths and colour order at every flip) and, for read noise,
from the one sensor that has been measured.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from edge_isp.calibration.profile import Noise, SensorProfile
from edge_isp.calibration.profile_file import save_profile
from edge_isp.calibration.tuning import load_libcamera_tuning

PROFILES = Path(__file__).parent.parent / "calibration" / "profiles"

# The IMX477 by photon transfer (strollswithmydog.com): full well 8180 electrons, read noise 3 electrons at analogue
# gain 1 and 1.5 at gain 16, hence sqrt(2.22 + 6.78 / gain**2) electrons; here as variances of linear light.
READ_PRE_GAIN = 3.317771e-08
READ_POST_GAIN = 1.013265e-07

# The models that ship were trained with the IMX219's shot noise to seven digits: it stays what it was.
TRAINED_SHOT = {"imx219": 2.192239e-04}


@dataclass(frozen=True)
class Driver:
    """What the sensor's kernel driver says."""

    bit_depths: tuple[int, ...]
    size: tuple[int, int]
    cfa: str
    cfa_follows_flips: bool = True


DRIVERS = {
    "imx219": Driver((8, 10), (3280, 2464), "RGGB"),
    "imx477": Driver((10, 12), (4056, 3040), "RGGB"),
    "imx708": Driver((10,), (4608, 2592), "RGGB"),
    "imx708_wide": Driver((10,), (4608, 2592), "RGGB"),
    "ov5647": Driver((8, 10), (2592, 1944), "GBRG"),
    "imx296": Driver((10,), (1456, 1088), "BGGR", cfa_follows_flips=False),
    "imx500": Driver((10,), (4056, 3040), "RGGB"),
    "imx290": Driver((10, 12), (1920, 1080), "RGGB", cfa_follows_flips=False),
    "imx462": Driver((10, 12), (1920, 1080), "RGGB", cfa_follows_flips=False),
}

# Codes that black and white level are given in.
BIT_DEPTHS = {"imx477": 12, "imx290": 12, "imx462": 12}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, driver in DRIVERS.items():
        if not (folder / f"vc4_{name}.json").exists():
            print(f"{name}: no vc4_{name}.json in {folder}")
            continue
        save_profile(shipped_profile(folder, name, driver), PROFILES / f"{name}.toml")


def shipped_profile(folder: Path, name: str, driver: Driver) -> SensorProfile:
    imported = load_libcamera_tuning(
        folder / f"vc4_{name}.json", name=name, bit_depth=BIT_DEPTHS.get(name, 10), cfa=driver.cfa
    )
    assert imported.noise is not None
    noise = Noise(TRAINED_SHOT.get(name, imported.noise.shot), READ_PRE_GAIN, READ_POST_GAIN)
    provenance = tuple(
        replace(origin, source=_source(name, origin.source), confidence=_confidence(name, origin.section))
        for origin in imported.provenance
    )
    return replace(
        imported,
        noise=noise,
        cfa_follows_flips=driver.cfa_follows_flips,
        bit_depths=driver.bit_depths,
        size=driver.size,
        provenance=provenance,
    )


def _source(name: str, source: str) -> str:
    algorithm = source.rpartition(" ")[2]
    return f"libcamera src/ipa/rpi/vc4/data/{name}.json, {algorithm}; (c) Raspberry Pi Ltd, BSD-2-Clause"


def _confidence(name: str, section: str) -> str:
    if section != "noise":
        return ""
    if name == "imx477":
        return "shot noise agrees with photon transfer within 2 %; read noise from photon transfer at gains 1 and 16"
    return "shot noise from the tuning file; read noise never published: the IMX477's is assumed"


if __name__ == "__main__":
    main()
