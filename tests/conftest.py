"""Settings of every test run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Every failure prints how to repeat it. Time is no criterion: the machine may be busy.
settings.register_profile(
    "p2pfed",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("p2pfed")
