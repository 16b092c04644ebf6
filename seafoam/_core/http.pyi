from collections.abc import Iterable
from typing import Final, Literal, final

from typing_extensions import Buffer, Self

CONTINUE: Final[bytes]

@final
class Hosts:
    def __new__(cls, names: Iterable[str] = ()) -> Self: ...
    def judge(self, value: bytes) -> Literal["allowed", "foreign", "malformed"]: ...

@final
class Responder:
    def __new__(cls) -> Self: ...
    def set_date(self, date: bytes) -> None: ...
    def set_cluster(self, cluster_id: str | None) -> None: ...
    def response(
        self,
        status: int,
        body: bytes,
        index: int,
        *,
        close: bool = False,
        head_only: bool = False,
        extra: bytes = b"",
        more_bytes: int = 0,
    ) -> bytes: ...

def parse_head(
    data: Buffer, hosts: Hosts
) -> tuple[str, int, int] | Literal["need_more", "careful"]: ...
