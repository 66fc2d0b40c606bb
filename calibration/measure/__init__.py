"""How a sensor is measured: black level, noise, lens shading, colours."""
