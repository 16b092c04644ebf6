"""What every bench file shares: sizes, alternation, and the table of rows.

A bench measures a subject and, in the same run, the reference it is held against. The two
alternate round by round (`alternate`), so that a machine that is busier for a while is busier for
both; a row is made of the medians. The subject's rounds are pytest-benchmark's own, so
``--benchmark-json`` holds them; the reference's rounds and the row stand in its ``extra_info``.

Owns no measurement by itself and judges nothing but a row's target. A reference that is not there
is never left out in silence: `Table.missing` prints NOT MEASURED and fails, unless excused by
``--without NAME``.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

#: Tiny sizes: shows that every bench runs, says nothing about speed.
SMOKE = os.environ.get("SEAFOAM_BENCH_SMOKE", "") not in ("", "0")
#: Rounds of each measurement unless a bench says otherwise.
ROUNDS = 2 if SMOKE else 7

MET, BELOW, VOID, FIGURE, NOT_MEASURED = "met", "BELOW", "VOID", "", "NOT MEASURED"


def sized(full: int, smoke: int) -> int:
    """The size to use: `full`, or `smoke` where only running through is wanted."""
    return smoke if SMOKE else full


@dataclass
class Row:
    """One line of the table; texts are ready to print, `ratio` and `target` are as in README."""

    what: str
    measured: str
    reference: str = ""
    ratio: str = ""
    target: str = ""
    verdict: str = FIGURE


@dataclass
class Table:
    """The rows of a run, in order, and the references it may go without."""

    excused: frozenset[str] = frozenset()
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row, benchmark: Any = None) -> Row:
        """Keep `row`, and in the JSON of the benchmark it came from; smoke sizes prove nothing."""
        if SMOKE and row.verdict in (MET, BELOW):
            row.verdict = FIGURE
        self.rows.append(row)
        if benchmark is not None:
            benchmark.extra_info.setdefault("rows", []).append(vars(row))
        return row

    def missing(self, what: str, reference: str, reason: str) -> None:
        """A row without its reference: fails the bench unless `reference` is excused."""
        self.rows.append(Row(what, "", reference, verdict=NOT_MEASURED))
        if reference not in self.excused:
            pytest.fail(
                f"NOT MEASURED: {what}: {reference}: {reason} (--without {reference} allows that)",
                pytrace=False,
            )

    def has_two_cores(self, what: str) -> bool:
        """Whether two things can run at once here; without that the row `what` is missing."""
        if len(os.sched_getaffinity(0)) >= 2:
            return True
        self.missing(what, "cores", "this machine gives the bench one core only")
        return False

    def lines(self) -> list[str]:
        """The table as text."""
        head = Row("what", "measured", "reference", "ratio (spread)", "target", "verdict")
        cells = [tuple(vars(row).values()) for row in [head, *self.rows]]
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
        return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


@dataclass
class Rounds:
    """Seconds of each round, subject and reference side by side."""

    subject: list[float]
    reference: list[float]

    @property
    def subject_seconds(self) -> float:
        """The subject's median."""
        return statistics.median(self.subject)

    @property
    def reference_seconds(self) -> float:
        """The reference's median."""
        return statistics.median(self.reference)

    @property
    def speedup(self) -> float:
        """How many times faster the subject is: the ratio of the medians."""
        return self.reference_seconds / self.subject_seconds

    def spread(self, scale: float = 1.0) -> str:
        """The lowest and the highest ratio of two neighbouring rounds."""
        pairs = zip(self.reference, self.subject, strict=True)
        ratios = [scale * reference / subject for reference, subject in pairs]
        return f"{min(ratios):.2f}-{max(ratios):.2f}"


def rounds_of(benchmark: Any) -> list[float]:
    """The rounds that pytest-benchmark measured, in seconds."""
    if benchmark.stats is None:
        pytest.skip("without measuring (--benchmark-disable) there are no rows")
    return list(benchmark.stats.stats.data)


Prepare = Callable[[], Sequence[object]]


def alternate(
    benchmark: Any,
    subject: Callable[..., object],
    reference: Callable[..., object],
    *,
    prepare: Prepare = tuple,
    prepare_reference: Prepare | None = None,
    rounds: int = ROUNDS,
) -> Rounds:
    """Measure `reference` and `subject` in turn.

    `prepare` makes a call's arguments off the clock, anew for every round (fresh keys have no
    hash yet); the first pair of rounds warms up and is dropped.
    """
    reference_rounds: list[float] = []
    timer = benchmark._timer  # the one --benchmark-timer names, for both sides

    def before_subject() -> tuple[tuple[object, ...], dict[str, object]]:
        arguments = (prepare_reference or prepare)()
        start = timer()
        reference(*arguments)
        reference_rounds.append(timer() - start)
        return tuple(prepare()), {}

    benchmark.pedantic(subject, setup=before_subject, rounds=rounds, warmup_rounds=1)
    # One warm-up round before the measured ones, and their count is all that is kept.
    measured = Rounds(rounds_of(benchmark), reference_rounds[-rounds:])
    benchmark.extra_info["reference_seconds"] = measured.reference
    return measured


def faster_row(
    what: str,
    texts: tuple[str, str],
    ratio: tuple[float, str],
    at_least: float | None,
    void: str = "",
) -> Row:
    """A row whose subject should be at least so many times its reference.

    `texts` are the subject's and the reference's figures, `ratio` the figure and its spread.
    """
    verdict = FIGURE
    if void:
        verdict = f"{VOID}: {void}"
    elif at_least is not None:
        verdict = MET if ratio[0] >= at_least else BELOW
    target = "" if at_least is None else f">= {at_least:g}"
    spread = f" ({ratio[1]})" if ratio[1] else ""
    return Row(what, texts[0], texts[1], f"{ratio[0]:.2f}{spread}", target, verdict)


def bound_row(what: str, measured: str, held: tuple[float, float], target: str) -> Row:
    """A row with an upper bound: `held` is the figure and the most it may be."""
    return Row(what, measured, "", "", target, MET if held[0] <= held[1] else BELOW)


def floor_row(what: str, measured: str, held: tuple[float, float], target: str) -> Row:
    """A row with a lower bound: `held` is the figure and the least it may be."""
    return Row(what, measured, "", "", target, MET if held[0] >= held[1] else BELOW)


def per_second(count: float, took_seconds: float, unit: str = "") -> str:
    """A rate as text: 3.91 M/s, 152 k/s."""
    rate = count / took_seconds
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:.3g} {letter}{unit}/s"
    return f"{rate:.3g} {unit}/s".replace("  ", " ")
