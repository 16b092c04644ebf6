from seafoam._core.message import Message
from seafoam.errors import PeerRefused

PEER_VERSION: int
PEER_PREAMBLE_BYTES: int
FRAME_HEADER_BYTES: int
MESSAGE_HEAD_BYTES: int
MESSAGE_ENTRY_HEAD_BYTES: int
PART_HEAD_BYTES: int
WHOLE_BYTES_MAX: int
PART_BYTES_MAX: int
REFUSAL_BYTES_MAX: int
FRAME_HELLO: int
FRAME_REFUSAL: int
FRAME_RAFT: int
FRAME_PART: int
FRAME_CALL: int
FRAME_CALL_ANSWER: int
FRAME_PROBE: int
FRAME_PROBE_ANSWER: int
CHANNEL_PROMPT: int
CHANNEL_ORDERED: int
CONNECTION_RAFT: int
CONNECTION_CALLS: int
REFUSED_BYTES: int
REFUSED_CLUSTER: int
REFUSED_COPY: int
REFUSED_FULL: int

class Hello:
    kind: int
    cluster_id: int
    node_id: int
    start_id: int
    nonce: int
    peer_address: str
    http_address: str
    dialled_address: str
    def __init__(
        self,
        kind: int,
        node_id: int,
        start_id: int,
        *,
        cluster_id: int,
        nonce: int,
        peer_address: str,
        http_address: str = "",
        dialled_address: str = "",
    ) -> None: ...

class Frame:
    type: int
    call_id: int
    body: Hello | PeerRefused | Message | bytes | None

class FrameReader:
    def __init__(self) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def next(self) -> Frame | None: ...
    def open(self, sender_nonce: int, receiver_nonce: int, types: tuple[int, ...]) -> None: ...
    def end(self) -> None: ...
    @property
    def held_bytes(self) -> int: ...

class FrameWriter:
    def __init__(self) -> None: ...
    def open(self, sender_nonce: int, receiver_nonce: int) -> None: ...
    def hello(self, hello: Hello) -> bytes: ...
    def refusal(self, code: int, sentence: str, running_ms: int = 0) -> bytes: ...
    def whole(self, message: Message) -> bytes: ...
    def part(self, message: Message, offset: int) -> bytes: ...
    def call(self, call_id: int, payload: bytes) -> bytes: ...
    def call_answer(self, call_id: int, payload: bytes) -> bytes: ...
    def probe(self) -> bytes: ...
    def probe_answer(self) -> bytes: ...

def channel_of(message: Message) -> int: ...
def message_bytes(message: Message) -> int: ...
