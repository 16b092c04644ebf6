from collections.abc import Sequence

SEGMENT_VERSION: int
META_VERSION: int
COMMAND_VERSION: int
FOUNDING_VERSION: int
SEGMENT_HEADER_BYTES: int
RECORD_HEADER_BYTES: int
FRONT_BYTES: int
META_BYTES: int
HASH_SEED_BYTES: int
RECORD_ENTRY: int
RECORD_HARD_STATE: int
RECORD_MARKER: int
RECORD_ROTATION: int
RECORD_BASE: int
RECORD_FRONT: int
OPERATION_GET: int
OPERATION_SET: int
OPERATION_CAS: int
OPERATION_DELETE: int
FLAG_IF_ABSENT: int
FLAG_BY_VERSION: int
FLAG_ERROR_IF_NOT_KEY: int
ADDRESS_BYTES_MAX: int

class Operation:
    kind: int
    flags: int
    key: bytes
    value: bytes | None
    old_value: bytes | None
    old_version: int
    @staticmethod
    def get(key: bytes) -> Operation: ...
    @staticmethod
    def set(key: bytes, value: bytes, *, if_absent: bool = False) -> Operation: ...
    @staticmethod
    def cas(
        key: bytes,
        value: bytes,
        *,
        old_value: bytes | None = None,
        old_version: int | None = None,
    ) -> Operation: ...
    @staticmethod
    def delete(key: bytes, *, error_if_not_key: bool = False) -> Operation: ...

class Founding:
    cluster_id: int
    hash_seed: bytes
    members: tuple[tuple[int, str], ...]

def is_blank(data: bytes, begin: int = 0) -> bool: ...
def encode_command(operations: list[Operation]) -> bytes: ...
def decode_command(data: bytes) -> list[Operation]: ...
def stamp_command(data: bytes, origin_id: int, number: int) -> bytes: ...
def command_stamp(data: bytes) -> tuple[int, int]: ...
def command_cost(data: bytes) -> int: ...
def encode_founding(
    cluster_id: int, hash_seed: bytes, members: Sequence[tuple[int, str]]
) -> bytes: ...
def decode_founding(data: bytes) -> Founding: ...
def encode_meta(node_id: int, begun: bool) -> bytes: ...
def decode_meta(data: bytes) -> tuple[int, bool]: ...
