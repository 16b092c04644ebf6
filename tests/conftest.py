"""What tests of a real node share: the process, a connection, a key of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from processes import NodeProcess
from support import Client


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node of its own process with its data on disk, one a test file."""
    with NodeProcess(tmp_path_factory.mktemp("node") / "data") as node:
        yield node


@pytest.fixture
def client(node: NodeProcess) -> Iterator[Client]:
    """A fresh connection to the node."""
    host, _, port = node.address.rpartition(":")
    with Client((host, int(port))) as client:
        yield client


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key of the test's own."""
    return request.node.name


@pytest.fixture
def no_forced_switches() -> Iterator[None]:
    """A thread that has the GIL keeps it until it lets go of it by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    yield
    sys.setswitchinterval(before)
