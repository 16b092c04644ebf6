from seafoam._core.http import Hosts, Responder
from seafoam._core.map import MapReader

STOP_END: int
STOP_NEED_MORE: int
STOP_OTHER: int
STOP_CAREFUL: int
STOP_FULL: int
MANY_BYTES_MAX: int

class ReadPath:
    stop: int
    used_bytes: int
    head_bytes: int
    call_bytes: int
    answered_count: int
    def __init__(
        self, reader: MapReader, hosts: Hosts, responder: Responder, errors: dict[str, bytes]
    ) -> None: ...
    @property
    def name(self) -> str: ...
    def serve(self, data: bytes | bytearray) -> bytes: ...
    def parse(self, data: bytes | bytearray) -> None: ...
