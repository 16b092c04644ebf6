"""`make cluster`: three nodes that keep each other's documents.

Starts them on ports 3000, 3100 and 3200 with their data under .cluster/, loads the documents
through one that follows, compares all three, shows what to type, and stays until Ctrl-C. Where no
terminal is attached it stops them again and exits 0.
"""

from __future__ import annotations

import json
import signal
import sys
import time

from documents import DocumentsMissing, documents, write
from running import ROOT, Failed, RunningNode, has_terminal

CLUSTER = ROOT / ".cluster"
HTTP_PORTS = (3000, 3100, 3200)
#: Nodes name the second and the third, and so themselves too; that is enough, and harmless.
PEERS = ("127.0.0.1:3110", "127.0.0.1:3210")
#: What was loaded is on a majority at once, and on the last node a moment later.
CATCH_UP_SECONDS_MAX = 30.0
#: Documents that are asked for at once.
KEYS_PER_CALL = 1000


def status(node: RunningNode) -> dict[str, object]:
    found = json.loads(node.seafoam("status"))
    assert isinstance(found, dict)
    return found


def compare(nodes: list[RunningNode], keys_count: int) -> None:
    """Wait until every node has every key, and see that each holds every document as it was."""
    end = time.monotonic() + CATCH_UP_SECONDS_MAX
    for node in nodes:
        while status(node)["keys"] != keys_count:
            if time.monotonic() > end:
                raise Failed(f"{node.address} holds {status(node)['keys']} of {keys_count} keys")
            time.sleep(0.1)
    expected = list(documents())
    for first in range(0, len(expected), KEYS_PER_CALL):
        wanted = dict(expected[first:first + KEYS_PER_CALL])
        for node in nodes:
            values = node.call("/get", {"keys": list(wanted)})["values"]
            for (key, document), held in zip(wanted.items(), values, strict=True):
                if held != document:
                    raise Failed(f"{node.address} holds {held} at {key}, and not {document}")


def find_follower(nodes: list[RunningNode]) -> RunningNode:
    """A node that does not lead; an election may be under way."""
    end = time.monotonic() + CATCH_UP_SECONDS_MAX
    while time.monotonic() < end:
        for node in nodes:
            if status(node)["role"] == "follower":
                return node
        time.sleep(0.1)
    raise Failed("none of the three nodes follows another; see .cluster/*.log")


def show(nodes: list[RunningNode]) -> None:
    for node in nodes:
        found = status(node)
        print(f"\nhttp://{node.address}  {found['role']}, {found['keys']} keys "
              f"(process {node.process.pid})")
        print(f"    curl -d '{{\"key\":\"country/IS\"}}' http://{node.address}/get")
    print("\nAll three hold the same documents; any of them takes writes. The seafoam command:"
          "\n    source .venv/bin/activate")


def main() -> int:
    CLUSTER.mkdir(exist_ok=True)
    nodes = [
        RunningNode(CLUSTER / f"{port}.log", port, port + 10, *PEERS,
                    "--data-dir", str(CLUSTER / str(port)))
        for port in HTTP_PORTS
    ]
    try:
        for node in nodes:
            node.wait_until_ready()
        path = CLUSTER / "documents.jsonl"
        keys_count = write(path)
        follower = find_follower(nodes)
        print(follower.seafoam("load", str(path)))
        compare(nodes, keys_count)
        show(nodes)
        if not has_terminal():
            print("There is no terminal, so they are stopped again.")
            return 0
        print("They run until Ctrl-C.", flush=True)
        while all(node.process.poll() is None for node in nodes):
            time.sleep(0.5)
        raise Failed("a node has ended; see .cluster/*.log")
    except KeyboardInterrupt:
        print("\nstopping the nodes")
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for node in nodes:
            node.stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, DocumentsMissing) as failed:
        sys.exit(f"make cluster: {failed}")
    except KeyboardInterrupt:
        sys.exit("make cluster: interrupted")
    except OSError as error:
        sys.exit(f"make cluster: {error}")
