"""SHA-256 of the shipped models and their cards, by name of the file. Written by `scripts/pin_models.py`."""

SHA256 = {
    "raw-detector-generic.tflite": "53b8b542884d619e84841dea534ab3a1d6de3d6867dbd8840ee079328b170986",
    "raw-detector-generic.toml": "36c4bb031c6365b3c1dc6941accb9ea6ba177ee15c7b70a6cb43a1b1e1e4931e",
    "rfdcsanet-m-generic.tflite": "8e8bc9b88c66900ad76d8ba00e3ccca5bf9ae85fbbe45aedc9bdba70587b5e83",
    "rfdcsanet-m-generic.toml": "704bab45dce6a04bec3afdb21b7865abefbfab1fefd52183f87b8a33be6c6448",
    "rfdcsanet-published-imx219.tflite": "2af4b9ab04ac5914f0fbb665f9ef7e1130e4e901a5d1f0fd7fcf300d649a4344",
    "rfdcsanet-published-imx219.toml": "1dc3c442e9e12ac79d00d2ac6cf002b96bb8dc7dd6669d388d9cf4322723d189",
    "rfdcsanet-s-generic.tflite": "7f05f08b135162d321b97336fc2d1565e29fbf531187f801cb2eb3f30b065104",
    "rfdcsanet-s-generic.toml": "97225296e73f72b39e4f54cf2de691d52ac0ecffb374bec4be8b3474bb388236",
    "rfdcsanet-t-generic.tflite": "77f9bd9a1a9e2e586a49a0608fe8c4354982617961894a8e2ce11c31e9499dd2",
    "rfdcsanet-t-generic.toml": "37aa7340e3a49a859f249942b1f749819c84b7c48155c9f757045d629dcede2c",
}
