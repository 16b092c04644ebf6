"""Copies of the source tree with small changes in them, for builds that must not be the real one.

Owns what it is given as a target, which lies below build/. Never changes the tree it copies. A
file is written only where its content differs, and a new one keeps its time, so that a build of
the copy redoes only what the change needs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import builds

SUFFIXES = {".pyx", ".pxd", ".pyi", ".py", ".h", ".c", ".toml", ".md", ".in"}


@dataclass(frozen=True)
class Edit:
    """One change: in this file, this text, which must be there exactly once, becomes that."""

    path: str
    old: str
    new: str


def changed(edits: tuple[Edit, ...]) -> dict[Path, str]:
    """The files that the edits change, as they are afterwards. Raises LookupError."""
    texts: dict[Path, str] = {}
    for edit in edits:
        path = Path(edit.path)
        text = texts.get(path) or (builds.ROOT / path).read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise LookupError(f"{edit.path} holds this text {text.count(edit.old)} times, "
                              f"not once:\n{edit.old}")
        texts[path] = text.replace(edit.old, edit.new)
    return texts


def sync_tree(target: Path, edits: tuple[Edit, ...] = ()) -> None:
    """Makes `target` a copy of the sources and the tests, with the edits in it."""
    texts = changed(edits)
    root = builds.ROOT
    paths = [path for path in root.iterdir() if path.is_file() and not path.name.startswith(".")]
    for folder in ("seafoam", "tests"):
        paths += [path for path in (root / folder).rglob("*")
                  if path.suffix in SUFFIXES and "__pycache__" not in path.parts]
    for path in paths:
        name = path.relative_to(root)
        content = texts[name].encode() if name in texts else path.read_bytes()
        copied = target / name
        if copied.exists() and copied.read_bytes() == content:
            continue
        is_new = not copied.exists()
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(content)
        if is_new and name not in texts:
            os.utime(copied, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
