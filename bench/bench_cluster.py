"""Three nodes of Seafoam and three of etcd on this machine, and writers to either.

Owns what it starts: a cluster ends with its `with` block. Nobody is pinned to a core here: three
nodes and the load generator share those that there are, the same for both.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench_keys import key_of, value_of
from bench_programs import Load, compiled, free_port, stop
from cluster_support import Cluster

START_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Entrance:
    """Where writes go, and what one looks like around its key."""

    name: str
    port: int
    path: str
    before: str
    after: str
    keys: Path


class WriteLoad(Load):
    """So many connections that write, each one after the other."""

    def __init__(self, folder: Path, entrance: Entrance, connections: int) -> None:
        self.figures: list[dict[str, float]] = []
        self.process = subprocess.Popen(
            [str(compiled("load", folder)), f"port={entrance.port}", f"keys={entrance.keys}",
             f"connections={connections}", f"path={entrance.path}", f"before={entrance.before}",
             f"after={entrance.after}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        assert self._answer() == "ready"


def write_keys(folder: Path, key_count: int) -> None:
    """The keys, as they are and in the base64 that etcd's gateway wants."""
    keys = [key_of(number) for number in range(key_count)]
    (folder / "keys").write_text("".join(f"{key}\n" for key in keys))
    (folder / "keys64").write_text("".join(f"{_base64(key.encode())}\n" for key in keys))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@contextlib.contextmanager
def seafoam_cluster(folder: Path) -> Iterator[tuple[Entrance, Entrance]]:
    """The leader and a follower of three nodes."""
    with Cluster(folder / "seafoam") as cluster:
        cluster.start()
        value = value_of(0).decode()
        leader, follower = cluster.leader(), cluster.followers()[0]
        yield tuple(  # type: ignore[misc]
            Entrance(f"Seafoam's {name}", node.http_port, "/set", '{"key":"',
                     f'","value":{value}}}', folder / "keys")
            for name, node in (("leader", leader), ("follower", follower))
        )


@contextlib.contextmanager
def etcd_cluster(folder: Path) -> Iterator[Entrance]:
    """The leader of three etcd nodes, through its JSON gateway."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    names = ",".join(f"n{at}=http://127.0.0.1:{peer}" for at, (_, peer) in enumerate(ports))
    (folder / "etcd").mkdir()
    processes = []
    try:
        for at, (client, peer) in enumerate(ports):
            urls = [f"http://127.0.0.1:{port}" for port in (client, peer)]
            with (folder / "etcd" / f"{at}.log").open("w") as log:
                processes.append(subprocess.Popen(
                    ["etcd", "--name", f"n{at}", "--data-dir", str(folder / "etcd" / str(at)),
                     "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0],
                     "--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1],
                     "--initial-cluster", names, "--log-level", "error"],
                    stdout=log, stderr=log, text=True,
                ))
        yield Entrance("etcd's JSON gateway", _etcd_leader([client for client, _ in ports]),
                       "/v3/kv/put", '{"key":"', f'","value":"{_base64(value_of(0))}"}}',
                       folder / "keys64")
    finally:
        for process in processes:
            stop(process)


def _etcd_leader(ports: list[int]) -> int:
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        for port in ports:
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError, ValueError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("POST", "/v3/maintenance/status", "{}")
                answer = json.loads(connection.getresponse().read())
                connection.close()
                if answer["leader"] == answer["header"]["member_id"]:
                    return port
        time.sleep(0.1)
    raise AssertionError("etcd elects no leader")
