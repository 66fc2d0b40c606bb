"""SHA-256 of the shipped models and their cards, by name of the file. Written by `scripts/pin_models.py`."""

SHA256 = {
    "raw-detector-generic-ethos-u65-256-416x416.tflite": "06925eb2b463067a0c4cb0129aadd60cc291640a3be435455241ec0c60d50962",
    "raw-detector-generic.tflite": "53b8b542884d619e84841dea534ab3a1d6de3d6867dbd8840ee079328b170986",
    "raw-detector-generic.toml": "8bee917c1ad7d242f15f20d02e04a336b5aa19c7b42cae47eb968eb25fffe0c6",
    "rfdcsanet-m-generic.tflite": "8e8bc9b88c66900ad76d8ba00e3ccca5bf9ae85fbbe45aedc9bdba70587b5e83",
    "rfdcsanet-m-generic.toml": "704bab45dce6a04bec3afdb21b7865abefbfab1fefd52183f87b8a33be6c6448",
    "rfdcsanet-published-imx219.tflite": "2af4b9ab04ac5914f0fbb665f9ef7e1130e4e901a5d1f0fd7fcf300d649a4344",
    "rfdcsanet-published-imx219.toml": "1dc3c442e9e12ac79d00d2ac6cf002b96bb8dc7dd6669d388d9cf4322723d189",
    "rfdcsanet-s-generic-ethos-u65-256-1280x720.tflite": "68355045b1e83710ea90fe8261a0ed3d1af8f5e1b7a64cb57964f50c12cd82da",
    "rfdcsanet-s-generic-ethos-u65-256-1920x1080.tflite": "dcb6f93af5c9500b0c8f26af5c761da485d06fe0842ef68f90d04135f4e96408",
    "rfdcsanet-s-generic-ethos-u65-256-640x480.tflite": "eafa5f5bc30c732432bb61f2eac0f87bcbd0e6d2cf6e852bc0875c2ef5f158e6",
    "rfdcsanet-s-generic.tflite": "7f05f08b135162d321b97336fc2d1565e29fbf531187f801cb2eb3f30b065104",
    "rfdcsanet-s-generic.toml": "6a6dd4e0e37a5bf6fd5b67615223459f0ef5eca6ea2cf9ccd568b1871cbf6ba3",
    "rfdcsanet-t-generic-ethos-u65-256-1280x720.tflite": "1f67969aeb2fb11c0aa8cfddfb42a37e7112659c0472f6d584c819c28e599f55",
    "rfdcsanet-t-generic-ethos-u65-256-1920x1080.tflite": "bf12ace8e9afe26f9d11ea2ba1002f26b6e811a31c97e81cb68343756f1b3137",
    "rfdcsanet-t-generic-ethos-u65-256-640x480.tflite": "7061d0f75142f966965ca151ebc1375439774de0c66e550b49c5791af79e64b2",
    "rfdcsanet-t-generic.tflite": "77f9bd9a1a9e2e586a49a0608fe8c4354982617961894a8e2ce11c31e9499dd2",
    "rfdcsanet-t-generic.toml": "745ae42a209fe0b8775c58936bd9db56c01730c9436577ff767710618ab058f8",
}
