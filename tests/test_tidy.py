"""The rules of the source itself: sizes, layers, headers, stubs, tests, words.

A rule is excused where a comment that begins with the mark (see tidy.MARK) gives the reason, on
the spot or on the line above; there may be ten such places in the whole tree.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tidy import CODE, MARK, PACKAGE, ROOT, TEXT, Function, functions, imports, tracked, tree

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 700
LINE_COLUMNS_MAX = 99
PARAMETERS_MAX = 5
EXCUSES_MAX = 10

#: A file may import only from lower rows, or what stands before it in its own; row 0 is open to
#: all. A new file gets a place here.
LAYERS: list[list[str]] = [
    ["errors", "version", "_core.limits", "_core.atomics", "_core.pack", "_core.status",
     "_core.buffer"],
    ["addresses", "config", "_core.segment_system", "_core.segment", "_core.message",
     "_core.json_scan", "_core.json", "_core.json_equal", "_core.http"],
    ["_core.wire", "_core.command_check", "_core.wire_change", "_core.wire_peer",
     "_core.wire_snapshot", "_core.log"],
    ["_core.map_layout", "_core.map_protocol", "_core.map_scan", "_core.map_reader",
     "_core.arena", "_core.map_words", "_core.map_verify", "_core.map_snapshot",
     "_core.map_writer", "_core.map", "_core.wal_recovery", "_core.wal", "_core.quorum",
     "_core.confchange", "_core.outbox", "_core.progress", "_core.reads", "_core.replication"],
    ["_core.raft", "_core.store", "_core.read_path"],
    ["ports", "reports", "calls", "membership_wire", "membership", "writes", "leadership",
     "openapi", "api_answer", "api_fields", "api", "unjoined", "snapshots",
     "snapshot_transfer", "node", "founding_wire", "founding_view", "founding"],
    ["clock", "descriptors", "_core.disk_loop", "data_directory", "founding_store",
     "snapshot_store", "disk",
     "http_budget", "http_turns", "http_careful", "http_service", "http_connection", "http_server",
     "client", "loading", "peer_connection", "peer_contact", "peer_log", "peers", "contacts"],
    ["joining", "repair", "server"],
    ["__init__", "cli", "__main__"],
]
PLACE = {name: (row, column) for row, names in enumerate(LAYERS)
         for column, name in enumerate(names)}
#: The first row that may know what time it is, be lucky, or touch the world.
WORLD_ROW = 6
WORLD = {"!time", "!datetime", "!random", "!secrets", "!uuid", "!socket", "!threading", "!mmap",
         "!subprocess", "!select", "!tempfile"}
#: What each of these is covered by, where that is not tests/test_NAME*.py.
TESTED_BY = {
    "__init__": "test_packaging.py",
    "__main__": "test_cli.py",
    "client": "test_cli.py",
    "loading": "test_cli.py",
    "version": "test_packaging.py",
    "ports": "test_disk.py",
    "_core.buffer": "test_json.py",
    "_core.json_scan": "test_json.py",
    "_core.map_verify": "test_map_writer.py",
    "_core.map_words": "test_map_writer.py",
    "_core.outbox": "test_raft.py",
    "_core.progress": "test_raft_replication.py",
    "_core.reads": "test_raft_reads.py",
    "_core.replication": "test_raft_replication.py",
    "_core.segment_system": "test_segment.py",
}


def show(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def excused(path: Path, line: int) -> bool:
    lines = lines_of(path)
    return any(MARK.search(text) for text in lines[max(0, line - 2):line])


def fail_if_any(broken: list[str]) -> None:
    assert not broken, "\n" + "\n".join(broken)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def module_files() -> list[Path]:
    """One entry a file of the package that has a place in the layers."""
    return [path for path in tree({".py", ".pyx", ".pxd", ".h"}, PACKAGE)
            if path.parent.name != "_core" or path.stem != "__init__"]


ALL_FUNCTIONS: list[Function] = [
    function for path in tree({".py", ".pyx", ".h", ".c"}) for function in functions(path)
]


def test_the_reader_of_the_tree_sees_it() -> None:
    """The rules below would pass on an empty list: the counts show that they read something."""
    assert len(tree(CODE)) > 20
    assert len(ALL_FUNCTIONS) > 100
    assert {function.kind for function in ALL_FUNCTIONS} >= {"def", "cdef", "c"}


def test_functions_fit_a_screen() -> None:
    fail_if_any([
        f"{show(f.path)}:{f.line} {f.name} has {f.lines} lines (at most {FUNCTION_LINES_MAX})"
        for f in ALL_FUNCTIONS if f.lines > FUNCTION_LINES_MAX and not excused(f.path, f.line)
    ])


def test_functions_take_few_parameters() -> None:
    """Public Python signatures are exempt: there, names at the call tell the arguments apart."""
    fail_if_any([
        f"{show(f.path)}:{f.line} {f.name} takes {f.parameters} (at most {PARAMETERS_MAX})"
        for f in ALL_FUNCTIONS
        if f.parameters > PARAMETERS_MAX and not excused(f.path, f.line)
        and not (f.kind == "def" and (not f.name.startswith("_") or f.name.endswith("__")))
    ])


def test_files_fit_a_sitting() -> None:
    fail_if_any([
        f"{show(path)} has {len(lines)} lines (at most {FILE_LINES_MAX})"
        for path in tree(CODE) for lines in [lines_of(path)]
        if len(lines) > FILE_LINES_MAX and not any(MARK.search(text) for text in lines[:5])
    ])


def test_lines_fit_a_page() -> None:
    fail_if_any([
        f"{show(path)}:{at} has {len(text)} columns (at most {LINE_COLUMNS_MAX})"
        for path in tree(CODE | {".sh"}) for at, text in enumerate(lines_of(path), 1)
        if len(text) > LINE_COLUMNS_MAX and not excused(path, at)
    ])


def test_excuses_are_few() -> None:
    places = [f"{show(path)}:{at}" for path in tree(CODE)
              for at, text in enumerate(lines_of(path), 1) if MARK.search(text)]
    assert len(places) <= EXCUSES_MAX, places


def test_every_module_has_a_place_in_the_layers() -> None:
    names = {module_of(path) for path in module_files()}
    assert not names - PLACE.keys(), f"no place in LAYERS: {sorted(names - PLACE.keys())}"
    assert not PLACE.keys() - names, f"in LAYERS, but no file: {sorted(PLACE.keys() - names)}"


@pytest.mark.parametrize("path", [
    path for path in tree(CODE, PACKAGE) if module_of(path) in PLACE
], ids=show)
def test_imports_point_down(path: Path) -> None:
    own = module_of(path)
    row = PLACE[own][0]
    broken = []
    for line, name in imports(path):
        if name in WORLD and row < WORLD_ROW:
            broken.append(f"{show(path)}:{line} uses {name[1:]}: only rows {WORLD_ROW}+ may")
        elif name == "!pickle":
            broken.append(f"{show(path)}:{line} uses pickle: nothing is unpickled, ever")
        elif not name.startswith("!") and name not in PLACE:
            broken.append(f"{show(path)}:{line} imports {name}, which has no place in LAYERS")
        elif not name.startswith("!") and name != own and not PLACE[name] < PLACE[own] \
                and PLACE[name][0] != 0:
            broken.append(f"{show(path)}:{line} {own} (row {row}) imports {name} "
                          f"(row {PLACE[name][0]}), which is not below it")
    fail_if_any(broken)


@pytest.mark.parametrize(("pattern", "allowed", "why"), [
    (r"\b__atomic_", "atomics.h", "the only atomic operations"),
    (r"\bvolatile\b", "", "orderings are named, in atomics.h"),
    (r"\bmmap\(", "segment.pyx", "the only user of mmap"),
    (r"^\s*(?:include |DEF )", "", "no textual inclusion in Cython"),
    (r"^\s*assert\b", "", "python -O strips assert: use ensure"),
    (r"\bclock_gettime\b|\btime\(NULL\)|\brand\(\)", "disk_loop.pyx", "no clock, no luck"),
])
def test_what_only_one_file_may_do(pattern: str, allowed: str, why: str) -> None:
    fail_if_any([
        f"{show(path)}:{at} {text.strip()!r}: {why}"
        for path in tree({".py", ".pyx", ".pxd", ".h"}, PACKAGE) if path.name != allowed
        for at, text in enumerate(lines_of(path), 1)
        if re.search(pattern, re.split(r"#|//|/\*|^\s*\*", text)[0])
    ])


def test_every_file_says_what_it_is() -> None:
    """A header comment or a docstring opens each file."""
    opening = {".py": ('"""',), ".pyx": ('"""', "#"), ".pxd": ("#",),
               ".h": ("/*", "//"), ".c": ("/*", "//")}
    broken = []
    for path in tree(CODE - {".pyi"}):
        lines = [text for text in lines_of(path)
                 if text and not text.startswith(("#!", "# cython:", "#cython:"))]
        if lines and not lines[0].startswith(opening[path.suffix]):
            broken.append(f"{show(path)} opens with {lines[0]!r}")
    fail_if_any(broken)


def test_every_core_has_its_contract_and_its_stub() -> None:
    fail_if_any([
        f"{show(path)} has no {suffix}" for path in tree({".pyx"}, PACKAGE)
        for suffix in (".pxd", ".pyi") if not path.with_suffix(suffix).exists()
    ])


def test_every_module_has_its_test() -> None:
    names = {path.name for path in tree({".py"}, ROOT / "tests")}
    broken = []
    for module in sorted(PLACE):
        wanted = TESTED_BY.get(module)
        stem = f"test_{module.removeprefix('_core.')}"
        if wanted not in names and not any(name.startswith(stem) for name in names):
            broken.append(f"{module} has no {wanted or stem + '*.py'} in tests/")
    fail_if_any(broken)


def test_nothing_is_left_unfinished_and_no_machine_is_named() -> None:
    words = re.compile(r"\b(?:TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b|\bfor no[w]\b|not implemente[d] yet")
    paths = re.compile(r"(?:^|[\s\"'`(=:])/(?:wor[k]|roo[t]|hom[e]|tmp/(?:pla[n]|scratc[h]))/")
    broken = []
    for path in tree(TEXT):
        if "data" in path.parts or path.name == "LICENSE":
            continue
        try:
            lines = lines_of(path)
        except UnicodeDecodeError:
            continue
        broken += [f"{show(path)}:{at} {text.strip()[:80]!r}" for at, text in enumerate(lines, 1)
                   if words.search(text) or paths.search(text)]
    fail_if_any(broken)


def test_what_is_generated_is_not_tracked() -> None:
    files = tracked()
    if files is None:
        pytest.skip("not a git checkout")
    made = re.compile(r"\.(?:so|o|pyc|html|whl|tar\.gz|orig|log)$|^seafoam/.*\.c$|^(build|dist)/")
    assert [name for name in files if made.search(name)] == []
