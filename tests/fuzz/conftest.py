"""How much is tried: a little and always the same by default, much by ``make fuzz``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The time of an example is its processor time, which refusing.py holds to a limit.
_BOTH = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("short", _BOTH, derandomize=True, max_examples=40)
settings.register_profile("long", _BOTH, max_examples=2000, print_blob=True)
settings.load_profile("short")
