"""Names for the C status codes of status.pxd, for messages and tests."""

NAMES = {
    STATUS_OK: "ok",
    STATUS_NEED_MORE: "need_more",
    STATUS_CAREFUL: "careful",
    STATUS_NOT_FOUND: "not_found",
    STATUS_CONTENDED: "contended",
    STATUS_DETACHED: "detached",
    STATUS_NO_MEMORY: "no_memory",
    STATUS_TOO_LARGE: "too_large",
    STATUS_INVALID: "invalid",
    STATUS_TORN: "torn",
    STATUS_DAMAGED: "damaged",
    STATUS_UNKNOWN_TYPE: "unknown_type",
    STATUS_UNKNOWN_VERSION: "unknown_version",
    STATUS_SYSTEM: "system",
}


def name_of(int status):
    """The name of a C status code, e.g. ``"torn"``; a number it does not know, as text."""
    return NAMES.get(status, str(status))
