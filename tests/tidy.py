"""Reads the tree's source for tests/test_tidy.py: which files, which functions, which imports.

Owns no rule; those are in the test. Must never import the project, so that it can judge a tree
that does not build. Cython and C are read line by line: enough to find where a definition begins
and ends and what it takes, given that the tree is indented as its linters want it.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "seafoam"
CODE = {".py", ".pyx", ".pxd", ".pyi", ".h", ".c"}
TEXT = CODE | {".md", ".toml", ".in", ".sh", ".json", ".txt", ""}
#: Folders that hold what was made, not what was written.
MADE = {"build", "dist", "__pycache__", "seafoam-data", "node_modules"}
#: What excuses one definition, line or file from one rule; it stands there, or on the line above.
MARK = re.compile(r"(?:#|//|/\*) tid[y]: \S")

CYTHON_DEF = re.compile(r"^( *)(?:async +)?(def|cdef|cpdef)\b(?! +(?:class|extern|enum|struct)\b)")
IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<base>[.\w]+)\s+c?import\s+(?P<names>\(?[^#]*)"
    r"|c?import\s+(?P<plain>[\w., ]+)|cdef extern from \"(?P<header>[\w.]+)\""
    r"|#\s*include \"(?P<include>[\w.]+)\")"
)


class Function(NamedTuple):
    """One definition: its parameters without self and cls, and how many lines it takes."""

    path: Path
    line: int
    name: str
    kind: str  # "def" where Python can call it by name, else "cdef" or "c"
    parameters: int
    lines: int


def tree(suffixes: set[str], under: Path = ROOT) -> list[Path]:
    """Every written file below `under` with one of the suffixes, in a fixed order."""
    found = []
    for folder, folders, names in under.walk() if hasattr(under, "walk") else _walk(under):
        folders[:] = sorted(
            name for name in folders
            if name not in MADE and not name.endswith(".egg-info")
            and (not name.startswith(".") or name == ".ci")
        )
        found += [folder / name for name in sorted(names) if Path(name).suffix in suffixes]
    return found


def _walk(under: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    # Path.walk is new in Python 3.12.
    import os

    for folder, folders, names in os.walk(under):
        yield Path(folder), folders, names


def tracked() -> list[str] | None:
    """What git tracks, or None where this is not a checkout (an unpacked sdist)."""
    try:
        answer = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.splitlines()


def functions(path: Path) -> list[Function]:
    """Every function the file defines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return list(_python_functions(path, text))
    if path.suffix == ".pyx":
        return list(_cython_functions(path, text.splitlines()))
    if path.suffix in {".h", ".c"}:
        return list(_c_functions(path, text.splitlines()))
    return []


def _python_functions(path: Path, text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = sum(name not in ("self", "cls") for name in names)
        count += (arguments.vararg is not None) + (arguments.kwarg is not None)
        yield Function(path, node.lineno, node.name, "def", count,
                       (node.end_lineno or node.lineno) - node.lineno + 1)


def _cython_functions(path: Path, lines: list[str]) -> Iterator[Function]:
    for at, line in enumerate(lines):
        begin = CYTHON_DEF.match(line)
        if not begin:
            continue
        head, last = _to_closing_parenthesis(lines, at)
        # A definition's head ends in a colon; a declaration or a variable's does not.
        if "(" not in head or not re.search(r"\)[^()=]*:\s*(?:#.*)?$", head):
            continue
        name = re.search(r"(\w+)\s*\(", head)
        indent, end = len(begin[1]), last
        for later in range(last + 1, len(lines)):
            body = lines[later]
            if body.strip() and len(body) - len(body.lstrip()) <= indent:
                break
            if body.strip():
                end = later
        kind = "cdef" if begin[2] == "cdef" else "def"
        yield Function(path, at + 1, name[1] if name else "?", kind,
                       _count_parameters(head), end - at + 1)


def _c_functions(path: Path, lines: list[str]) -> Iterator[Function]:
    at = 0
    while at < len(lines):
        line = lines[at]
        if not re.match(r"[A-Za-z_]", line) or line.startswith(("typedef", "extern \"C\"")):
            at += 1
            continue
        head, last = _to_closing_parenthesis(lines, at)
        while last + 1 < len(lines) and not re.search(r"[;{}]\s*(?:/[/*].*)?$", lines[last]):
            last += 1
            head += " " + lines[last].strip()
        name = re.search(r"(\w+)\s*\(", head)
        if name is None or "{" not in head[name.end():] or "=" in head[:name.start()]:
            at = last + 1
            continue
        end = last
        while end < len(lines) - 1 and not lines[end].startswith("}") and "}" not in head:
            end += 1
        yield Function(path, at + 1, name[1], "c", _count_parameters(head), end - at + 1)
        at = end + 1


def _to_closing_parenthesis(lines: list[str], at: int) -> tuple[str, int]:
    """The text from line `at` to where its parentheses balance, and the last line's number."""
    head, depth, last = "", 0, at
    for last in range(at, min(at + 40, len(lines))):
        code = lines[last].split("#")[0] if "#" in lines[last] else lines[last]
        head += " " + code.strip()
        depth += code.count("(") - code.count(")")
        if depth <= 0:
            break
    return head, last


def _count_parameters(head: str) -> int:
    inside, depth, parts = "", 0, []
    for character in head[head.index("("):]:
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            break
        if character == "," and depth == 1:
            parts.append(inside)
            inside = ""
        else:
            inside += character
    parts.append(inside)
    named = [part.strip(" (") for part in parts]
    skipped = ("", "*", "/", "void", "self", "cls")
    return sum(name not in skipped and not re.fullmatch(r"\w+ (self|cls)", name) for name in named)


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module below seafoam) of every import, cimport, and use of a header of `_core`."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in {".py", ".pyi"}:
        return list(_python_imports(ast.parse(text)))
    found = []
    lines = text.splitlines()
    for at, line in enumerate(lines):
        match = IMPORT.match(line)
        if not match:
            continue
        header = match["header"] or match["include"]
        if header and (PACKAGE / "_core" / header).exists():
            found.append((at + 1, f"_core.{Path(header).stem}"))
        elif match["plain"]:
            names = [name.split(" as ")[0].strip() for name in match["plain"].split(",")]
            found += [(at + 1, module) for name in names for module in _below(name, [])]
        elif match["base"]:
            listed, _ = _to_closing_parenthesis(lines, at)
            names = re.split(r"c?import", listed, maxsplit=1)[1].strip(" ()").split(",")
            names = [name.split(" as ")[0].strip() for name in names]
            found += [(at + 1, module) for module in _below(match["base"], names)]
    return found


def _python_imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from ((node.lineno, name) for name in _below(alias.name, []))
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = [alias.name for alias in node.names]
            yield from ((node.lineno, name) for name in _below(base, names))


def _below(base: str, names: list[str]) -> list[str]:
    """The modules an import names: 'seafoam._core' + ['json'] is '_core.json'; others as '!x'."""
    if base.startswith("."):
        raise AssertionError(f"a relative import ({base}): the tree imports by full names")
    if base in ("seafoam", "seafoam._core"):
        folder = "" if base == "seafoam" else "_core."
        modules = [folder + name for name in names if _is_module(folder + name)]
        return modules or ["__init__" if base == "seafoam" else "_core"]
    if base.startswith("seafoam."):
        return [base.removeprefix("seafoam.")]
    return ["!" + base.split(".")[0]]


def _is_module(name: str) -> bool:
    stem = PACKAGE / name.replace(".", "/")
    return any(stem.with_suffix(suffix).exists() for suffix in (".py", ".pyx", ".pxd", ".h"))
