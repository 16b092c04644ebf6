"""Bytes between nodes: golden frames, round trips in any pieces, and garbage of every sort."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seafoam._core import limits
from seafoam._core.message import (
    ENTRY_COMMAND,
    MESSAGE_APPEND,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_NAMES,
    Entry,
    Message,
)
from seafoam._core.pack import crc32c_portable
from seafoam._core.wire import ADDRESS_BYTES_MAX
from seafoam._core.wire_peer import (
    CHANNEL_ORDERED,
    CHANNEL_PROMPT,
    CONNECTION_CALLS,
    CONNECTION_RAFT,
    FRAME_CALL,
    FRAME_CALL_ANSWER,
    FRAME_HEADER_BYTES,
    FRAME_HELLO,
    FRAME_PART,
    FRAME_PROBE,
    FRAME_PROBE_ANSWER,
    FRAME_RAFT,
    FRAME_REFUSAL,
    MESSAGE_HEAD_BYTES,
    PART_BYTES_MAX,
    PEER_PREAMBLE_BYTES,
    REFUSAL_BYTES_MAX,
    REFUSED_BYTES,
    REFUSED_COPY,
    WHOLE_BYTES_MAX,
    Frame,
    FrameReader,
    FrameWriter,
    Hello,
    channel_of,
    message_bytes,
)
from seafoam.errors import PeerRefused

EXAMPLES = 20_000 if os.environ.get("SEAFOAM_SOAK") else 300
soaking = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)

ALL_TYPES = (FRAME_RAFT, FRAME_PART, FRAME_CALL, FRAME_CALL_ANSWER, FRAME_PROBE,
             FRAME_PROBE_ANSWER)
HELLO = Hello(CONNECTION_RAFT, 0xA1, 0x51, cluster_id=0xC1, nonce=0x0102030405060708,
              peer_address="127.0.0.1:3010", http_address="[::1]:3000",
              dialled_address="héz:1")
APPEND = Message(
    MESSAGE_APPEND, 0xA1, 0xB2, 7, index=10, log_term=6, commit_index=9,
    entries=(Entry(11, 6, ENTRY_COMMAND, b"xyz"), Entry(12, 7, 0, b"")),
)
PREAMBLE = bytes.fromhex("534541464f414d50 01000000 c9875e45")
#: What version 1 wrote: a hello, then, in the session of nonces 1 and 2, an append.
GOLDEN_HELLO = bytes.fromhex(
    "00000000 45000000 00000000 01 00"
    "01 c100000000000000 a100000000000000 5100000000000000 0807060504030201"
    "0e00 3132372e302e302e313a33303130 0a00 5b3a3a315d3a33303030 0600 68c3a97a3a31"
)
GOLDEN_APPEND = bytes.fromhex(
    "00000000 7b000000 01000000 03 01"
    "04 00 a100000000000000 b200000000000000 0700000000000000 0a00000000000000 0600000000000000"
    "0900000000000000 0000000000000000 0000000000000000 0000000000000000 02000000"
    "0b00000000000000 0600000000000000 01 03000000 78797a"
    "0c00000000000000 0700000000000000 00 00000000"
)


def sealed(frame: bytes, session: int = 0) -> bytes:
    """The frame with its right checksum."""
    return struct.pack("<I", crc32c_portable(frame[4:], session)) + frame[4:]


def session(sender_nonce: int, receiver_nonce: int) -> int:
    return crc32c_portable(struct.pack("<QQ", sender_nonce, receiver_nonce))


def opened(hello: Hello = HELLO) -> tuple[FrameWriter, FrameReader]:
    """Both ends of one direction, with the greetings behind them."""
    writer, reader = FrameWriter(), FrameReader()
    reader.feed(writer.hello(hello))
    assert reader.next().body == hello
    writer.open(1, 2)
    reader.open(1, 2, ALL_TYPES)
    return writer, reader


def taken(reader: FrameReader) -> list[Frame]:
    return list(iter(reader.next, None))


def only(reader: FrameReader, data: bytes) -> Frame:
    reader.feed(data)
    (frame,) = taken(reader)
    assert reader.held_bytes == 0
    return frame


def raw(kind: int, payload: bytes, *, sequence: int = 1, channel: int = 0, length=None) -> bytes:
    """A frame of the session of nonces 1 and 2, whatever is in it."""
    length = len(payload) if length is None else length
    head = struct.pack("<IIIBB", 0, length, sequence, kind, channel)
    return sealed(head + payload, session(1, 2))


def refused(data: bytes) -> str:
    """What is said of bytes that follow the greetings; once whole, once a byte at a time."""
    sentences = []
    for pieces in ([data], [data[at:at + 1] for at in range(min(len(data), 400))]):
        _, reader = opened()
        if len(pieces) > 1 and len(pieces) < len(data):
            continue
        with pytest.raises(PeerRefused) as error:
            for piece in pieces:
                reader.feed(piece)
                taken(reader)
            reader.end()
        assert error.value.code == REFUSED_BYTES
        sentences.append(str(error.value))
    assert len(set(sentences)) == 1
    return sentences[0]


# -- golden -------------------------------------------------------------------------------------


def test_golden_bytes():
    writer = FrameWriter()
    assert writer.hello(HELLO) == PREAMBLE + sealed(GOLDEN_HELLO)
    writer.open(1, 2)
    assert writer.whole(APPEND) == sealed(GOLDEN_APPEND, session(1, 2))
    assert len(PREAMBLE) == PEER_PREAMBLE_BYTES
    assert message_bytes(APPEND) == len(GOLDEN_APPEND) - FRAME_HEADER_BYTES


def test_every_frame_comes_back():
    writer, reader = opened()
    assert only(reader, writer.whole(APPEND)).body == APPEND
    call = only(reader, writer.call(5, b"what?"))
    assert (call.type, call.call_id, call.body) == (FRAME_CALL, 5, b"what?")
    answer = only(reader, writer.call_answer(5, b""))
    assert (answer.type, answer.call_id, answer.body) == (FRAME_CALL_ANSWER, 5, b"")
    assert only(reader, writer.probe()).type == FRAME_PROBE
    assert only(reader, writer.probe_answer()).type == FRAME_PROBE_ANSWER
    again = Hello(CONNECTION_RAFT, 0xA1, 0x51, cluster_id=0, nonce=1, peer_address="b:2")
    assert only(reader, writer.hello(again)).body == again  # and no second preamble
    refusal = only(reader, writer.refusal(REFUSED_COPY, "it is a copy", 2**64 - 1))
    assert (refusal.type, refusal.body.code) == (FRAME_REFUSAL, REFUSED_COPY)
    assert (str(refusal.body), refusal.body.running_ms) == ("it is a copy", 2**64 - 1)


def test_a_refusal_may_come_instead_of_a_hello():
    refusal = only(FrameReader(), FrameWriter().refusal(REFUSED_COPY, "no"))
    assert (str(refusal.body), refusal.body.running_ms) == ("no", 0)


def test_a_long_refusal_is_cut_between_characters():
    refusal = only(FrameReader(), FrameWriter().refusal(REFUSED_COPY, "x" + "é" * 2000))
    assert str(refusal.body) == "x" + "é" * ((REFUSAL_BYTES_MAX - 1) // 2)


# -- round trips --------------------------------------------------------------------------------

u64 = st.integers(0, 2**64 - 1)
addresses = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=60)


@st.composite
def messages(draw):
    from_id, to_id = draw(st.lists(u64.filter(bool), min_size=2, max_size=2, unique=True))
    kind = draw(st.sampled_from(sorted(MESSAGE_NAMES)))
    index = draw(st.integers(0, 2**60))
    terms = sorted(draw(st.lists(u64, min_size=2, max_size=8)))
    entries = ()
    if kind == MESSAGE_APPEND:
        entries = tuple(
            Entry(index + 1 + at, term, draw(st.integers(0, 3)), draw(st.binary(max_size=40)))
            for at, term in enumerate(terms[1:-1])
        )
    return Message(kind, from_id, to_id, terms[-1], index=index, log_term=terms[0],
                   commit_index=draw(u64), entries=entries, is_rejected=draw(st.booleans()),
                   hint_index=draw(u64), hint_term=draw(u64), context=draw(u64))


@soaking
@given(sent=st.lists(messages(), max_size=6), cuts=st.lists(st.integers(1, 60), max_size=60))
def test_messages_come_back_in_whatever_pieces(sent, cuts):
    writer, reader = opened()
    stream = b"".join(writer.whole(message) for message in sent)
    received = []
    for size in [*cuts, len(stream) + 1]:
        reader.feed(stream[:size])
        stream = stream[size:]
        received += [frame.body for frame in taken(reader)]
    assert received == sent
    reader.end()


@soaking
@given(kind=st.sampled_from([CONNECTION_RAFT, CONNECTION_CALLS]), numbers=st.tuples(u64, u64, u64),
       node_id=u64.filter(bool), texts=st.tuples(addresses, addresses, addresses))
def test_hellos_come_back(kind, numbers, node_id, texts):
    hello = Hello(kind, node_id, numbers[0], cluster_id=numbers[1], nonce=numbers[2],
                  peer_address=texts[0], http_address=texts[1], dialled_address=texts[2])
    assert only(FrameReader(), FrameWriter().hello(hello)).body == hello


def large(data_bytes: int) -> Message:
    """An append of so many bytes of data, in a large entry and a small one."""
    data = bytes(range(256)) * (data_bytes // 256 + 1)
    return Message(MESSAGE_APPEND, 1, 2, 3, index=4, log_term=3, entries=(
        Entry(5, 3, ENTRY_COMMAND, data[:data_bytes - 5]), Entry(6, 3, ENTRY_COMMAND, b"small")))


def parts(writer: FrameWriter, message: Message) -> list[bytes]:
    return [writer.part(message, offset)
            for offset in range(0, message_bytes(message), PART_BYTES_MAX)]


@pytest.mark.parametrize("more_bytes", [1, PART_BYTES_MAX - 9, PART_BYTES_MAX - 8, 600_000])
def test_a_large_message_goes_in_parts(more_bytes):
    message = large(WHOLE_BYTES_MAX - message_bytes(large(5)) + 5 + more_bytes)
    assert message_bytes(message) == WHOLE_BYTES_MAX + more_bytes
    writer, reader = opened()
    with pytest.raises(ValueError, match="must be cut"):
        writer.whole(message)
    sent = parts(writer, message)
    assert all(len(frame) <= limits.PEER_FRAME_BYTES_MAX for frame in sent)
    for frame in sent[:-1]:
        reader.feed(frame)
        assert taken(reader) == []
    assert only(reader, sent[-1]).body == message


def test_the_largest_whole_message_is_one_frame():
    message = large(WHOLE_BYTES_MAX - message_bytes(large(5)) + 5)
    writer, reader = opened()
    frame = writer.whole(message)
    assert len(frame) == limits.PEER_FRAME_BYTES_MAX
    assert only(reader, frame).body == message
    with pytest.raises(ValueError, match="has no part"):
        writer.part(message, 0)


def test_heartbeats_pass_between_the_parts():
    writer, reader = opened()
    message, heartbeat = large(600_000), Message(MESSAGE_HEARTBEAT, 1, 2, 3)
    assert (channel_of(message), channel_of(heartbeat)) == (CHANNEL_ORDERED, CHANNEL_PROMPT)
    reader.feed(writer.part(message, 0))
    assert taken(reader) == []
    assert only(reader, writer.whole(heartbeat)).body == heartbeat
    reader.feed(writer.part(message, PART_BYTES_MAX) + writer.part(message, 2 * PART_BYTES_MAX))
    assert [frame.body for frame in taken(reader)] == [message]


def test_the_largest_call_and_the_largest_entry():
    writer, reader = opened()
    payload = bytes(limits.PEER_PAYLOAD_BYTES_MAX)
    assert only(reader, writer.call(1, payload)).body == payload
    for pack in (writer.call, writer.call_answer):
        with pytest.raises(ValueError, match="too large"):
            pack(2, payload + b"x")
    entry = Entry(1, 1, ENTRY_COMMAND, bytes(limits.WAL_RECORD_BYTES_MAX - 32))
    message = Message(MESSAGE_APPEND, 1, 2, 1, entries=(entry,))
    reader.feed(b"".join(parts(writer, message)))
    assert [frame.body for frame in taken(reader)] == [message]


# -- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"H", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"GET / HTTP/1.1\r\n",
                                  b"\x16\x03\x01", b"SEAFOAML" + bytes(8), bytes(64)])
def test_who_speaks_something_else_is_told_so_at_its_first_bytes(data):
    reader = FrameReader()
    with pytest.raises(PeerRefused, match=r"^does not speak Seafoam.s peer protocol$"):
        reader.feed(data)
        reader.next()


def test_another_version_is_named_and_a_flipped_bit_in_it_is_not():
    later = b"SEAFOAMP" + struct.pack("<I", 2)
    reader = FrameReader()
    reader.feed(later + struct.pack("<I", crc32c_portable(later)))
    with pytest.raises(PeerRefused, match="speaks version 2 of the peer protocol; known is 1"):
        reader.next()
    reader = FrameReader()
    reader.feed(later + PREAMBLE[12:])
    with pytest.raises(PeerRefused, match="its first bytes are damaged"):
        reader.next()


@pytest.mark.parametrize(("data", "words"), [
    (raw(9, b""), "frame of type 9, which this version does not know"),
    (raw(0, b""), "frame of type 0"),
    (raw(FRAME_RAFT, b"", length=WHOLE_BYTES_MAX + 1), "raft frame of 262131 bytes; 262130 are"),
    (raw(FRAME_PART, b"", channel=1, length=2**32 - 1), "part frame of 4294967295 bytes"),
    (raw(FRAME_CALL, b"", length=limits.PEER_PAYLOAD_BYTES_MAX + 9), "call frame of 16842761 byt"),
    (raw(FRAME_HELLO, b"", length=2000), "hello frame of 2000 bytes"),
    (raw(FRAME_REFUSAL, b"", length=2000), "refusal frame of 2000 bytes"),
    (raw(FRAME_PROBE, b"x"), "probe frame of 1 bytes; 0 are"),
    (raw(FRAME_RAFT, b"", channel=2), "raft frame on channel 2"),
    (raw(FRAME_PART, b"", channel=0), "part frame on channel 0"),
    (raw(FRAME_CALL, b"", channel=1), "call frame on channel 1"),
    (raw(FRAME_PROBE, b"", sequence=0), "sent frame 0 where frame 1 was due"),
    (raw(FRAME_PROBE, b"", sequence=2), "sent frame 2 where frame 1 was due"),
    (raw(FRAME_CALL, b"1234567"), "call that is too short"),
    (raw(FRAME_CALL, bytes(8)), "call 0 behind call 0"),
    (raw(FRAME_CALL, b"\2" + bytes(7)) + raw(FRAME_CALL, b"\2" + bytes(7), sequence=2),
     "sent call 2 behind call 2"),
    (raw(FRAME_REFUSAL, b""), "refusal that is too short"),
    (raw(FRAME_REFUSAL, bytes(8)), "refusal that is too short"),
    (raw(FRAME_REFUSAL, bytes(9) + b"\1\0xy"), "refusal that goes on behind its end"),
    (raw(FRAME_REFUSAL, bytes(9) + b"\3\0xy"), "text whose length does not fit"),
    (raw(FRAME_REFUSAL, bytes(9) + b"\1\0\n"), "text that cannot be printed"),
    (raw(FRAME_REFUSAL, bytes(9) + b"\1\0\xff"), "text that is no UTF-8"),
    (raw(FRAME_PROBE, b"")[:-1], "ended in the middle of a frame"),
    (raw(FRAME_PROBE, b"")[:-1] + b"\1", "frame on channel 1"),
])
def test_frames_that_cannot_be(data, words):
    assert words in refused(data)


def hello_bytes(**changes) -> bytes:
    fields = {"kind": 1, "cluster": 2, "node": 3, "start": 4, "nonce": 5, "peer": b"\1\0p",
              "http": b"\0\0", "dialled": b"\0\0", "tail": b"", **changes}
    return struct.pack("<BQQQQ", *list(fields.values())[:5]) + b"".join(list(fields.values())[5:])


@pytest.mark.parametrize(("changes", "words"), [
    ({"kind": 0}, "no connection of kind 0"), ({"kind": 3}, "no connection of kind 3"),
    ({"node": 0}, "no node has the id 0"), ({"peer": b"\0\0"}, "a node has a peer address"),
    ({"tail": b"x"}, "hello that goes on behind its end"),
    ({"http": b"\xff\xff"}, "text whose length does not fit"),
    ({"dialled": b"\4\0"}, "text whose length does not fit"),
    ({"dialled": b""}, "text whose length does not fit"),
    ({"peer": b"\2\0a\n"}, "text that cannot be printed"),
    ({"peer": struct.pack("<H", ADDRESS_BYTES_MAX + 1) + b"a" * (ADDRESS_BYTES_MAX + 1)},
     "text whose length does not fit"),
])
def test_hellos_that_cannot_be(changes, words):
    assert words in refused(raw(FRAME_HELLO, hello_bytes(**changes)))


def test_a_hello_that_is_cut_off():
    assert "too short" in refused(raw(FRAME_HELLO, hello_bytes()[:32]))


@pytest.mark.parametrize("changes", [
    {"kind": 5}, {"node_id": 0}, {"peer_address": ""}, {"http_address": "a\n"},
    {"dialled_address": "é" * 257},
])
def test_a_node_says_no_hello_that_cannot_be(changes):
    fields = {"kind": 1, "node_id": 1, "start_id": 1, "cluster_id": 0, "nonce": 0,
              "peer_address": "a", **changes}
    with pytest.raises(ValueError):
        Hello(fields.pop("kind"), fields.pop("node_id"), fields.pop("start_id"), **fields)


APPEND_PAYLOAD = GOLDEN_APPEND[FRAME_HEADER_BYTES:]


def changed(at: int, data: bytes) -> bytes:
    return APPEND_PAYLOAD[:at] + data + APPEND_PAYLOAD[at + len(data):]


FIRST = MESSAGE_HEAD_BYTES


@pytest.mark.parametrize(("payload", "words"), [
    (b"", "do not fit"), (APPEND_PAYLOAD[:77], "do not fit"), (APPEND_PAYLOAD[:-1], "do not fit"),
    (APPEND_PAYLOAD + b"x", "do not fit"),
    (changed(0, b"\x0b"), "no message of kind 11"), (changed(1, b"\2"), "do not fit"),
    (changed(2, bytes(8)), "no message goes from 0"),
    (changed(10, struct.pack("<Q", 0xA1)), "no message goes from a1 to a1"),
    (changed(18, bytes(8)), "a message of term 0 speaks of a log entry of term 7"),
    (changed(74, b"\1"), "do not fit"), (changed(74, b"\3"), "do not fit"),
    (changed(74, b"\xff\xff\xff\xff"), "do not fit"),
    (changed(FIRST, b"\x0c"), "entry 12 of term 6 cannot follow entry 10"),
    (changed(FIRST + 16, b"\4"), "do not fit"),
    (changed(FIRST + 17, b"\4"), "do not fit"), (changed(FIRST + 17, b"\xff" * 4), "do not fit"),
    (changed(0, bytes([MESSAGE_HEARTBEAT])), "on channel 1, where it does not belong"),
])
def test_messages_that_cannot_be(payload, words):
    assert words in refused(raw(FRAME_RAFT, payload, channel=CHANNEL_ORDERED))


def test_a_message_on_the_wrong_channel():
    assert "on channel 0, where" in refused(raw(FRAME_RAFT, APPEND_PAYLOAD))
    votes_entries = changed(0, bytes([MESSAGE_APPEND_ANSWER]))
    assert "on channel 0, where" in refused(raw(FRAME_RAFT, votes_entries))


def part(total: int, offset: int, size: int, sequence: int = 1) -> bytes:
    return raw(FRAME_PART, struct.pack("<II", total, offset) + bytes(size), sequence=sequence,
               channel=CHANNEL_ORDERED)


FULL = PART_BYTES_MAX


@pytest.mark.parametrize(("data", "words"), [
    (raw(FRAME_PART, b"1234567", channel=1), "part that is too short"),
    (part(WHOLE_BYTES_MAX, 0, FULL), "parts of a message of 262130 bytes; it must have more"),
    (part(limits.PEER_PAYLOAD_BYTES_MAX + 1, 0, FULL), "parts of a message of 16842753 bytes"),
    (part(2 * FULL, FULL, FULL), "do not fit each other"),
    (part(2 * FULL, 0, FULL - 1), "a part of 262121 bytes where"),
    (part(2 * FULL, 0, FULL) + part(2 * FULL, 0, FULL, 2), "do not fit each other"),
    (part(2 * FULL, 0, FULL) + part(2 * FULL + 1, FULL, FULL, 2), "do not fit each other"),
    (part(2 * FULL, 0, FULL) + part(2 * FULL, FULL, 1, 2), "a part of 1 bytes where"),
    (part(2 * FULL, 0, FULL) + part(2 * FULL, FULL, FULL, 2), "lengths, counts or kinds"),
    (part(2 * FULL, 0, FULL) + raw(FRAME_RAFT, APPEND_PAYLOAD, sequence=2, channel=1),
     "a message between the parts of another"),
    (part(2 * FULL, 0, FULL), "ended in the middle of a message"),
])
def test_parts_that_cannot_be(data, words):
    assert words in refused(data)


def test_only_what_has_a_place_is_taken():
    reader = FrameReader()
    reader.feed(PREAMBLE + sealed(struct.pack("<IIIBB", 0, 0, 0, FRAME_PROBE, 0)))
    with pytest.raises(PeerRefused, match="sent a probe frame, which has no place here"):
        reader.next()
    writer, reader = opened()
    reader.open(1, 2, (FRAME_CALL_ANSWER,))
    reader.feed(writer.whole(APPEND))
    with pytest.raises(PeerRefused, match="sent a raft frame, which has no place here"):
        reader.next()
    reader = opened()[1]
    reader.feed(raw(FRAME_REFUSAL, bytes(11)))
    assert reader.next().type == FRAME_REFUSAL
    reader.feed(raw(FRAME_PROBE, b"", sequence=2))
    with pytest.raises(PeerRefused, match="no place"):
        reader.next()


@pytest.mark.parametrize("nonces", [(1, 3), (2, 1)])
def test_a_frame_of_another_connection_or_sent_back_is_refused(nonces):
    writer, reader = opened()
    writer.open(*nonces)
    reader.feed(writer.whole(APPEND))
    with pytest.raises(PeerRefused, match="damaged or of another connection"):
        reader.next()


def test_every_flipped_bit_of_a_frame_is_refused():
    frame = opened()[0].whole(APPEND)
    for bit in range(len(frame) * 8):
        flipped = bytearray(frame)
        flipped[bit // 8] ^= 1 << bit % 8
        _, reader = opened()
        reader.feed(bytes(flipped))
        with pytest.raises(PeerRefused):
            taken(reader)
            reader.end()


def test_an_end_before_the_first_frame():
    for begun in (b"", PREAMBLE[:5], PREAMBLE, PREAMBLE + bytes(5)):
        reader = FrameReader()
        reader.feed(begun)
        assert reader.next() is None
        with pytest.raises(PeerRefused, match="before it said who it is"):
            reader.end()


def mutated(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    for at, size, with_ in cuts:
        at %= len(data) + 1
        data = data[:at] + with_ + data[at + size:]
    return data


edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 9), st.binary(max_size=9)),
                 max_size=4)


@soaking
@given(data=st.one_of(st.binary(max_size=300), edits.map(
    lambda cuts: mutated(PREAMBLE + sealed(GOLDEN_HELLO), cuts))))
def test_any_bytes_are_a_hello_or_refused(data):
    reader = FrameReader()
    try:
        reader.feed(data)
        frames = taken(reader)
        reader.end()
    except PeerRefused as error:
        assert str(error).isprintable()
        return
    for frame in frames:  # ours: what was read is written the same
        if frame.type == FRAME_HELLO:
            assert FrameWriter().hello(frame.body) == data


@soaking
@given(kind=st.integers(0, 10), channel=st.integers(0, 2), payload=st.one_of(
    st.binary(max_size=200), edits.map(lambda cuts: mutated(APPEND_PAYLOAD, cuts)),
    edits.map(lambda cuts: mutated(hello_bytes(), cuts))))
def test_any_payload_is_what_we_would_have_written_or_refused(kind, channel, payload):
    """With a right checksum, so that the checks behind it are reached."""
    frame = raw(kind, payload, channel=channel)
    writer, reader = opened()
    reader.feed(frame)
    try:
        (taken_frame,) = taken(reader)
    except PeerRefused as error:
        assert str(error).isprintable()
        return
    written = {
        FRAME_HELLO: lambda body: writer.hello(body),
        FRAME_REFUSAL: lambda body: writer.refusal(body.code, str(body), body.running_ms),
        FRAME_RAFT: lambda body: writer.whole(body),
        FRAME_CALL: lambda body: writer.call(taken_frame.call_id, body),
        FRAME_CALL_ANSWER: lambda body: writer.call_answer(taken_frame.call_id, body),
        FRAME_PROBE: lambda body: writer.probe(),
        FRAME_PROBE_ANSWER: lambda body: writer.probe_answer(),
    }[taken_frame.type](taken_frame.body)
    assert written == frame


def test_what_is_held_is_counted_and_moved():
    """Bytes that come while others are held, and while frames were left untaken."""
    writer, reader = opened()
    frames = [writer.call(at, bytes(at)) for at in range(1, 60)]
    stream = b"".join(frames)
    reader.feed(stream[:1000])
    assert reader.held_bytes == 1000
    first = reader.next()
    reader.feed(stream[1000:1100])
    assert reader.held_bytes == 1100 - len(frames[0])
    reader.feed(stream[1100:])
    assert [first.call_id, *(frame.call_id for frame in taken(reader))] == list(range(1, 60))
    assert reader.held_bytes == 0


def test_frames_are_made_by_a_reader_only():
    with pytest.raises(TypeError, match="made by a FrameReader"):
        Frame()
