"""A fake kernel in place of the machine's."""

from __future__ import annotations

import pytest

from edge_isp.cameras.v4l2 import kernel as v4l2_kernel
from tests.cameras.v4l2.fake_kernel import FakeKernel


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    for name in fake.FUNCTIONS:
        monkeypatch.setattr(v4l2_kernel, name, getattr(fake, name))
    return fake
