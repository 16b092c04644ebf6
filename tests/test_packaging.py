"""What is installed, declared and written around the code agrees with it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import seafoam
from documents import documents
from seafoam._core import json, limits
from tidy import ROOT

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_version_is_said_once() -> None:
    try:
        installed = importlib.metadata.version("seafoam-kv")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed, only built in place")
    assert installed == seafoam.__version__


def test_all_names_exist() -> None:
    assert all(hasattr(seafoam, name) for name in seafoam.__all__)


def test_importing_it_loads_nothing_heavy() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, seafoam.cli; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()
    assert not {"uvloop", "asyncio", "orjson", "httptools", "http.client",
                "seafoam.server"} & set(loaded)


def test_every_dependency_has_its_reason_in_the_readme() -> None:
    declared = re.search(r"^dependencies = \[(.*?)\]", PYPROJECT, re.M | re.S)
    assert declared
    names = re.findall(r'"([a-z0-9-]+)>=', declared[1])
    rows = re.findall(r"^\| \[([a-z0-9-]+)\]\(", README, re.M)
    assert sorted(names) == sorted(rows)


def test_every_requirement_has_a_lower_bound() -> None:
    lists = re.findall(r"^(?:requires|dependencies|documents|test|bench|dev) = \[(.*?)\]$",
                       PYPROJECT, re.M | re.S)
    wanted = [name for text in lists for name in re.findall(r'"([^"]+)"', text)]
    assert len(wanted) > 15
    assert [name for name in wanted
            if ">=" not in name and not name.startswith("seafoam-kv[")] == []


def test_make_help_lists_every_verb() -> None:
    verbs = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
    told = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True,
                          check=True, env={**os.environ, "MAKEFLAGS": ""}).stdout
    assert set(re.findall(r"^  make ([a-z]+) +\S", told, re.M)) == verbs
    assert verbs >= {"run", "test", "bench", "lint"}


def test_the_readme_names_only_files_and_verbs_that_exist() -> None:
    for path in re.findall(r"\]\(((?!http)[^)]+)\)|`((?:tests|docs|bench|scripts|seafoam)/[^`]*)`",
                           README):
        assert (ROOT / "".join(path)).exists(), path
    for verb in re.findall(r"\bmake ([a-z]+)\b", README):
        assert re.search(rf"^{verb}:", MAKEFILE, re.M) or verb in ("and", "build"), verb


def test_stubs_say_what_the_modules_have() -> None:
    lint = subprocess.run([sys.executable, "scripts/lint.py", "stubs"], cwd=ROOT,
                          capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr


# What a machine lacks is one sentence


def set_up(step: str, venv: Path, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "scripts/set_up.sh", str(venv), step], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, **variables}, timeout=60,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert not venv.exists()
    return done.stderr


def fake_python(folder: Path, script: str) -> str:
    """A python that runs `script`, in sh, before it is the real one."""
    fake = folder / "python"
    fake.write_text(f"#!/bin/sh\n{script}\nexec '{sys.executable}' \"$@\"\n")
    fake.chmod(0o755)
    return str(fake)


def test_no_compiler_is_a_sentence(tmp_path: Path) -> None:
    said = set_up("python", tmp_path / "venv", PYTHON=sys.executable, CC="no-such-compiler")
    assert "no-such-compiler" in said and "apt-get install build-essential" in said


def test_no_python_that_is_new_enough_is_a_sentence(tmp_path: Path) -> None:
    said = set_up("python", tmp_path / "venv", PYTHON=fake_python(tmp_path, "exit 1"))
    assert "3.10" in said and "apt-get install python3 " in said


def test_no_venv_module_is_a_sentence(tmp_path: Path) -> None:
    fake = fake_python(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac')
    said = set_up("python", tmp_path / "venv", PYTHON=fake)
    assert "apt-get install python3-venv" in said


def test_no_headers_is_a_sentence(tmp_path: Path) -> None:
    fake = fake_python(tmp_path, 'case "$2" in *Python.h*) echo /none/Python.h; exit;; esac')
    said = set_up("python", tmp_path / "venv", PYTHON=fake, CC="true")
    assert "/none/Python.h" in said and "apt-get install python3-dev" in said


def test_a_build_mode_that_is_none_is_refused() -> None:
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "SEAFOAM_BUILD": "fast"})
    assert done.returncode == 1
    assert done.stderr.startswith("setup.py: SEAFOAM_BUILD='fast' is none of release, ")


@pytest.mark.parametrize("script", [".ci/run", "scripts/set_up.sh", "scripts/check_wheel.sh"])
def test_scripts_are_sound_and_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


# The documents


def test_the_documents_are_many_distinct_and_not_ascii() -> None:
    found = dict(documents())
    assert len(found) == len(list(documents())) > 10_000
    assert {"country/IS", "language/isl", "currency/ISK", "subdivision/IS-1"} <= found.keys()
    assert any(not str(value["name"]).isascii() for value in found.values())
    assert max(len(key.encode()) for key in found) <= limits.KEY_BYTES_MAX


def test_the_documents_are_written_one_a_line() -> None:
    lines = subprocess.run([sys.executable, "scripts/documents.py"], cwd=ROOT, check=True,
                           capture_output=True).stdout.splitlines()
    assert len(lines) == len(list(documents()))
    for line in lines:
        assert [(name, kind) for name, kind, _ in json.fields(line)] == [
            ("key", "string"), ("value", "object")]
