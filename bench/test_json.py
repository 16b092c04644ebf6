"""JSON text: check, compact and fields, beside orjson.loads and json.loads.

The documents are real where the package of country, language and subdivision codes is installed,
else made up in its likeness. Three shapes, because what costs differs: thousands of small records
(a call each), one text of hundreds of kilobytes with whitespace (bytes), and the body of a /get
(the hot path).
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench_figures import Table, alternate, faster_row, per_second, sized
from seafoam._core import json as core_json

DATABASES = ("iso3166-1", "iso3166-2", "iso639-3", "iso4217", "iso15924")
SEED = 20


def made_up_records(count: int) -> list[dict[str, Any]]:
    """Records like the package's: short strings, some of them not ASCII."""
    luck = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyzéüñøčşæß"
    return [
        {
            "alpha_2": "".join(luck.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=2)),
            "name": "".join(luck.choices(letters, k=luck.randint(4, 30))),
            "numeric": f"{luck.randint(0, 999):03d}",
            "flag": "🏳",
        }
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """The documents, as Python values, in a fixed order."""
    spec = importlib.util.find_spec("pycountry")
    if spec is None or spec.origin is None:
        return made_up_records(sized(12_000, 500))
    folder = Path(spec.origin).parent / "databases"
    found: list[dict[str, Any]] = []
    for name in DATABASES:
        text = (folder / f"{name}.json").read_text(encoding="utf-8")
        found += json.loads(text)[name.removeprefix("iso")]
    return found[:: sized(1, 20)]


@pytest.fixture(params=["small records", "one big text", "/get bodies"])
def texts(
    request: pytest.FixtureRequest, records: list[dict[str, Any]]
) -> tuple[str, list[bytes]]:
    """What it is called, and the texts of one round."""
    if request.param == "small records":
        return request.param, [json.dumps(r, ensure_ascii=False).encode() for r in records]
    if request.param == "one big text":
        whole = {"records": records}
        return request.param, [json.dumps(whole, ensure_ascii=False, indent=1).encode()]
    return request.param, [
        b'{"key":"subdivision/%d","msg_id":%d}' % (index, index) for index in range(len(records))
    ]


def reference_function(name: str) -> Callable[[bytes], object] | None:
    """The reference's function, None where it is not installed."""
    if name == "json":
        return json.loads
    if importlib.util.find_spec("orjson") is None:
        return None
    import orjson

    return orjson.loads


@pytest.mark.parametrize("reference", ["orjson", "json"])
@pytest.mark.parametrize("function", ["check", "compact", "fields"])
def test_json(
    benchmark: Any, table: Table, one_core: None, texts: tuple[str, list[bytes]],
    function: str, reference: str,
) -> None:
    shape, documents = texts
    what = f"json {function}, {shape}"
    loads = reference_function(reference)
    if loads is None:
        table.missing(what, reference, "is not installed")
        return
    call = getattr(core_json, function)

    def run(one: Callable[[bytes], object]) -> None:
        for document in documents:
            one(document)

    repeats = max(1, sized(6_000_000, 20_000) // sum(map(len, documents)))

    def subject() -> None:
        for _ in range(repeats):
            run(call)

    def other() -> None:
        for _ in range(repeats):
            run(loads)

    measured = alternate(benchmark, subject, other)
    size_bytes = repeats * sum(map(len, documents))
    table.add(
        faster_row(
            what,
            (
                per_second(size_bytes, measured.subject_seconds, "B"),
                f"{reference}.loads {per_second(size_bytes, measured.reference_seconds, 'B')}",
            ),
            (measured.speedup, measured.spread()),
            None,
        ),
        benchmark,
    )
