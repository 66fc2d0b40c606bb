"""Objects followed from frame to frame, and counted in zones and at lines."""

from edge_isp.tracking.regions import Line, Regions, Zone, load_regions
from edge_isp.tracking.tracker import Tracker

__all__ = ["Line", "Regions", "Tracker", "Zone", "load_regions"]
