"""SHA-256 of the shipped models and their cards, by name of the file. Written by `scripts/pin_models.py`."""

SHA256 = {
    "raw-detector-generic-ethos-u65-256-416x416.tflite": "06925eb2b463067a0c4cb0129aadd60cc291640a3be435455241ec0c60d50962",
    "raw-detector-generic.tflite": "53b8b542884d619e84841dea534ab3a1d6de3d6867dbd8840ee079328b170986",
    "raw-detector-generic.toml": "69a8c47430481ffd1ea369f2a107fd6d52f2518129086ec1a56cbbb1a2c3760b",
    "rfdcsanet-m-generic.tflite": "8e8bc9b88c66900ad76d8ba00e3ccca5bf9ae85fbbe45aedc9bdba70587b5e83",
    "rfdcsanet-m-generic.toml": "704bab45dce6a04bec3afdb21b7865abefbfab1fefd52183f87b8a33be6c6448",
    "rfdcsanet-published-imx219.tflite": "2af4b9ab04ac5914f0fbb665f9ef7e1130e4e901a5d1f0fd7fcf300d649a4344",
    "rfdcsanet-published-imx219.toml": "1dc3c442e9e12ac79d00d2ac6cf002b96bb8dc7dd6669d388d9cf4322723d189",
    "rfdcsanet-s-generic-ethos-u65-256-1280x720.tflite": "941a6cc64bfde267c6d2851c6d0a899efffdf431e1cfd958efdcb31ab36351ed",
    "rfdcsanet-s-generic-ethos-u65-256-1920x1080.tflite": "5e96d9326fa665632440d0015cdb9a29bb1c118e33620ba0385ab1cf03ed569d",
    "rfdcsanet-s-generic-ethos-u65-256-640x480.tflite": "63497b14cf0ca0ce80af51fc86447558626b18a4f74cbcde94280f101a8db5bd",
    "rfdcsanet-s-generic.tflite": "7f05f08b135162d321b97336fc2d1565e29fbf531187f801cb2eb3f30b065104",
    "rfdcsanet-s-generic.toml": "241c3767a2c57817cbfef8f289b284a3165f56491d6802c7ec9e8277bcd723a1",
    "rfdcsanet-t-generic-ethos-u65-256-1280x720.tflite": "e7a0a052e96575cbff6d25b6732a54f19ba09bb2cd70d71a7ffdf1febd2fdf9c",
    "rfdcsanet-t-generic-ethos-u65-256-1920x1080.tflite": "43ffbb34bd7e8a4360d0d30b80d075969e5f57d91dcca315ea99094891acd623",
    "rfdcsanet-t-generic-ethos-u65-256-640x480.tflite": "eab660f50b83e5fe7415ca110ddebc00a8c6047b168ab93f3d28b27d92369802",
    "rfdcsanet-t-generic.tflite": "77f9bd9a1a9e2e586a49a0608fe8c4354982617961894a8e2ce11c31e9499dd2",
    "rfdcsanet-t-generic.toml": "5e016418d989cd88daa53dacd94c980c123a1419f35b366ab343a3ffa7bfb0c6",
}
