"""`make run`: a node to try things on, with real documents in it.

Starts seafoam-server on port 3000 with its data under .run/, loads the documents, shows what to
type, and stays until Ctrl-C. Where no terminal is attached it stops the node again and exits 0.
"""

from __future__ import annotations

import signal
import sys

from documents import write
from running import ROOT, Failed, RunningNode, has_terminal

RUN = ROOT / ".run"


def show(node: RunningNode) -> None:
    print(f"\nA Seafoam node runs on http://{node.address} (process {node.process.pid}, "
          f"data in .run/data).")
    print(f"A read:\n    seafoam get country/IS\n    {node.seafoam('get', 'country/IS')}")
    print("The same with curl, to paste into another terminal:")
    print(f"    curl -d '{{\"key\":\"country/IS\"}}' http://{node.address}/get")
    print("The seafoam command there:\n    source .venv/bin/activate")


def main() -> int:
    RUN.mkdir(exist_ok=True)
    # Ctrl-C reaches the node too; both stop, and this process waits for the other.
    node = RunningNode(RUN / "node.log", 3000, 3010, "--data-dir", str(RUN / "data"))
    try:
        node.wait_until_ready()
        documents = RUN / "documents.jsonl"
        write(documents)
        print(node.seafoam("load", str(documents)))
        show(node)
        if not has_terminal():
            print("There is no terminal, so the node is stopped again.")
            return 0
        print("It runs until Ctrl-C.", flush=True)
        status = node.process.wait()
        raise Failed(f"the node ended with status {status}; see .run/node.log")
    except KeyboardInterrupt:
        print("\nstopping the node")
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(f"make run: {failed}")
    except KeyboardInterrupt:
        sys.exit("make run: interrupted")
    except OSError as error:
        sys.exit(f"make run: {error}")
