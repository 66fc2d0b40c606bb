"""How fast this machine is, measured the same way everywhere."""
