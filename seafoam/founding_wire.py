"""What nodes tell each other while a cluster is founded, and what each keeps of it on disk.

Owns the records (`View`, `Record`) and their bytes. Must never decide anything, and never trust a
byte that it is given: what `decode_view` returns is whole, within its bounds and sound in itself,
or else it is a ViewRefused in one sentence; what `decode_record` returns is what was written, or a
StartError.

Little-endian. A text is its length in bytes (u16), then UTF-8. A list is its count (u16), then
its items.

    VIEW       u8 version | u64 node id | u64 start id | u64 sequence | u64 cluster id
               | u64 proposal number | text address | HELD | list of NAMED | list of CALLER
    NAMED      text address as given | u64 node id, 0 while nobody answers | text its own address
    CALLER     u64 node id | text address
    HELD       u8 0, or u8 1 | u64 founder | u64 number | u32 length | a founding entry's data
    RECORD     8 bytes magic | u32 version | u32 CRC-32C of the 12 before
               | u64 node id | u64 proposal number | u8 is founded | HELD
               | u32 CRC-32C of all between the two
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seafoam._core.pack import crc32c
from seafoam._core.wire import ADDRESS_BYTES_MAX, Founding, decode_founding
from seafoam.errors import DataDamaged, SeafoamError, StartError, ViewRefused

__all__ = [
    "NEIGHBOURS_MAX",
    "Held",
    "Named",
    "Record",
    "View",
    "decode_record",
    "decode_view",
    "encode_record",
    "encode_view",
]

VIEW_VERSION = 1
RECORD_VERSION = 1
RECORD_MAGIC = b"SEAFOAMF"
PREAMBLE_BYTES = 16
#: Addresses one node names, callers it tells of, and members of a set: far more than any cluster
#: that one person starts together, and few enough that a view fits one frame between nodes.
NEIGHBOURS_MAX = 64
#: The largest founding entry of so many members.
FOUNDING_BYTES_MAX = 27 + NEIGHBOURS_MAX * (10 + ADDRESS_BYTES_MAX)


@dataclass(frozen=True)
class Named:
    """One address of a node's PEER list: who answers there, as far as that node knows.

    `node_id` is 0 and `node_address` empty while nobody does; `node_address` is what the node
    that answers calls itself.
    """

    address: str
    node_id: int = 0
    node_address: str = ""


@dataclass(frozen=True)
class Held:
    """The one proposal that a node is bound to: its own, or the one it promised itself to.

    `number` counts the founder's proposals; `founding` is what entry 1 of every log will be.
    """

    founder_id: int
    number: int
    founding: bytes

    @property
    def contents(self) -> Founding:
        """The founding entry, decoded."""
        return decode_founding(self.founding)


@dataclass(frozen=True)
class Record:
    """What of a founding must survive a crash.

    `proposal_number` is that of the node's latest own proposal, 0 for none. An own proposal that
    is neither held nor founded has been aborted. `is_founded`: what is held has been decided.
    """

    proposal_number: int = 0
    held: Held | None = None
    is_founded: bool = False


@dataclass(frozen=True)
class View:
    """Who a node is, whom it knows, and what it is bound to; all of it durable where it binds.

    `sequence` counts the changes within one start; `cluster_id` is 0 in no cluster; `address` is
    where others reach the node; `callers` are pairs of node id and address.
    """

    node_id: int
    start_id: int
    sequence: int
    cluster_id: int
    address: str
    proposal_number: int = 0
    held: Held | None = None
    named: tuple[Named, ...] = ()
    callers: tuple[tuple[int, str], ...] = ()


# -- writing ---------------------------------------------------------------------------------


def _u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "little") + data


def _list(items: Iterable[bytes]) -> bytes:
    parts = list(items)
    return len(parts).to_bytes(2, "little") + b"".join(parts)


def _held(held: Held | None) -> bytes:
    if held is None:
        return b"\0"
    head = b"\1" + _u64(held.founder_id, held.number)
    return head + len(held.founding).to_bytes(4, "little") + held.founding


def encode_view(view: View) -> bytes:
    """The bytes of a view."""
    return b"".join((
        bytes((VIEW_VERSION,)),
        _u64(view.node_id, view.start_id, view.sequence, view.cluster_id, view.proposal_number),
        _text(view.address),
        _held(view.held),
        _list(_text(at.address) + _u64(at.node_id) + _text(at.node_address) for at in view.named),
        _list(_u64(node_id) + _text(address) for node_id, address in view.callers),
    ))


def encode_record(node_id: int, record: Record) -> bytes:
    """The bytes of a node's record, a file of its own."""
    preamble = RECORD_MAGIC + RECORD_VERSION.to_bytes(4, "little")
    body = (_u64(node_id, record.proposal_number) + bytes((record.is_founded,))
            + _held(record.held))
    return b"".join((preamble, crc32c(preamble).to_bytes(4, "little"),
                     body, crc32c(body).to_bytes(4, "little")))


# -- reading ---------------------------------------------------------------------------------


class _Reader:
    """Takes bytes from the front; ViewRefused where they end, or go on, where they should not."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ViewRefused(f"it ends at byte {len(self._data)}, within a field")
        taken = self._data[self._at:end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def flag(self) -> bool:
        value = self.number(1)
        if value > 1:
            raise ViewRefused(f"a flag of it is {value}")
        return value == 1

    def text(self, least: int = 1) -> str:
        count = self.number(2)
        if not least <= count <= ADDRESS_BYTES_MAX:
            raise ViewRefused(f"an address of {count} bytes is none")
        try:
            text = self.take(count).decode()
        except UnicodeDecodeError:
            raise ViewRefused("an address is no UTF-8") from None
        if not text.isprintable():
            raise ViewRefused(f"the address {text!r} cannot be printed")
        return text

    def count(self) -> int:
        count = self.number(2)
        if count > NEIGHBOURS_MAX:
            raise ViewRefused(f"it lists {count} nodes; there may be {NEIGHBOURS_MAX}")
        return count

    def held(self) -> Held | None:
        if not self.flag():
            return None
        founder_id, number, length = self.number(8), self.number(8), self.number(4)
        if length > FOUNDING_BYTES_MAX:
            raise ViewRefused(f"a founding set of {length} bytes is too large")
        held = Held(founder_id, number, self.take(length))
        _check_held(held)
        return held

    def end(self) -> None:
        if self._at != len(self._data):
            raise ViewRefused(f"{len(self._data) - self._at} bytes follow its end")


def _check_held(held: Held) -> None:
    try:
        founding = held.contents
    except SeafoamError as error:
        raise ViewRefused(str(error)) from None
    members = dict(founding.members)
    if len(members) != len(founding.members) or len(members) > NEIGHBOURS_MAX:
        raise ViewRefused("a founding set names a node twice, or too many")
    if 0 in members or held.founder_id not in members:
        raise ViewRefused("a founding set leaves out its founder, or names a node 0")
    if not held.number or not founding.cluster_id:
        raise ViewRefused("a proposal has number 0 or founds cluster 0")


def decode_view(data: bytes) -> View:
    """What another node says; ViewRefused in one sentence where it makes no sense."""
    try:
        return _decode_view(_Reader(data))
    except ViewRefused as error:
        raise ViewRefused(f"a node's view was refused: {error}") from None


def _decode_view(reader: _Reader) -> View:
    version = reader.number(1)
    if version != VIEW_VERSION:
        raise ViewRefused(f"it is of version {version}; known is {VIEW_VERSION}")
    node_id, start_id, sequence, cluster_id, proposal_number = (
        reader.number(8) for _ in range(5)
    )
    address = reader.text()
    held = reader.held()
    named = tuple(
        Named(reader.text(), reader.number(8), reader.text(least=0))
        for _ in range(reader.count())
    )
    callers = tuple((reader.number(8), reader.text()) for _ in range(reader.count()))
    reader.end()
    if not node_id or not start_id or not sequence:
        raise ViewRefused("a node id, start id or sequence is 0")
    if any(bool(at.node_id) != bool(at.node_address) for at in named):
        raise ViewRefused("an address has an answer without a node, or a node without its address")
    if len({at.address for at in named}) != len(named):
        raise ViewRefused("an address is named twice")
    if not all(caller_id for caller_id, _ in callers) or len(dict(callers)) != len(callers):
        raise ViewRefused("a caller is named twice, or is node 0")
    if held is not None and held.founder_id == node_id and held.number != proposal_number:
        raise ViewRefused("a founder holds another proposal than its latest")
    return View(node_id, start_id, sequence, cluster_id, address, proposal_number, held, named,
                callers)


def decode_record(data: bytes, node_id: int) -> Record:
    """What this node has kept; a sentence without the file's name where it cannot be used."""
    preamble = data[:PREAMBLE_BYTES]
    if (len(preamble) < PREAMBLE_BYTES or not preamble.startswith(RECORD_MAGIC)
            or crc32c(preamble[:12]) != int.from_bytes(preamble[12:], "little")):
        raise DataDamaged("is damaged: it does not begin as it must")
    version = int.from_bytes(preamble[8:12], "little")
    if version != RECORD_VERSION:
        raise StartError(f"was written in version {version}, which this Seafoam does not know")
    body = data[PREAMBLE_BYTES:-4]
    if (len(data) < PREAMBLE_BYTES + 4
            or crc32c(body) != int.from_bytes(data[-4:], "little")):
        raise DataDamaged("is damaged: its checksum does not fit")
    try:
        reader = _Reader(body)
        owner_id, proposal_number, is_founded = reader.number(8), reader.number(8), reader.flag()
        held = reader.held()
        reader.end()
    except ViewRefused as error:
        raise DataDamaged(f"is damaged: {error}") from None
    if owner_id != node_id:
        raise StartError(f"belongs to node {owner_id:016x}, and this directory to {node_id:016x}")
    if is_founded and held is None:
        raise DataDamaged("is damaged: it says that a cluster was founded, but not which")
    return Record(proposal_number, held, is_founded)
