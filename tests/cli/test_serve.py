"""`edge-isp serve` as a process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="needs the extra [serve]")


def serve(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_isp", "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_prints_a_link_and_ends_with_a_signal(tmp_path: Path, number: signal.Signals, status: int) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-test-0123456789")
    with serve("--model", "rfdcsanet-s", "--threads", "1", "--token-file", str(token)) as process:
        try:
            assert process.stdout is not None
            link = re.fullmatch(r"live view: (http://127\.0\.0\.1:\d+/)\?token=(\S+)\n", process.stdout.readline())
            assert link is not None
            assert link[2] == token.read_text()
            request = urllib.request.Request(f"{link[1]}api/status", headers={"Authorization": f"Bearer {link[2]}"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"{link[1]}healthz", timeout=30) as answer:
                assert answer.read().decode().strip() in ("starting", "running")
        finally:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--camera", "absent.raw"], "absent.raw"),
        (["--host", "203.0.113.77"], "cannot be listened at"),
        (["--token-file", "absent"], "absent: cannot be read"),
        (["--zone", "absent.toml"], "absent.toml"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_what_is_wrong_is_one_line(options: list[str], message: str) -> None:
    with serve(*options) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert message in errors.splitlines()[-1]
    assert "Traceback" not in errors
