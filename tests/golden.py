"""Golden scenarios: files of commands with the output they must have, read as stories.

    # What a line like this one says is for the reader.
    simple v1
    ----
    voters=(1)

A block is command lines, a line of four dashes, and all that its commands print, in order, up to a
blank line. Commands of one file share one interpreter, so that a file tells one story from its top
to its end. The files of tests/data/NAME/ are spoken by `interpreter()` in tests/test_NAME.py: it
makes a fresh one, a function from a command to its output.

Owns the format only. Must never pass over what it does not understand: a block without its dashes
and a blank line inside an output are errors. `python -m tests.golden --rewrite FILE ...` writes
what the commands print today into the files; the difference is then for a person to judge.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
DASHES = "----"

Interpreter = Callable[[str], str]


def files_of(name: str) -> list[Path]:
    """The scenario files that tests/test_NAME.py speaks; there is always one."""
    found = sorted((DATA / name).glob("*.txt"))
    if not found:
        raise ValueError(f"there is no scenario in {DATA / name}")
    return found


def replayed(text: str, execute: Interpreter) -> str:
    """The scenario with what its commands print now in place of what is written there."""
    out: list[str] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].startswith("#"):
            out.append(lines[at].rstrip())
            at += 1
            continue
        first = at + 1
        commands = []
        while at < len(lines) and lines[at].strip() and lines[at] != DASHES:
            commands.append(lines[at])
            at += 1
        if at == len(lines) or lines[at] != DASHES or not commands:
            raise ValueError(f"line {first} begins no block: commands, {DASHES}, their output")
        out += [*commands, DASHES]
        for command in commands:
            printed = execute(command)
            if not all(line.strip() for line in printed.split("\n")):
                raise ValueError(f"line {first}: {command!r} prints an empty line")
            out += printed.split("\n")
        while at < len(lines) and lines[at].strip():
            at += 1
    return "\n".join(out) + "\n"


def check(path: Path, execute: Interpreter) -> None:
    """Fail with the difference, if the file's commands print anything else than it says."""
    told = path.read_text(encoding="utf-8")
    difference = "\n".join(difflib.unified_diff(
        told.splitlines(), replayed(told, execute).splitlines(),
        f"{path.name} as written", f"{path.name} as run", lineterm="", n=5))
    assert not difference, "\n" + difference


def rewrite(path: Path, execute: Interpreter) -> bool:
    """Write what the commands print into the file; whether that changed it."""
    told = path.read_text(encoding="utf-8")
    now = replayed(told, execute)
    path.write_text(now, encoding="utf-8")
    return now != told


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] != "--rewrite":
        print("usage: python -m tests.golden --rewrite FILE ...", file=sys.stderr)
        return 2
    for name in arguments[1:]:
        path = Path(name).resolve()
        speaker = importlib.import_module(f"test_{path.parent.name}")
        print(f"{name}: {'rewritten' if rewrite(path, speaker.interpreter()) else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.exit(main(sys.argv[1:]))
