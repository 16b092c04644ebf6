"""Looking at a node's answers, for the tests of its API."""

from __future__ import annotations

from typing import Any

from support import Client, Response

VALID: dict[str, dict[str, Any]] = {
    "get": {"key": "k"},
    "set": {"key": "k", "value": 1},
    "cas": {"key": "k", "old_value": 1, "new_value": 2},
    "delete": {"key": "k"},
    "batch": {"ops": [{"op": "set", "key": "k", "value": 1}]},
    "scan": {},
}


def version_of(client: Client, key: str) -> int:
    return client.call("get", {"key": key}).json["version"]


def error_of(answer: Response) -> tuple[int, str, str | None]:
    """Status, code and what is said of having been applied."""
    return answer.status, answer.code, answer.json["error"].get("applied")


def scan_all(client: Client, **body: Any) -> tuple[list[str], list[Any], int]:
    """Keys and values of all pages, and how many there were."""
    keys: list[str] = []
    values: list[Any] = []
    after, pages = "", 0
    while True:
        answer = client.call("scan", {**body, "after": after})
        assert answer.status == 200, answer.body
        keys += answer.json["keys"]
        values += answer.json.get("values", [])
        pages += 1
        if "next" not in answer.json:
            return keys, values, pages
        after = answer.json["next"]
