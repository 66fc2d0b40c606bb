"""How fast this machine is, measured by one method everywhere."""
