"""`make run`: a node to try things on, with real documents in it.

Starts seafoam-server on port 3000 with its data under .run/, loads the documents, shows what to
type, and stays until Ctrl-C. Where no terminal is attached it stops the node again and exits 0.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from pathlib import Path

from documents import write

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".run"
HTTP_PORT, PEER_PORT = 3000, 3010
NODE = f"127.0.0.1:{HTTP_PORT}"
BIN = Path(sys.executable).parent
#: A start that takes longer than this has gone wrong; a full log of some GB takes less.
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0


class Failed(Exception):
    """What went wrong, in a sentence."""


def is_ready() -> bool:
    connection = http.client.HTTPConnection(NODE, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def start(log: Path) -> subprocess.Popen[bytes]:
    """A node that is ready, with what it says going to `log`."""
    command = [str(BIN / "seafoam-server"), str(HTTP_PORT), str(PEER_PORT),
               "--data-dir", str(RUN / "data")]
    with log.open("wb") as output:
        node = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    end = time.monotonic() + START_SECONDS_MAX
    while node.poll() is None and time.monotonic() < end:
        if is_ready():
            # Another node on the port would answer too, while ours is about to give up.
            time.sleep(0.1)
            if node.poll() is None:
                return node
        time.sleep(0.02)
    stop(node)
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [f"see {log}"]
    raise Failed(f"the node cannot start: {said[-1].rpartition('cannot start: ')[2]}")


def stop(node: subprocess.Popen[bytes]) -> None:
    if node.poll() is None:
        node.terminate()
    try:
        node.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def seafoam(*arguments: str) -> str:
    """What the command line prints for `arguments`."""
    done = subprocess.run([str(BIN / "seafoam"), "--node", NODE, *arguments],
                          stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(f"seafoam {' '.join(arguments)} ended with status {done.returncode}")
    return done.stdout.strip()


def show(node: subprocess.Popen[bytes]) -> None:
    print(f"\nA Seafoam node runs on http://{NODE} (process {node.pid}, data in .run/data).")
    print(f"A read:\n    seafoam get country/IS\n    {seafoam('get', 'country/IS')}")
    print("The same with curl, to paste into another terminal:")
    print(f"    curl -d '{{\"key\":\"country/IS\"}}' http://{NODE}/get")
    print("The seafoam command there:\n    source .venv/bin/activate")


def main() -> int:
    RUN.mkdir(exist_ok=True)
    # Ctrl-C reaches the node too; both stop, and this process waits for the other.
    node = start(RUN / "node.log")
    try:
        documents = RUN / "documents.jsonl"
        write(documents)
        print(seafoam("load", str(documents)))
        show(node)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            print("There is no terminal, so the node is stopped again.")
            return 0
        print("It runs until Ctrl-C.", flush=True)
        status = node.wait()
        raise Failed(f"the node ended with status {status}; see .run/node.log")
    except KeyboardInterrupt:
        print("\nstopping the node")
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop(node)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(f"make run: {failed}")
    except KeyboardInterrupt:
        sys.exit("make run: interrupted")
    except OSError as error:
        sys.exit(f"make run: {error}")
