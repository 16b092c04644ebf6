"""Pytest, as the sanitizers start it: the right modules are loaded, and slowness is no failure."""

from hypothesis import HealthCheck, settings

import builds

builds.check_origin()
settings.register_profile("sanitizer", deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sanitizer")
