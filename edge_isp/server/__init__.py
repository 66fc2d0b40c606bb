"""The live view in a browser: pictures, boxes, numbers, controls, metrics and health over HTTP."""
