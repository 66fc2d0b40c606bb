"""Sessions of Zenoh, and what its errors become."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import zenoh

from edge_isp.errors import EdgeIspError, shortened

_log = logging.getLogger(__name__)

# Shared memory for frames on their way, in bytes.
POOL_BYTES = 64 * 1024 * 1024
# How long a side may take nothing before it is disconnected, in microseconds.
_HANGS_US = 200_000


def open_session(key: str, connect: str | None, listen: str | None, error: type[EdgeIspError]) -> Any:
    """A session, with shared memory between processes of one host.

    Args:
        key: that will be used, checked here.
        connect: endpoint of another host or router, such as "tcp/192.168.1.5:7447"; None finds others by multicast.
        listen: endpoint that others can connect to.
        error: raised where that is not possible.

    Raises:
        EdgeIspError: the key or an endpoint is not one, or no session can be opened; of the class `error`.
    """
    if not key or key.startswith("/") or key.endswith("/") or "//" in key or re.search(r"[*$#?\0]", key):
        raise error(
            f"'{shortened(key)}': a Zenoh key has parts between single '/', and none of the characters *, $, #, ?"
        )
    config = zenoh.Config()
    config.insert_json5("transport/shared_memory/enabled", "true")
    # By default, 5 s: a process that is stopped would hold up a camera's stream for as long.
    config.insert_json5("transport/link/tx/queue/congestion_control/block/wait_before_close", str(_HANGS_US))
    try:
        for name, endpoint in (("connect", connect), ("listen", listen)):
            if endpoint is not None:
                config.insert_json5(f"{name}/endpoints", json.dumps([endpoint]))
        return zenoh.open(config)
    except zenoh.ZError as problem:
        raise error(f"zenoh:{shortened(key)}: no session can be opened: {shortened(str(problem))}") from problem


def close_session(session: Any, where: str) -> None:
    """Closes a session; one that another host or process holds up, because it hangs, is given up.

    Args:
        session: to close.
        where: it was used, for the log.
    """
    try:
        session.close()
    except zenoh.ZError as problem:
        _log.warning("%s: the session is not closed in order: %s", where, shortened(str(problem)))


def boot_id() -> str:
    """Names the running kernel: processes with the same one share CLOCK_MONOTONIC."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""
