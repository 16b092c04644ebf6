# Every byte format between nodes: how a connection begins, its frames, and what they carry.
#
# Owns the pictures of the bytes (below), the protocol's version and all checks of what another
# node sent. Must never do I/O, trust a length, a count or a text that it has read, or keep more
# than one frame and one message that is being put together. Any bytes are either what this node
# would have written or a PeerRefused, whose sentence goes behind the name of whoever sent them.
# Who may speak to whom (clusters, copies of nodes) is not decided here.
#
# All integers are little-endian. CRC is CRC32C. A text is its length in bytes (u16), then UTF-8
# that can be printed.
#
# Each direction of a connection begins with the preamble, the same in all versions, so that a
# stranger is told from a later Seafoam.
#
#    0                   8         12       16
#    +-------------------+---------+--------+
#    | magic "SEAFOAMP"  | version | crc    |   crc over bytes 0-11
#    +-------------------+---------+--------+
#
# FRAME: all that follows. The first is a HELLO or a REFUSAL.
#
#    0     4               8          12     13        14
#    +-----+---------------+----------+------+---------+---------+
#    | crc | payload bytes | sequence | type | channel | payload |
#    +-----+---------------+----------+------+---------+---------+
#           crc over everything behind it, going on from the session
#
#   session   of one direction: 0 until both sides have said HELLO, then the CRC of the sender's
#             and the receiver's nonce. So what was recorded on one connection is no frame on
#             another, nor when it is sent back.
#   sequence  counts the frames of one direction of one connection from 0: none comes twice, none
#             is left out.
#   channel   0 but for appends: they are on channel 1, in order. The rest does not wait for them.
#
#    type            payload
#    1 hello         below; again later, where what it says has changed
#    2 refusal       code u8, running u64, then a text: why the connection ends; nothing follows it
#                    running: where the refused is a copy, for how many milliseconds, at least,
#                    the one has been running that came first; else 0
#    3 raft          a message, below
#    4 part          bytes of the whole message u32, offset of this part u32, then the part; each
#                    but the last is PART_BYTES_MAX long, and they come in order
#    5 call          call id u64, higher than any before, then what is asked
#    6 call answer   call id u64, then what is answered
#    7 probe         nothing: are you still there?
#    8 probe answer  nothing
#
# HELLO: who speaks, and what for.
#
#    0      1            9         17         25      33
#    +------+------------+---------+----------+-------+--------------+--------------+---------+
#    | kind | cluster id | node id | start id | nonce | peer address | HTTP address | dialled |
#    +------+------------+---------+----------+-------+--------------+--------------+---------+
#     u8     u64          u64       u64        u64     three texts
#
#   kind      what the connection is for, said by who dialled and repeated by who was called
#   cluster   0 in none
#   nonce     drawn for this connection
#   addresses where others reach the speaker, as far as it knows, the second may be empty; and
#             which address was dialled, empty from the one who was called
#
# MESSAGE: one of Raft's, with all its fields (message.pxd).
#
#    0      1          2         10      18     26      34         42             50           58
#    +------+----------+---------+-------+------+-------+----------+--------------+------------+
#    | kind | rejected | from id | to id | term | index | log term | commit index | hint index |
#    +------+----------+---------+-------+------+-------+----------+--------------+------------+
#    58          66        74            78
#    +-----------+---------+-------------+-------+
#    | hint term | context | entry count | entry | ...   entry: index u64, term u64, kind u8,
#    +-----------+---------+-------------+-------+              data bytes u32, data

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.limits cimport PEER_FRAME_BYTES_MAX

cpdef enum:
    PEER_VERSION = 1

    PEER_PREAMBLE_BYTES = 16
    FRAME_HEADER_BYTES = 14
    MESSAGE_HEAD_BYTES = 78
    MESSAGE_ENTRY_HEAD_BYTES = 21
    PART_HEAD_BYTES = 8
    # A message of at most so many bytes goes as one frame.
    WHOLE_BYTES_MAX = PEER_FRAME_BYTES_MAX - FRAME_HEADER_BYTES
    PART_BYTES_MAX = WHOLE_BYTES_MAX - PART_HEAD_BYTES
    # A refusal is a sentence, not a document.
    REFUSAL_BYTES_MAX = 1024

    FRAME_HELLO = 1
    FRAME_REFUSAL = 2
    FRAME_RAFT = 3
    FRAME_PART = 4
    FRAME_CALL = 5
    FRAME_CALL_ANSWER = 6
    FRAME_PROBE = 7
    FRAME_PROBE_ANSWER = 8

    CHANNEL_PROMPT = 0
    CHANNEL_ORDERED = 1

    CONNECTION_RAFT = 1
    CONNECTION_CALLS = 2

    REFUSED_BYTES = 1       # what was sent is not what this node would have written
    REFUSED_CLUSTER = 2     # it belongs to another cluster
    REFUSED_COPY = 3        # another runs under the same node id, and answers
    REFUSED_FULL = 4        # too many connections

cdef struct FrameHeader:
    size_t payload_bytes
    uint32_t sequence
    int type
    int channel

# The session of one direction, from whom to whom.
cdef uint32_t session_between(uint64_t sender_nonce, uint64_t receiver_nonce) noexcept nogil
# Completes a frame whose payload stands behind FRAME_HEADER_BYTES of `frame`.
cdef void seal_frame(uint8_t* frame, const FrameHeader* header, uint32_t session) noexcept nogil
# OK; NEED_MORE; UNKNOWN_TYPE; TOO_LARGE: longer than a frame of its type can be; INVALID: a
# channel that its type has not. `header` is filled but for NEED_MORE. The crc is not looked at.
cdef int get_frame_header(const uint8_t* data, size_t data_bytes, FrameHeader* header
                          ) noexcept nogil

# What a node says of itself on a connection. Made in Python it is checked (ValueError).
cdef class Hello:
    cdef readonly int kind
    cdef readonly uint64_t cluster_id
    cdef readonly uint64_t node_id
    cdef readonly uint64_t start_id
    cdef readonly uint64_t nonce
    cdef readonly str peer_address
    cdef readonly str http_address
    cdef readonly str dialled_address

# One thing that another node said. A message that came in parts is one of type FRAME_RAFT.
cdef class Frame:
    cdef readonly int type
    cdef readonly uint64_t call_id     # of a call or its answer, else 0
    # Hello; PeerRefused; Message; bytes of a call or its answer; None of probes.
    cdef readonly object body

# One direction's bytes, in.
cdef class FrameReader:
    cdef bytes _data                   # what came last, not yet taken
    cdef size_t _data_at
    cdef seafoam_buffer _held          # a frame that is not whole, and what came behind it
    cdef size_t _held_at
    cdef seafoam_buffer _message       # parts that came
    cdef size_t _message_bytes         # of the message they make; 0 for none
    cdef uint32_t _session
    cdef uint32_t _sequence            # the next frame's
    cdef uint32_t _types               # bit t: a frame of type t may come
    cdef bint _has_begun               # the preamble was taken
    cdef uint64_t _call_id             # the last call's
    cdef int _hold(self) except -1
    cdef void _drop(self, size_t used_bytes) noexcept
    cdef Frame _take(self, const uint8_t* data, size_t data_bytes, size_t* used_bytes)
    cdef size_t _begin(self, const uint8_t* data, size_t data_bytes) except? 0
    cdef Frame _read(self, const FrameHeader* header, const uint8_t* payload)
    cdef Frame _read_call(self, int type, const uint8_t* payload, size_t payload_bytes)
    cdef Frame _read_part(self, const uint8_t* payload, size_t payload_bytes)

# One direction's bytes, out.
cdef class FrameWriter:
    cdef uint32_t _session
    cdef uint32_t _sequence            # the next frame's, modulo 2^32 as the reader's
    cdef bint _has_begun               # the preamble was given
    cdef bytes _pack_call(self, int type, uint64_t call_id, bytes payload)
    cdef bytes _pack(self, int type, bytes payload)
    cdef int _seal(self, uint8_t* frame, size_t payload_bytes, int type, int channel) except -1
