"""Settings of every test run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports it, so that failures of the shared suite explain themselves.
pytest.register_assert_rewrite("tests.conformance.executor")

# Every failure prints how to repeat it. Time is no criterion: the machine may be busy. Nor is how
# many draws a run throws away: that varies with its seed.
settings.register_profile(
    "p2pfed",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("p2pfed")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keeps together, where several workers share the tests, what must not run side by side.

    Tests over real daemons lend one federation to their whole file; those over Slurm also share
    the clusters.
    """
    parts = item.path.parts
    if "e2e" in parts:
        group = "slurm" if "slurm" in parts else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
