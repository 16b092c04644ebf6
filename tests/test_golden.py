"""The golden runner: what it compares, what it refuses, what it rewrites."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from golden import DATA, check, files_of, replayed, rewrite

ROOT = Path(__file__).resolve().parent.parent
STORY = """\
# Counting goes on from block to block.
count
----
1

count
count
----
2
3
"""


def counter():
    seen = []

    def execute(command: str) -> str:
        seen.append(command)
        return str(len(seen))

    return execute


def test_a_true_story_passes_and_stays_as_it_is(tmp_path):
    assert replayed(STORY, counter()) == STORY
    path = tmp_path / "story.txt"
    path.write_text(STORY)
    check(path, counter())
    assert not rewrite(path, counter()) and path.read_text() == STORY


@pytest.mark.parametrize(("told", "difference"), [
    (STORY.replace("\n3\n", "\n4\n"), "-4\n+3"),
    (STORY.replace("\n3\n", "\n3\n4\n"), "-4"),
    (STORY.replace("\n3\n", "\n"), "+3"),
    (STORY.replace("1\n\n", "\n\n"), "+1"),
])
def test_a_false_story_fails_with_the_difference_and_can_be_rewritten(tmp_path, told, difference):
    path = tmp_path / "story.txt"
    path.write_text(told)
    with pytest.raises(AssertionError) as failure:
        check(path, counter())
    assert difference in str(failure.value)
    assert rewrite(path, counter())
    check(path, counter())


@pytest.mark.parametrize("broken", [
    "count\n", "count\n\n----\n1\n", "----\n1\n", "count\n---\n1\n",
])
def test_a_block_that_is_none_is_refused(broken):
    with pytest.raises(ValueError, match="line 1 begins no block"):
        replayed(broken, counter())


@pytest.mark.parametrize("printed", ["", "a\n", "a\n\nb", "a\n \nb"])
def test_an_output_that_could_not_be_read_back_is_refused(printed):
    with pytest.raises(ValueError, match="line 1: 'say' prints an empty line"):
        replayed("say\n----\n", lambda command: printed)


def test_a_folder_without_scenarios_is_no_folder_that_passes():
    with pytest.raises(ValueError, match="no scenario"):
        files_of("no_such_folder")


def test_the_command_finds_who_speaks_a_file(tmp_path):
    folder = tmp_path / "quorum"
    folder.mkdir()
    path = folder / "story.txt"
    path.write_text("committed (1) 1=5\n----\n1=5: 4\n")
    for word in ("rewritten", "as it was"):
        done = subprocess.run([sys.executable, "-m", "tests.golden", "--rewrite", str(path)],
                              cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == f"{path}: {word}\n"
    assert path.read_text() == "committed (1) 1=5\n----\n1=5: 5\n"
    usage = subprocess.run([sys.executable, "-m", "tests.golden"], cwd=ROOT, timeout=60,
                           capture_output=True, text=True, check=False)
    assert usage.returncode == 2 and "--rewrite FILE" in usage.stderr


def test_every_folder_of_scenarios_has_its_speaker():
    """A file that nothing runs would be a promise that nothing keeps."""
    folders = {path.parent.name for path in DATA.glob("*/*.txt")
               if "\n----\n" in path.read_text(encoding="utf-8")}
    assert folders
    for name in sorted(folders):
        speaker = (ROOT / "tests" / f"test_{name}.py").read_text(encoding="utf-8")
        assert "def interpreter(" in speaker and f'files_of("{name}")' in speaker
