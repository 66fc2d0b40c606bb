"""SHA-256 of the shipped models and their cards, by name of the file. Written by `scripts/pin_models.py`."""

SHA256 = {
    "raw-detector-generic.tflite": "9201e95d2aecc63b12036374855e2c4bef33c2496796c24fb1b60d965649243a",
    "raw-detector-generic.toml": "abcfe9116cffde520000738afdf48182363636410508a534d1aab20fa4b229a9",
    "rfdcsanet-m-generic.tflite": "8e8bc9b88c66900ad76d8ba00e3ccca5bf9ae85fbbe45aedc9bdba70587b5e83",
    "rfdcsanet-m-generic.toml": "704bab45dce6a04bec3afdb21b7865abefbfab1fefd52183f87b8a33be6c6448",
    "rfdcsanet-published-imx219.tflite": "2af4b9ab04ac5914f0fbb665f9ef7e1130e4e901a5d1f0fd7fcf300d649a4344",
    "rfdcsanet-published-imx219.toml": "1dc3c442e9e12ac79d00d2ac6cf002b96bb8dc7dd6669d388d9cf4322723d189",
    "rfdcsanet-s-generic.tflite": "7a162a10c4eff940bededaa76556802bc1139318f92c6842b4de62b563825508",
    "rfdcsanet-s-generic.toml": "6ec06adf03344c56d7e0c1b7b811c62e2b64c0303c297a7c35062e04a4edad06",
}
