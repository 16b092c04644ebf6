"""Pytest, as the sanitizers start it: the right modules are loaded, and slowness is no failure."""

import builds
from hypothesis import HealthCheck, settings

builds.check_origin()
settings.register_profile("sanitizer", deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sanitizer")
