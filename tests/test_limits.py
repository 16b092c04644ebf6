"""The bounds: the pinned figures, and that Python sees each of them."""

import re
from pathlib import Path

from seafoam._core import limits

PXD = Path(__file__).parent.parent / "seafoam" / "_core" / "limits.pxd"


def test_python_sees_each_bound_of_the_contract():
    names = re.findall(r"^    ([A-Z][A-Z_]+) = (\d+)$", PXD.read_text(), re.MULTILINE)
    assert len(names) > 20
    for name, figure in names:
        assert getattr(limits, name) == int(figure), name


def test_the_figures_that_clients_are_promised():
    assert (limits.KEY_BYTES_MIN, limits.KEY_BYTES_MAX) == (1, 1024)
    assert limits.VALUE_BYTES_MAX == 1024**2
    assert limits.BODY_BYTES_MAX == 8 * 1024**2
    assert limits.ANSWER_BYTES_MAX == 64 * 1024**2
    assert limits.HEAD_BYTES_MAX == 16 * 1024
    assert limits.CONNECTIONS_MAX == 10_000
    assert limits.CONNECTION_REQUESTS_MAX == 128
    assert limits.IN_FLIGHT_BYTES_MAX == 256 * 1024**2
    assert limits.REQUEST_TIMEOUT_MS == 30_000
    assert limits.JSON_DEPTH_MAX == 512 and limits.JSON_EXPONENT_MAX == 10**6
    assert limits.WAL_SEGMENT_BYTES == 64 * 1024**2
    assert limits.KEYS_PER_READ_MAX == limits.OPS_PER_BATCH_MAX == limits.SCAN_LIMIT_MAX == 10_000
