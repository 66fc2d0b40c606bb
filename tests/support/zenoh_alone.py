"""Sessions of Zenoh that know only the endpoints they are given.

By default every session finds all others of the machine by multicast: those of tests that run at the same time, too,
with processes that are stopped or killed on purpose. Closing a session waits for all of them, and fails after 10 s.
"""

from __future__ import annotations

from typing import Any

import zenoh

_DEFAULT = zenoh.Config


def only_named_endpoints() -> Any:
    """A configuration to be put in the place of `zenoh.Config`."""
    config = _DEFAULT()
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("scouting/gossip/enabled", "false")
    return config
