"""The bounds of limits.pxd, as Python sees them, and how they must relate."""


def _require(bint holds, str reason):
    if not holds:
        raise ImportError(f"seafoam/_core/limits.pxd is inconsistent: {reason}")


_require(KEY_BYTES_MAX < 1 << 11, "a key's length takes eleven bits of an entry's header")
_require(VALUE_BYTES_MAX < 1 << 21, "a value's length takes twenty-one bits of an entry's header")
_require(VALUE_BYTES_MAX + KEY_BYTES_MAX < BODY_BYTES_MAX, "the largest /set must fit a body")
_require(BODY_CHUNKS_MAX * 128 >= BODY_BYTES_MAX, "the largest body must fit its chunks")
_require(BODY_BYTES_MAX < ANSWER_BYTES_MAX, "a batch of gets may answer more than it asks")
_require(OPS_PER_BATCH_MAX * RESULT_FRAME_BYTES + BODY_BYTES_MAX < ANSWER_BYTES_MAX,
         "the largest batch must leave its values room")
_require(BODY_BYTES_MAX * 2 <= WAL_RECORD_BYTES_MAX, "a batch's binary form must fit a record")
_require(WAL_RECORD_BYTES_MAX * 2 < WAL_SEGMENT_BYTES, "a record must fit a fresh segment")
_require(VALUE_BYTES_MAX * 2 <= COMPARED_BYTES_MAX, "a cas by itself must never be refused for it")
_require(ANSWER_BYTES_MAX < IN_FLIGHT_BYTES_MAX, "one answer must fit the process's budget")
_require(WAL_RECORD_BYTES_MAX < PROPOSALS_BYTES_MAX, "the largest write must be admissible")
_require(HEARTBEAT_MS % TICK_MS == 0 and ELECTION_MS_MIN % TICK_MS == 0
         and ELECTION_MS_MAX % TICK_MS == 0, "what the machine counts is whole ticks")
_require(ELECTION_MS_MAX >= ELECTION_MS_MIN + 10 * TICK_MS, "candidates must draw apart")
_require(APPEND_BYTES_MAX <= IN_FLIGHT_APPEND_BYTES_MAX, "one append must fit the window")
_require(ELECTION_MS_MIN >= 5 * HEARTBEAT_MS, "a few lost heartbeats must not start an election")
_require(SCAN_LIMIT_DEFAULT <= SCAN_LIMIT_MAX, "the default page must be allowed")
_require(TIMEOUT_MS_MIN <= TIMEOUT_MS_DEFAULT <= TIMEOUT_MS_MAX, "the default must be allowed")
_require(APPEND_BYTES_MAX <= PEER_FRAME_BYTES_MAX, "an append of small entries must fit a frame")
_require(WAL_RECORD_BYTES_MAX < PEER_PAYLOAD_BYTES_MAX, "the largest entry must fit a message")
_require(IN_FLIGHT_APPEND_BYTES_MAX + PEER_PAYLOAD_BYTES_MAX < PEER_QUEUE_BYTES_MAX,
         "a follower's window must fit its queue")
_require(PEER_PROBE_MS < PEER_GREETING_MS, "a copy must be found out before the greeting ends")
_require(PEER_REDIAL_MS_MIN < PEER_REDIAL_MS_MAX, "attempts become rarer")
