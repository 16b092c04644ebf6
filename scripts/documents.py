"""Real documents to try a store on: countries, languages, subdivisions, currencies and scripts.

Writes one JSON line for each record of the package pycountry, ``{"key": ..., "value": {...}}``, as
``seafoam load`` takes it. Reads the package's own JSON files, nothing else.

    python scripts/documents.py > documents.jsonl
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

#: kind of document -> the file and the field that names a record.
KINDS = {
    "country": ("iso3166-1", "alpha_2"),
    "former-country": ("iso3166-3", "alpha_4"),
    "subdivision": ("iso3166-2", "code"),
    "currency": ("iso4217", "alpha_3"),
    "language": ("iso639-3", "alpha_3"),
    "language-family": ("iso639-5", "alpha_3"),
    "script": ("iso15924", "alpha_4"),
}


class DocumentsMissing(Exception):
    """The package is not installed; the message says how to install it."""


def documents() -> Iterator[tuple[str, dict[str, object]]]:
    """Every (key, value), in a fixed order."""
    spec = importlib.util.find_spec("pycountry")
    if spec is None or spec.origin is None:
        raise DocumentsMissing(
            "the package pycountry is not installed; install it with: "
            "python -m pip install 'seafoam-kv[documents]'"
        )
    folder = Path(spec.origin).parent / "databases"
    for kind, (name, field) in KINDS.items():
        records = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for record in records[name.removeprefix("iso")]:
            yield f"{kind}/{record[field]}", record


def write(path: Path) -> int:
    """Write the documents to `path`, one a line; how many there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for key, value in documents():
            file.write(json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n")
            count += 1
    return count


def main() -> int:
    try:
        for key, value in documents():
            sys.stdout.write(json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n")
    except DocumentsMissing as missing:
        print(f"documents: {missing}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
