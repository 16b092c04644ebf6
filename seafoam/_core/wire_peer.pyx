"""Every byte format between nodes; wire_peer.pxd has the pictures."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from seafoam._core.buffer cimport buffer_append, buffer_free, seafoam_buffer
from seafoam._core.limits cimport PEER_PAYLOAD_BYTES_MAX, WAL_RECORD_BYTES_MAX
from seafoam._core.message cimport ENTRY_CONFIGURATION, MESSAGE_APPEND, Entry, Message
from seafoam._core.pack cimport crc32c_raw, get_u8, get_u16, get_u32, get_u64
from seafoam._core.pack cimport put_u8, put_u16, put_u32, put_u64
from seafoam._core.status cimport (
    STATUS_INVALID,
    STATUS_NEED_MORE,
    STATUS_OK,
    STATUS_TOO_LARGE,
    STATUS_UNKNOWN_TYPE,
)
from seafoam._core.wire cimport ADDRESS_BYTES_MAX, RECORD_HEADER_BYTES

from seafoam.errors import PeerRefused

cdef const char* MAGIC = b"SEAFOAMP"
cdef enum:
    MAGIC_BYTES = 8
    HELLO_HEAD_BYTES = 33
    TEXT_HEAD_BYTES = 2
    REFUSAL_HEAD_BYTES = 9
    HELLO_BYTES_MAX = HELLO_HEAD_BYTES + 3 * (TEXT_HEAD_BYTES + ADDRESS_BYTES_MAX)
    CALL_HEAD_BYTES = 8
    ENTRY_BYTES_MAX = WAL_RECORD_BYTES_MAX - RECORD_HEADER_BYTES
    # A buffer that grew beyond this for one large frame is given back behind it.
    KEPT_BYTES_MAX = 1048576

_NAMES = {
    FRAME_HELLO: "hello",
    FRAME_REFUSAL: "refusal",
    FRAME_RAFT: "raft",
    FRAME_PART: "part",
    FRAME_CALL: "call",
    FRAME_CALL_ANSWER: "call answer",
    FRAME_PROBE: "probe",
    FRAME_PROBE_ANSWER: "probe answer",
}


# -- frames --------------------------------------------------------------------------------------

cdef uint32_t session_between(uint64_t sender_nonce, uint64_t receiver_nonce) noexcept nogil:
    cdef uint8_t nonces[16]
    put_u64(nonces, sender_nonce)
    put_u64(nonces + 8, receiver_nonce)
    return crc32c_raw(0, nonces, 16)


cdef void seal_frame(uint8_t* frame, const FrameHeader* header, uint32_t session) noexcept nogil:
    put_u32(frame + 4, <uint32_t>header.payload_bytes)
    put_u32(frame + 8, header.sequence)
    put_u8(frame + 12, <uint8_t>header.type)
    put_u8(frame + 13, <uint8_t>header.channel)
    put_u32(frame, crc32c_raw(session, frame + 4, FRAME_HEADER_BYTES - 4 + header.payload_bytes))


cdef size_t _payload_bytes_max(int type) noexcept nogil:
    if type == FRAME_HELLO:
        return HELLO_BYTES_MAX
    if type == FRAME_REFUSAL:
        return REFUSAL_HEAD_BYTES + TEXT_HEAD_BYTES + REFUSAL_BYTES_MAX
    if type == FRAME_RAFT or type == FRAME_PART:
        return WHOLE_BYTES_MAX
    if type == FRAME_CALL or type == FRAME_CALL_ANSWER:
        return CALL_HEAD_BYTES + PEER_PAYLOAD_BYTES_MAX
    return 0


cdef int get_frame_header(const uint8_t* data, size_t data_bytes, FrameHeader* header
                          ) noexcept nogil:
    if data_bytes < FRAME_HEADER_BYTES:
        return STATUS_NEED_MORE
    header.payload_bytes = get_u32(data + 4)
    header.sequence = get_u32(data + 8)
    header.type = get_u8(data + 12)
    header.channel = get_u8(data + 13)
    if not FRAME_HELLO <= header.type <= FRAME_PROBE_ANSWER:
        return STATUS_UNKNOWN_TYPE
    if header.payload_bytes > _payload_bytes_max(header.type):
        return STATUS_TOO_LARGE
    if header.channel == CHANNEL_PROMPT:
        return STATUS_INVALID if header.type == FRAME_PART else STATUS_OK
    if header.channel == CHANNEL_ORDERED:
        if header.type == FRAME_RAFT or header.type == FRAME_PART:
            return STATUS_OK
    return STATUS_INVALID


# The one place where what another node did wrong becomes an exception.
cdef int _refuse(str sentence) except -1:
    raise PeerRefused(REFUSED_BYTES, sentence)


cdef int _refuse_header(int status, const FrameHeader* header) except -1:
    if status == STATUS_UNKNOWN_TYPE:
        _refuse(f"sent a frame of type {header.type}, which this version does not know")
    if status == STATUS_TOO_LARGE:
        _refuse(f"sent a {_NAMES[header.type]} frame of {header.payload_bytes} bytes; "
                f"{_payload_bytes_max(header.type)} are allowed")
    _refuse(f"sent a {_NAMES[header.type]} frame on channel {header.channel}")


# -- hello ---------------------------------------------------------------------------------------

cdef class Hello:
    """What a node says of itself on a connection; wire_peer.pxd has the fields."""

    def __cinit__(self, int kind, uint64_t node_id, uint64_t start_id, *, uint64_t cluster_id,
                  uint64_t nonce, str peer_address not None, str http_address not None="",
                  str dialled_address not None=""):
        self.kind = kind
        self.node_id = node_id
        self.start_id = start_id
        self.cluster_id = cluster_id
        self.nonce = nonce
        self.peer_address = peer_address
        self.http_address = http_address
        self.dialled_address = dialled_address
        if kind != CONNECTION_RAFT and kind != CONNECTION_CALLS:
            raise ValueError(f"there is no connection of kind {kind}")
        if node_id == 0:
            raise ValueError("no node has the id 0")
        if not peer_address:
            raise ValueError("a node has a peer address")
        for text in (peer_address, http_address, dialled_address):
            if len(text.encode()) > ADDRESS_BYTES_MAX or not text.isprintable():
                raise ValueError(f"an address is printable and at most {ADDRESS_BYTES_MAX} bytes")

    def __eq__(self, other):
        cdef Hello that
        if not isinstance(other, Hello):
            return NotImplemented
        that = other
        return (self.kind == that.kind and self.cluster_id == that.cluster_id
                and self.node_id == that.node_id and self.start_id == that.start_id
                and self.nonce == that.nonce and self.peer_address == that.peer_address
                and self.http_address == that.http_address
                and self.dialled_address == that.dialled_address)

    __hash__ = None

    def __repr__(self):
        return (f"Hello(kind={self.kind} cluster={self.cluster_id:016x} node={self.node_id:016x} "
                f"start={self.start_id:016x} peer={self.peer_address} http={self.http_address} "
                f"dialled={self.dialled_address})")


cdef bytes _text(str text):
    cdef bytes data = text.encode()
    cdef uint8_t head[TEXT_HEAD_BYTES]
    put_u16(head, <uint16_t>len(data))
    return PyBytes_FromStringAndSize(<const char*>head, TEXT_HEAD_BYTES) + data


# Takes a text from the front of `data`; it is at most `text_bytes_max` long.
cdef str _take_text(const uint8_t** data, size_t* data_bytes, size_t text_bytes_max):
    cdef size_t text_bytes
    cdef str text = None
    if data_bytes[0] >= TEXT_HEAD_BYTES:
        text_bytes = get_u16(data[0])
        if text_bytes <= text_bytes_max and text_bytes <= data_bytes[0] - TEXT_HEAD_BYTES:
            try:
                text = (<const char*>data[0] + TEXT_HEAD_BYTES)[:text_bytes].decode("utf-8")
            except UnicodeDecodeError:
                _refuse("sent a text that is no UTF-8")
            data[0] += TEXT_HEAD_BYTES + text_bytes
            data_bytes[0] -= TEXT_HEAD_BYTES + text_bytes
    if text is None:
        _refuse("sent a text whose length does not fit")
    if not text.isprintable():
        _refuse("sent a text that cannot be printed")
    return text


cdef Hello _read_hello(const uint8_t* data, size_t data_bytes):
    cdef const uint8_t* at = data + HELLO_HEAD_BYTES
    cdef size_t left_bytes
    if data_bytes < HELLO_HEAD_BYTES:
        _refuse("sent a hello that is too short")
    left_bytes = data_bytes - HELLO_HEAD_BYTES
    peer_address = _take_text(&at, &left_bytes, ADDRESS_BYTES_MAX)
    http_address = _take_text(&at, &left_bytes, ADDRESS_BYTES_MAX)
    dialled_address = _take_text(&at, &left_bytes, ADDRESS_BYTES_MAX)
    if left_bytes != 0:
        _refuse("sent a hello that goes on behind its end")
    try:
        return Hello(get_u8(data), get_u64(data + 9), get_u64(data + 17),
                     cluster_id=get_u64(data + 1), nonce=get_u64(data + 25),
                     peer_address=peer_address, http_address=http_address,
                     dialled_address=dialled_address)
    except ValueError as error:
        _refuse(f"sent a hello that cannot be: {error}")


cdef _read_refusal(const uint8_t* data, size_t data_bytes):
    cdef const uint8_t* at = data + REFUSAL_HEAD_BYTES
    cdef size_t left_bytes
    if data_bytes < REFUSAL_HEAD_BYTES:
        _refuse("sent a refusal that is too short")
    left_bytes = data_bytes - REFUSAL_HEAD_BYTES
    sentence = _take_text(&at, &left_bytes, REFUSAL_BYTES_MAX)
    if left_bytes != 0:
        _refuse("sent a refusal that goes on behind its end")
    return PeerRefused(get_u8(data), sentence, running_ms=get_u64(data + 1))


# -- messages ------------------------------------------------------------------------------------

cdef struct MessageHead:
    int kind
    int is_rejected
    uint64_t numbers[9]     # from id to context, in the order of the picture
    size_t entry_count


cdef void _put_message_head(uint8_t* target, const MessageHead* head) noexcept nogil:
    cdef int at
    put_u8(target, <uint8_t>head.kind)
    put_u8(target + 1, <uint8_t>head.is_rejected)
    for at in range(9):
        put_u64(target + 2 + 8 * at, head.numbers[at])
    put_u32(target + 74, <uint32_t>head.entry_count)


# OK; INVALID: too short, or a flag that is none. The entry count is not looked at.
cdef int _get_message_head(const uint8_t* data, size_t data_bytes, MessageHead* head
                           ) noexcept nogil:
    cdef int at
    if data_bytes < MESSAGE_HEAD_BYTES:
        return STATUS_INVALID
    head.kind = get_u8(data)
    head.is_rejected = get_u8(data + 1)
    for at in range(9):
        head.numbers[at] = get_u64(data + 2 + 8 * at)
    head.entry_count = get_u32(data + 74)
    return STATUS_OK if head.is_rejected <= 1 else STATUS_INVALID


# Whether all entries are within the message, each of a kind and length that can be, and end with
# it; so that reading them needs no check.
cdef bint _entries_fit(const uint8_t* data, size_t data_bytes, size_t entry_count) noexcept nogil:
    cdef size_t entry_bytes
    while entry_count:
        if data_bytes < MESSAGE_ENTRY_HEAD_BYTES or get_u8(data + 16) > ENTRY_CONFIGURATION:
            return False
        entry_bytes = get_u32(data + 17)
        if entry_bytes > ENTRY_BYTES_MAX or entry_bytes > data_bytes - MESSAGE_ENTRY_HEAD_BYTES:
            return False
        data += MESSAGE_ENTRY_HEAD_BYTES + entry_bytes
        data_bytes -= MESSAGE_ENTRY_HEAD_BYTES + entry_bytes
        entry_count -= 1
    return data_bytes == 0


cdef Message _read_message(const uint8_t* data, size_t data_bytes, int channel):
    cdef MessageHead head
    cdef const uint8_t* at = data + MESSAGE_HEAD_BYTES
    cdef size_t entry_bytes
    cdef list entries = []
    cdef size_t left_count
    cdef Message message
    memset(&head, 0, sizeof(head))
    if (_get_message_head(data, data_bytes, &head) != STATUS_OK
            or not _entries_fit(at, data_bytes - MESSAGE_HEAD_BYTES, head.entry_count)):
        _refuse("sent a message whose lengths, counts or kinds do not fit")
    left_count = head.entry_count
    while left_count:
        entry_bytes = get_u32(at + 17)
        entries.append(Entry(
            get_u64(at), get_u64(at + 8), get_u8(at + 16),
            PyBytes_FromStringAndSize(<const char*>at + MESSAGE_ENTRY_HEAD_BYTES, entry_bytes),
        ))
        at += MESSAGE_ENTRY_HEAD_BYTES + entry_bytes
        left_count -= 1
    try:
        message = Message(
            head.kind, head.numbers[0], head.numbers[1], head.numbers[2],
            index=head.numbers[3], log_term=head.numbers[4], commit_index=head.numbers[5],
            entries=tuple(entries), is_rejected=head.is_rejected, hint_index=head.numbers[6],
            hint_term=head.numbers[7], context=head.numbers[8],
        )
    except ValueError as error:
        _refuse(f"sent a message that cannot be: {error}")
    if channel_of(message) != channel or (entries and channel != CHANNEL_ORDERED):
        _refuse(f"sent a message on channel {channel}, where it does not belong: {message!r}")
    return message


def channel_of(Message message not None):
    """The channel a message takes: those on one stay in order, the others may pass them."""
    return CHANNEL_ORDERED if message.kind == MESSAGE_APPEND else CHANNEL_PROMPT


def message_bytes(Message message not None):
    """How many bytes a message takes, without frames."""
    cdef Entry entry
    cdef size_t total_bytes = MESSAGE_HEAD_BYTES
    for entry in message.entries:
        total_bytes += MESSAGE_ENTRY_HEAD_BYTES + len(entry.data)
    return total_bytes


# A stretch of a message's bytes that is being written: what lies before it is skipped.
cdef struct Stretch:
    uint8_t* target
    size_t skip_bytes
    size_t left_bytes


cdef void _put_piece(Stretch* stretch, const uint8_t* piece, size_t piece_bytes) noexcept nogil:
    cdef size_t taken_bytes
    if stretch.skip_bytes >= piece_bytes:
        stretch.skip_bytes -= piece_bytes
        return
    taken_bytes = min(piece_bytes - stretch.skip_bytes, stretch.left_bytes)
    memcpy(stretch.target, piece + stretch.skip_bytes, taken_bytes)
    stretch.target += taken_bytes
    stretch.left_bytes -= taken_bytes
    stretch.skip_bytes = 0


cdef int _put_message(uint8_t* target, Message message, size_t offset, size_t count_bytes
                      ) except -1:
    cdef Stretch stretch
    cdef MessageHead head
    cdef Entry entry
    cdef uint8_t head_bytes[MESSAGE_HEAD_BYTES]
    cdef const uint8_t* data
    stretch.target = target
    stretch.skip_bytes = offset
    stretch.left_bytes = count_bytes
    head.kind = message.kind
    head.is_rejected = message.is_rejected
    head.numbers[0] = message.from_id
    head.numbers[1] = message.to_id
    head.numbers[2] = message.term
    head.numbers[3] = message.index
    head.numbers[4] = message.log_term
    head.numbers[5] = message.commit_index
    head.numbers[6] = message.hint_index
    head.numbers[7] = message.hint_term
    head.numbers[8] = message.context
    head.entry_count = len(message.entries)
    _put_message_head(head_bytes, &head)
    _put_piece(&stretch, head_bytes, MESSAGE_HEAD_BYTES)
    for entry in message.entries:
        if stretch.left_bytes == 0:
            break
        put_u64(head_bytes, entry.index)
        put_u64(head_bytes + 8, entry.term)
        put_u8(head_bytes + 16, <uint8_t>entry.kind)
        put_u32(head_bytes + 17, <uint32_t>len(entry.data))
        _put_piece(&stretch, head_bytes, MESSAGE_ENTRY_HEAD_BYTES)
        data = <const uint8_t*><const char*>entry.data
        _put_piece(&stretch, data, len(entry.data))
    return 0


# -- in ------------------------------------------------------------------------------------------

cdef class Frame:
    """One thing that another node said."""

    def __init__(self):
        raise TypeError("a Frame is made by a FrameReader")

    def __repr__(self):
        return f"Frame({_NAMES[self.type]} call_id={self.call_id} {self.body!r})"


cdef Frame _frame(int type, uint64_t call_id, object body):
    cdef Frame frame = Frame.__new__(Frame)
    frame.type = type
    frame.call_id = call_id
    frame.body = body
    return frame


cdef class FrameReader:
    """Frames out of the bytes of one direction; nothing in them is trusted.

    After a PeerRefused the reader is of no more use.
    """

    def __cinit__(self):
        self._types = 1 << FRAME_HELLO | 1 << FRAME_REFUSAL

    def __dealloc__(self):
        buffer_free(&self._held)
        buffer_free(&self._message)

    def open(self, uint64_t sender_nonce, uint64_t receiver_nonce, types):
        """Both have said hello: from here on frames are of this session, and of these types."""
        self._session = session_between(sender_nonce, receiver_nonce)
        self._types = 1 << FRAME_HELLO | 1 << FRAME_REFUSAL
        for type in types:
            self._types |= 1 << <int>type

    def feed(self, bytes data not None):
        """More bytes have come."""
        if self._data is not None:
            self._hold()
        if self._held.used_bytes == 0:
            self._data = data
            self._data_at = 0
            return
        if self._held_at != 0:
            self._held.used_bytes -= self._held_at
            memmove(self._held.data, self._held.data + self._held_at, self._held.used_bytes)
            self._held_at = 0
        _append(&self._held, <const uint8_t*><const char*>data, len(data))

    def next(self):
        """The next frame; None where more bytes must come first. Raises PeerRefused."""
        cdef const uint8_t* data
        cdef size_t data_bytes, used_bytes = 1
        cdef Frame frame = None
        while frame is None and used_bytes != 0:
            if self._held.used_bytes != 0:
                data = self._held.data + self._held_at
                data_bytes = self._held.used_bytes - self._held_at
            elif self._data is not None:
                data = <const uint8_t*><const char*>self._data + self._data_at
                data_bytes = len(self._data) - self._data_at
            else:
                return None
            frame = self._take(data, data_bytes, &used_bytes)
            self._drop(used_bytes)
        if frame is None:
            self._hold()
        return frame

    def end(self):
        """No more bytes will come. Raises PeerRefused where something is left unfinished."""
        if not self._has_begun or self._sequence == 0:
            _refuse("closed the connection before it said who it is")
        if self.held_bytes != 0:
            _refuse("ended in the middle of a frame")
        if self._message_bytes != 0:
            _refuse("ended in the middle of a message")

    @property
    def held_bytes(self):
        """What has come and makes no whole frame yet."""
        cdef size_t held_bytes = self._held.used_bytes - self._held_at
        if self._data is not None:
            held_bytes += len(self._data) - self._data_at
        return held_bytes

    cdef int _hold(self) except -1:
        """Keep what is left of the last bytes behind what is held."""
        cdef bytes data = self._data
        cdef const uint8_t* at
        if data is not None:
            at = <const uint8_t*><const char*>data
            _append(&self._held, at + self._data_at, len(data) - self._data_at)
            self._data = None
        return 0

    cdef void _drop(self, size_t used_bytes) noexcept:
        if self._held.used_bytes == 0:
            self._data_at += used_bytes
            if self._data is not None and self._data_at == <size_t>len(self._data):
                self._data = None
            return
        self._held_at += used_bytes
        if self._held_at == self._held.used_bytes:
            self._held_at = self._held.used_bytes = 0
            if self._held.capacity_bytes > KEPT_BYTES_MAX:
                buffer_free(&self._held)

    # Takes the preamble, a frame or a part of a message; None where that makes no frame yet.
    # `used_bytes` is 0 where more must come first.
    cdef Frame _take(self, const uint8_t* data, size_t data_bytes, size_t* used_bytes):
        cdef FrameHeader header
        cdef int status
        used_bytes[0] = 0
        if not self._has_begun:
            used_bytes[0] = self._begin(data, data_bytes)
            return None
        status = get_frame_header(data, data_bytes, &header)
        if status == STATUS_NEED_MORE:
            return None
        if status != STATUS_OK:
            _refuse_header(status, &header)
        if header.sequence != self._sequence:
            _refuse(f"sent frame {header.sequence} where frame {self._sequence} was due")
        if not self._types >> header.type & 1:
            _refuse(f"sent a {_NAMES[header.type]} frame, which has no place here")
        if data_bytes - FRAME_HEADER_BYTES < header.payload_bytes:
            return None
        if get_u32(data) != crc32c_raw(
                self._session, data + 4, FRAME_HEADER_BYTES - 4 + header.payload_bytes):
            _refuse("sent a frame whose checksum is wrong: it is damaged or of another connection")
        self._sequence += 1
        used_bytes[0] = FRAME_HEADER_BYTES + header.payload_bytes
        return self._read(&header, data + FRAME_HEADER_BYTES)

    cdef size_t _begin(self, const uint8_t* data, size_t data_bytes) except? 0:
        """Take the preamble; 0 where it is not whole."""
        cdef size_t magic_bytes = min(data_bytes, <size_t>MAGIC_BYTES)
        cdef uint32_t version
        if memcmp(data, MAGIC, magic_bytes) != 0:
            _refuse("does not speak Seafoam's peer protocol")
        if data_bytes < PEER_PREAMBLE_BYTES:
            return 0
        if crc32c_raw(0, data, 12) != get_u32(data + 12):
            _refuse("does not speak Seafoam's peer protocol: its first bytes are damaged")
        version = get_u32(data + 8)
        if version != PEER_VERSION:
            _refuse(f"speaks version {version} of the peer protocol; known is {PEER_VERSION}")
        self._has_begun = True
        return PEER_PREAMBLE_BYTES

    cdef Frame _read(self, const FrameHeader* header, const uint8_t* payload):
        cdef size_t payload_bytes = header.payload_bytes
        if header.type == FRAME_HELLO:
            return _frame(FRAME_HELLO, 0, _read_hello(payload, payload_bytes))
        if header.type == FRAME_REFUSAL:
            self._types = 0
            return _frame(FRAME_REFUSAL, 0, _read_refusal(payload, payload_bytes))
        if header.type == FRAME_RAFT:
            if self._message_bytes != 0 and header.channel == CHANNEL_ORDERED:
                _refuse("sent a message between the parts of another")
            return _frame(FRAME_RAFT, 0, _read_message(payload, payload_bytes, header.channel))
        if header.type == FRAME_PART:
            return self._read_part(payload, payload_bytes)
        if header.type == FRAME_CALL or header.type == FRAME_CALL_ANSWER:
            return self._read_call(header.type, payload, payload_bytes)
        return _frame(header.type, 0, None)

    cdef Frame _read_call(self, int type, const uint8_t* payload, size_t payload_bytes):
        cdef uint64_t call_id
        if payload_bytes < CALL_HEAD_BYTES:
            _refuse(f"sent a {_NAMES[type]} that is too short")
        call_id = get_u64(payload)
        if type == FRAME_CALL:
            if call_id <= self._call_id:
                _refuse(f"sent call {call_id} behind call {self._call_id}")
            self._call_id = call_id
        return _frame(type, call_id, PyBytes_FromStringAndSize(
            <const char*>payload + CALL_HEAD_BYTES, payload_bytes - CALL_HEAD_BYTES))

    cdef Frame _read_part(self, const uint8_t* payload, size_t payload_bytes):
        """A part: None until the message is whole."""
        cdef size_t total_bytes, offset, part_bytes
        if payload_bytes < PART_HEAD_BYTES:
            _refuse("sent a part that is too short")
        total_bytes = get_u32(payload)
        offset = get_u32(payload + 4)
        part_bytes = payload_bytes - PART_HEAD_BYTES
        if self._message_bytes == 0:
            if not WHOLE_BYTES_MAX < total_bytes <= PEER_PAYLOAD_BYTES_MAX:
                _refuse(f"sent parts of a message of {total_bytes} bytes; it must have more than "
                        f"{WHOLE_BYTES_MAX} and at most {PEER_PAYLOAD_BYTES_MAX}")
            self._message_bytes = total_bytes
        if total_bytes != self._message_bytes or offset != self._message.used_bytes:
            _refuse("sent parts of a message that do not fit each other")
        if part_bytes != min(<size_t>PART_BYTES_MAX, total_bytes - offset):
            _refuse(f"sent a part of {part_bytes} bytes where it should have another length")
        _append(&self._message, payload + PART_HEAD_BYTES, part_bytes)
        if self._message.used_bytes < total_bytes:
            return None
        message = _read_message(self._message.data, total_bytes, CHANNEL_ORDERED)
        buffer_free(&self._message)
        self._message_bytes = 0
        return _frame(FRAME_RAFT, 0, message)


cdef int _append(seafoam_buffer* buffer, const uint8_t* data, size_t data_bytes) except -1:
    if buffer_append(buffer, data, data_bytes) != 0:
        raise MemoryError
    return 0


# -- out -----------------------------------------------------------------------------------------

cdef class FrameWriter:
    """Frames of one direction: each call returns the bytes to send next, in the order of calls."""

    def open(self, uint64_t sender_nonce, uint64_t receiver_nonce):
        """Both have said hello: from here on frames are of this session."""
        self._session = session_between(sender_nonce, receiver_nonce)

    def hello(self, Hello hello not None):
        """Who speaks; behind the preamble where it is the first."""
        cdef uint8_t head[HELLO_HEAD_BYTES]
        put_u8(head, <uint8_t>hello.kind)
        put_u64(head + 1, hello.cluster_id)
        put_u64(head + 9, hello.node_id)
        put_u64(head + 17, hello.start_id)
        put_u64(head + 25, hello.nonce)
        return self._pack(FRAME_HELLO, PyBytes_FromStringAndSize(
            <const char*>head, HELLO_HEAD_BYTES) + _text(hello.peer_address)
            + _text(hello.http_address) + _text(hello.dialled_address))

    def refusal(self, uint8_t code, str sentence not None, uint64_t running_ms=0):
        """Why the connection ends; the sentence is cut to what a refusal may have."""
        cdef bytes text = sentence.encode()[:REFUSAL_BYTES_MAX]
        cdef uint8_t head[REFUSAL_HEAD_BYTES]
        put_u8(head, code)
        put_u64(head + 1, running_ms)
        return self._pack(FRAME_REFUSAL, PyBytes_FromStringAndSize(
            <const char*>head, REFUSAL_HEAD_BYTES) + _text(text.decode(errors="ignore")))

    def whole(self, Message message not None):
        """A message of at most WHOLE_BYTES_MAX; else ValueError."""
        cdef size_t total_bytes = message_bytes(message)
        cdef bytes frame
        cdef uint8_t* target
        if total_bytes > WHOLE_BYTES_MAX:
            raise ValueError(f"a message of {total_bytes} bytes must be cut")
        frame = PyBytes_FromStringAndSize(NULL, FRAME_HEADER_BYTES + total_bytes)
        target = <uint8_t*><char*>frame
        _put_message(target + FRAME_HEADER_BYTES, message, 0, total_bytes)
        self._seal(target, total_bytes, FRAME_RAFT, channel_of(message))
        return frame

    def part(self, Message message not None, size_t offset):
        """PART_BYTES_MAX of a larger message, or what is left, from a multiple of that."""
        cdef size_t total_bytes = message_bytes(message)
        cdef size_t part_bytes
        cdef bytes frame
        cdef uint8_t* target
        if not WHOLE_BYTES_MAX < total_bytes <= PEER_PAYLOAD_BYTES_MAX or offset >= total_bytes:
            raise ValueError(f"a message of {total_bytes} bytes has no part at {offset}")
        part_bytes = min(<size_t>PART_BYTES_MAX, total_bytes - offset)
        frame = PyBytes_FromStringAndSize(NULL, FRAME_HEADER_BYTES + PART_HEAD_BYTES + part_bytes)
        target = <uint8_t*><char*>frame
        put_u32(target + FRAME_HEADER_BYTES, <uint32_t>total_bytes)
        put_u32(target + FRAME_HEADER_BYTES + 4, <uint32_t>offset)
        _put_message(target + FRAME_HEADER_BYTES + PART_HEAD_BYTES, message, offset, part_bytes)
        self._seal(target, PART_HEAD_BYTES + part_bytes, FRAME_PART, CHANNEL_ORDERED)
        return frame

    def call(self, uint64_t call_id, bytes payload not None):
        """A question; its id is higher than any before. ValueError where it is too long."""
        return self._pack_call(FRAME_CALL, call_id, payload)

    def call_answer(self, uint64_t call_id, bytes payload not None):
        """An answer. ValueError where it is too long."""
        return self._pack_call(FRAME_CALL_ANSWER, call_id, payload)

    def probe(self):
        """Are you still there?"""
        return self._pack(FRAME_PROBE, b"")

    def probe_answer(self):
        """Yes."""
        return self._pack(FRAME_PROBE_ANSWER, b"")

    cdef bytes _pack_call(self, int type, uint64_t call_id, bytes payload):
        cdef size_t payload_bytes = len(payload)
        cdef bytes frame
        cdef uint8_t* target
        if payload_bytes > PEER_PAYLOAD_BYTES_MAX:
            raise ValueError(f"a call or answer of {payload_bytes} bytes is too large")
        frame = PyBytes_FromStringAndSize(
            NULL, FRAME_HEADER_BYTES + CALL_HEAD_BYTES + payload_bytes)
        target = <uint8_t*><char*>frame
        put_u64(target + FRAME_HEADER_BYTES, call_id)
        memcpy(target + FRAME_HEADER_BYTES + CALL_HEAD_BYTES, <const char*>payload, payload_bytes)
        self._seal(target, CALL_HEAD_BYTES + payload_bytes, type, CHANNEL_PROMPT)
        return frame

    cdef bytes _pack(self, int type, bytes payload):
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, FRAME_HEADER_BYTES + len(payload))
        cdef uint8_t* target = <uint8_t*><char*>frame
        cdef bint is_first = not self._has_begun
        memcpy(target + FRAME_HEADER_BYTES, <const char*>payload, len(payload))
        self._seal(target, len(payload), type, CHANNEL_PROMPT)
        self._has_begun = True
        return _preamble() + frame if is_first else frame

    cdef int _seal(self, uint8_t* frame, size_t payload_bytes, int type, int channel) except -1:
        cdef FrameHeader header
        header.payload_bytes = payload_bytes
        header.sequence = self._sequence
        header.type = type
        header.channel = channel
        seal_frame(frame, &header, self._session)
        self._sequence += 1
        return 0


cdef bytes _preamble():
    cdef uint8_t preamble[PEER_PREAMBLE_BYTES]
    memcpy(preamble, MAGIC, MAGIC_BYTES)
    put_u32(preamble + 8, PEER_VERSION)
    put_u32(preamble + 12, crc32c_raw(0, preamble, 12))
    return PyBytes_FromStringAndSize(<const char*>preamble, PEER_PREAMBLE_BYTES)
