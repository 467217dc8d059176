"""Settings of every test run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports it, so that failures of the shared suite explain themselves.
pytest.register_assert_rewrite("tests.conformance.executor")

# Every failure prints how to repeat it. Time is no criterion: the machine may be busy.
settings.register_profile(
    "p2pfed",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("p2pfed")
