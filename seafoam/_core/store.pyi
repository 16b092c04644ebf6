from seafoam._core.map import MapWriter
from seafoam._core.message import Entry

class OperationResult:
    code: str | None
    value: bytes | None
    version: int
    deleted: bool

class CommandResult:
    index: int
    results: list[OperationResult]

class Store:
    applied_index: int
    def __init__(self, writer: MapWriter, applied_index: int = 0) -> None: ...
    def apply(self, entry: Entry) -> CommandResult | None: ...
