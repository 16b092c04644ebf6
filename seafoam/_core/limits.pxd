# Every bound of the project, each with its reason. Limits are inclusive: a key of KEY_BYTES_MAX
# bytes is accepted. Owns numbers only; limits.pyx asserts how they relate. The last word of a
# name is its unit, before MIN or MAX.

cpdef enum:
    # A key is a name, not a document; 1 KiB keeps an entry's header and key within two cache
    # lines for ordinary keys and fits eleven bits.
    KEY_BYTES_MIN = 1
    KEY_BYTES_MAX = 1024
    # A value travels in one log record and one copy; a mebibyte (twenty-one bits) bounds both.
    VALUE_BYTES_MAX = 1048576
    # Depth of arrays and objects in a value: what the recursion-free checker keeps on its stack.
    JSON_DEPTH_MAX = 512
    # A batch body wraps its values in {"ops":[{"value": ...}]}.
    JSON_ENVELOPE_DEPTH = 3
    # Exponents beyond this are no measurement of anything, and comparing them costs memory.
    JSON_EXPONENT_MAX = 1000000
    # One request body: eight of the largest values.
    BODY_BYTES_MAX = 8388608
    # Pieces of a chunked body. Each costs some microseconds however small it is; this many still
    # carry the largest body in pieces of 128 bytes.
    BODY_CHUNKS_MAX = 65536
    # One answer; past it /get is refused, /scan ends its page, a batch's get is refused.
    ANSWER_BYTES_MAX = 67108864
    # What stands around a value in a batch's results, or there instead of one, at the most: the
    # values of a batch have what all its operations' frames leave of the answer.
    RESULT_FRAME_BYTES = 192
    # Request line and headers together.
    HEAD_BYTES_MAX = 16384
    CONNECTIONS_MAX = 10000
    # Requests of one connection that are not answered yet; then its socket is not read.
    CONNECTION_REQUESTS_MAX = 128
    # Request and answer bytes in flight in one process; then 429 overloaded.
    IN_FLIGHT_BYTES_MAX = 268435456
    # Writes that wait for the disk and for apply; then 429 overloaded, before proposing.
    PROPOSALS_BYTES_MAX = 67108864
    # From an incomplete request's first byte until 408.
    REQUEST_TIMEOUT_MS = 30000
    # Keys of one /get, operations of one /batch, keys of one /scan page.
    KEYS_PER_READ_MAX = 10000
    OPS_PER_BATCH_MAX = 10000
    # What the cas of one batch may compare, both sides together, beyond which they are refused:
    # one log entry is applied without a pause, and a mebibyte of shuffled fields takes 25 ms.
    COMPARED_BYTES_MAX = 8388608
    SCAN_LIMIT_DEFAULT = 1000
    SCAN_LIMIT_MAX = 10000
    TIMEOUT_MS_DEFAULT = 5000
    TIMEOUT_MS_MIN = 1
    TIMEOUT_MS_MAX = 60000
    # What a key costs beyond its own bytes and its value's, for the quota: an entry's header,
    # its share of a bucket and of size-class rounding, rounded up.
    ENTRY_OVERHEAD_BYTES = 48
    # The Raft machine's unit of time: fine enough that a drawn timeout tells candidates apart.
    TICK_MS = 10
    HEARTBEAT_MS = 50
    ELECTION_MS_MIN = 300
    ELECTION_MS_MAX = 600
    # How far a message's term may be ahead of a node's own. A term is an election, of which there
    # are at most a few in a second, and none where no majority would vote: so many take days in
    # which nothing else happens. Without a bound one message could use up all terms there are.
    TERMS_AHEAD_MAX = 1000000
    # Entries of one append, with APPEND_ENTRY_BYTES for each beside its data: one frame between
    # peers, behind which a heartbeat does not wait for long. One entry may be larger by itself.
    APPEND_BYTES_MAX = 262144
    APPEND_ENTRY_BYTES = 32
    # What a leader sends one follower before it must hear from it: enough to keep a disk and a
    # network busy for a round trip, and no more than a follower's memory bears.
    IN_FLIGHT_APPENDS_MAX = 128
    IN_FLIGHT_APPEND_BYTES_MAX = 16777216
    # Applied entries kept in memory for followers that lag; older ones are read from the disk.
    KEPT_LOG_BYTES_MAX = 16777216
    # What an entry in memory takes beside its data.
    KEPT_ENTRY_BYTES = 128
    # The log that a start reads behind its snapshot, if that file is no larger: some seconds.
    SNAPSHOT_LOG_BYTES = 268435456
    # Less would be mostly snapshots.
    SNAPSHOT_LOG_BYTES_MIN = 65536
    # One file of the write-ahead log.
    WAL_SEGMENT_BYTES = 67108864
    # The largest record: a full batch body in its binary form and its framing.
    WAL_RECORD_BYTES_MAX = 16777216
    # One block of a snapshot is full with this much: what a reader of the file holds of it, and
    # what a loop that loads a map does between two looks at its other work.
    SNAPSHOT_BLOCK_BYTES = 1048576
    # A snapshot is synced so often while it is written: what a sync of it can keep the log's next
    # one waiting for.
    SNAPSHOT_SYNC_BYTES = 8388608
    # How fast a snapshot is written, and no faster: a tenth to a half of what disks take, the rest
    # of which is the log's.
    SNAPSHOT_BYTES_PER_SECOND = 67108864
    # The map's pages are reserved in steps: 64 MiB at once takes 24 ms, this well under one.
    RESERVE_STEP_BYTES = 2097152
    # One frame between nodes on the connection that heartbeats take: behind a larger one they
    # would be late. What is larger is cut up.
    PEER_FRAME_BYTES_MAX = 262144
    # One Raft message, call or answer between nodes: the largest log entry and what it stands in.
    PEER_PAYLOAD_BYTES_MAX = 16842752
    # What waits to be sent on one connection between nodes: a leader's whole window for one
    # follower and the largest message on top.
    PEER_QUEUE_BYTES_MAX = 67108864
    # Calls of one connection between nodes that are not answered yet: what a busy node forwards
    # within a few round trips; each costs its asker and its answerer about a kilobyte.
    PEER_CALLS_MAX = 4096
    # Connections from other nodes: two or three for each node of the largest cluster, and room.
    PEER_CONNECTIONS_MAX = 256
    # From a connection's first moment until both sides have said who they are.
    PEER_GREETING_MS = 5000
    # For how long a node may take nothing of what is sent to it before it is cut off.
    PEER_STALL_MS = 5000
    # Within this a node proves that it still is the one it was, when another claims to be it.
    PEER_PROBE_MS = 2000
    # Between two attempts to reach a node: doubling from the one to the other.
    PEER_REDIAL_MS_MIN = 100
    PEER_REDIAL_MS_MAX = 2000
