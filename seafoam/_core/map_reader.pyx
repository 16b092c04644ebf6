"""Readers of the shared map. map_reader.pxd says what they promise, map_protocol.pxd why."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from seafoam._core.atomics cimport (
    load_acquire_u64, load_relaxed_u32, load_relaxed_u64, spin_pause, store_relaxed_u64,
    validate_load_u64,
)
from seafoam._core.buffer cimport buffer_free, buffer_reserve, seafoam_buffer
from seafoam._core.limits cimport (
    ANSWER_BYTES_MAX, KEY_BYTES_MAX, KEY_BYTES_MIN, KEYS_PER_READ_MAX, SCAN_LIMIT_DEFAULT,
    SCAN_LIMIT_MAX,
)
from seafoam._core.map_layout cimport (
    BUCKET_SHIFT, TAGS_OFFSET_BYTES, MapView, Probe, bucket_index_of, hash_key, layout_check,
    matching_slots, prefetch, slot_of_match, tag_of, view_open,
)
from seafoam._core.map_protocol cimport (
    Found, bucket_is_unmoved, copy_value, map_confirm, map_locate, slot_word,
)
from seafoam._core.map_scan cimport ScanItem, ScanPage, cursor_parts, cursor_text, scan_page
from seafoam._core.segment cimport Segment, owner_lives
from seafoam._core.status cimport (
    STATUS_CONTENDED, STATUS_DETACHED, STATUS_NO_MEMORY, STATUS_NOT_FOUND, STATUS_OK,
    STATUS_TOO_LARGE,
)

from seafoam.errors import Detached, Refusal

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef enum:
    # A writer that runs is done with a bucket in well under a microsecond; one that sleeps in the
    # middle of a change is waited for, with the processor offered to it, for some milliseconds.
    READ_ATTEMPTS_MAX = 8192
    LENIENT_ATTEMPTS = 64
    # A multi-key read's pass over so many sequences counts as one attempt more.
    ATTEMPT_SEQUENCES = 128
    # Keys whose lines are fetched together before they are read.
    PREFETCH_COUNT = 16
    # A copy over this takes longer than letting go of the GIL and taking it again.
    GIL_COPY_BYTES = 4096


cdef inline void wait_a_little(int attempt) noexcept nogil:
    spin_pause()
    if attempt >= LENIENT_ATTEMPTS:
        sched_yield()


cdef inline int key_view(object key, const uint8_t** data, Py_ssize_t* key_bytes) except -1:
    # The key's bytes, valid as long as the key is referenced.
    if type(key) is str:
        data[0] = <const uint8_t*>PyUnicode_AsUTF8AndSize(key, key_bytes)
    elif type(key) is bytes:
        data[0] = <const uint8_t*>PyBytes_AS_STRING(key)
        key_bytes[0] = PyBytes_GET_SIZE(key)
    else:
        raise TypeError(f"a key is str or bytes, not {type(key).__name__}")
    return 0


cdef inline bint is_key(size_t key_bytes) noexcept nogil:
    return KEY_BYTES_MIN <= key_bytes <= KEY_BYTES_MAX


cdef int raise_outcome(int status) except -1:
    if status == STATUS_DETACHED:
        raise Detached("the map's writer has ended, or the map was replaced")
    if status == STATUS_CONTENDED:
        raise Refusal("overloaded", "the keys are written faster than they can be read together")
    if status == STATUS_TOO_LARGE:
        raise Refusal("too_large", "the values are more than one answer may hold; ask for fewer")
    raise MemoryError("no memory for the values")


cdef void prefetch_items(const MapView* view, ReadItem* items, size_t item_count) noexcept nogil:
    """Has the lines of some keys fetched, buckets first, then entries; nothing is concluded."""
    cdef uint64_t bucket_count = load_acquire_u64(&view.header.bucket_count)
    cdef uint64_t index, matches
    cdef const uint64_t* line
    cdef const uint8_t* entry
    cdef size_t at
    for at in range(item_count):
        items[at].hash = hash_key(view.seed, items[at].key, items[at].key_bytes)
        index = bucket_index_of(items[at].hash, bucket_count)
        items[at].bucket_line = NULL
        if index < view.bucket_limit_count:
            items[at].bucket_line = <const uint64_t*>(view.buckets + (index << BUCKET_SHIFT))
            prefetch(items[at].bucket_line)
    for at in range(item_count):
        line = items[at].bucket_line
        if line == NULL:
            continue
        matches = matching_slots(load_relaxed_u64(line + TAGS_OFFSET_BYTES // 8),
                                 load_relaxed_u64(line + TAGS_OFFSET_BYTES // 8 + 1),
                                 tag_of(items[at].hash))
        if matches != 0:
            entry = view.base + (
                <uint64_t>load_relaxed_u32(slot_word(line, slot_of_match(matches)))
                << view.unit_shift)
            prefetch(entry)
            prefetch(entry + 63)


cdef class MapReader:
    """A reader of the shared map, for any number of threads: `attach` one, or `writer.reader()`.

    Keys are str or bytes, values bytes. With `release_gil`, every read lets go of the GIL, which
    costs more than reading a small value does. A read raises Detached where the map's writer has
    ended, and Refusal (``overloaded``) where it could not be validated.
    """

    def __init__(self):
        raise TypeError("a MapReader is made by MapReader.attach or MapWriter.reader")

    @staticmethod
    cdef MapReader of(Segment segment, bint releases_gil):
        cdef MapReader reader = MapReader.__new__(MapReader)
        reader.segment = segment
        reader.releases_gil = releases_gil
        view_open(&reader._view, segment.base)
        return reader

    @staticmethod
    def attach(int fd, *, bint release_gil=False):
        """A reader of the map behind a descriptor, which stays the caller's.

        Raises ValueError where it holds no map that this version reads, OSError.
        """
        cdef Segment segment = Segment.attach(fd)
        layout_check(segment)
        return MapReader.of(segment, release_gil)

    # --- without the GIL ---------------------------------------------------------------------

    cdef bint is_alive(self) noexcept nogil:
        return owner_lives(&self._view.header.owner)

    cdef int _outcome(self, int status, int attempt_count) noexcept nogil:
        # What a read comes to, after its copy: a dead writer's map answers nothing.
        if attempt_count != 0:
            store_relaxed_u64(&self._retry_count,
                              load_relaxed_u64(&self._retry_count) + attempt_count)
            if status == STATUS_CONTENDED:
                store_relaxed_u64(&self._contended_count,
                                  load_relaxed_u64(&self._contended_count) + 1)
        return status if owner_lives(&self._view.header.owner) else STATUS_DETACHED

    cdef int get_into(self, const uint8_t* key, size_t key_bytes, seafoam_buffer* out,
                      uint64_t* version) noexcept nogil:
        cdef Probe probe
        cdef Found found
        cdef int attempt = 0, status = STATUS_NOT_FOUND
        probe.key = key
        probe.key_bytes = key_bytes
        probe.hash = hash_key(self._view.seed, key, key_bytes)
        while is_key(key_bytes):
            status = map_locate(&self._view, &probe, &found, attempt >= LENIENT_ATTEMPTS)
            if status == STATUS_NOT_FOUND:
                break
            if status == STATUS_OK:
                if buffer_reserve(out, found.entry.value_bytes):
                    return STATUS_NO_MEMORY
                copy_value(&found.entry, out.data + out.used_bytes)
                if map_confirm(&found):
                    out.used_bytes += found.entry.value_bytes
                    version[0] = found.entry.version
                    break
            status = STATUS_CONTENDED
            attempt += 1
            if attempt == READ_ATTEMPTS_MAX:
                break
            wait_a_little(attempt)
        return self._outcome(status, attempt)

    cdef int get_many_into(self, ReadItem* items, size_t item_count, seafoam_buffer* out,
                           size_t max_value_bytes) noexcept nogil:
        cdef ManyState state
        cdef const uint64_t* multi_word = &self._view.header.multi_sequence
        cdef uint64_t multi_sequence
        cdef size_t attempt_count = 0
        cdef int status
        memset(&state, 0, sizeof(state))
        state.out = out
        state.max_value_bytes = max_value_bytes
        status = self._read_all(items, item_count, &state)
        while status == STATUS_OK:
            # The pass begins here, after the last copy, unless several keys are being written.
            multi_sequence = load_acquire_u64(multi_word)
            if multi_sequence & 1 == 0:
                status = self._reread_moved(items, item_count, &state)
                if status != STATUS_OK or (
                        state.is_unmoved and validate_load_u64(multi_word) == multi_sequence):
                    break
                attempt_count += item_count // ATTEMPT_SEQUENCES
            attempt_count += 1
            state.reread_count += 1
            if attempt_count >= READ_ATTEMPTS_MAX:
                status = STATUS_CONTENDED
                break
            wait_a_little(<int>attempt_count)
        return self._outcome(status, <int>state.reread_count)

    cdef int _read_item(self, ReadItem* item, seafoam_buffer* out) noexcept nogil:
        # One key under its bucket's sequence, which is kept. A value that was read before and is
        # no longer than it was takes its place.
        cdef Probe probe
        cdef Found found
        cdef int attempt = 0, status
        probe.key = item.key
        probe.key_bytes = item.key_bytes
        probe.hash = item.hash
        while True:
            status = map_locate(&self._view, &probe, &found, False)
            if status == STATUS_OK:
                if found.entry.value_bytes > item.room_bytes:
                    if buffer_reserve(out, found.entry.value_bytes):
                        return STATUS_NO_MEMORY
                    item.value_start = out.used_bytes
                    item.room_bytes = found.entry.value_bytes
                    out.used_bytes += found.entry.value_bytes
                copy_value(&found.entry, out.data + item.value_start)
                item.value_bytes = found.entry.value_bytes
                item.version = found.entry.version
            elif status == STATUS_NOT_FOUND:
                item.value_bytes = 0
                item.version = 0
            if status != STATUS_CONTENDED and bucket_is_unmoved(&found.bucket):
                item.found = status == STATUS_OK
                item.bucket_line = found.bucket.line
                item.sequence = found.bucket.sequence
                return STATUS_OK
            attempt += 1
            if attempt == READ_ATTEMPTS_MAX:
                return STATUS_CONTENDED
            wait_a_little(attempt)

    cdef int _read_all(self, ReadItem* items, size_t item_count, ManyState* state) noexcept nogil:
        cdef size_t at, first, fetch_count
        cdef int status
        first = 0
        while first < item_count:
            fetch_count = item_count - first
            if fetch_count > PREFETCH_COUNT:
                fetch_count = PREFETCH_COUNT
            prefetch_items(&self._view, items + first, fetch_count)
            for at in range(first, first + fetch_count):
                items[at].value_start = state.out.used_bytes
                items[at].room_bytes = 0
                status = self._read_item(&items[at], state.out)
                if status != STATUS_OK:
                    return status
                state.found_bytes += items[at].value_bytes
                if state.found_bytes > state.max_value_bytes:
                    return STATUS_TOO_LARGE
            first += fetch_count
        return STATUS_OK

    cdef int _reread_moved(self, ReadItem* items, size_t item_count, ManyState* state
                           ) noexcept nogil:
        # One pass. is_unmoved: nothing has moved since each was read, so all stood there together.
        cdef size_t at, previous_bytes
        cdef int status
        state.is_unmoved = True
        for at in range(item_count):
            if validate_load_u64(items[at].bucket_line) == items[at].sequence:
                continue
            state.is_unmoved = False
            state.reread_count += 1
            previous_bytes = items[at].value_bytes
            status = self._read_item(&items[at], state.out)
            if status != STATUS_OK:
                return status
            state.found_bytes += items[at].value_bytes
            state.found_bytes -= previous_bytes
            if state.found_bytes > state.max_value_bytes:
                return STATUS_TOO_LARGE
        return STATUS_OK

    cdef int scan_into(self, ScanPage* page, seafoam_buffer* out) noexcept nogil:
        cdef uint64_t attempt_count = 0
        cdef int status = scan_page(&self._view, page, out, &attempt_count)
        return self._outcome(status, <int>attempt_count)

    cdef uint64_t applying_index_now(self) noexcept nogil:
        return load_acquire_u64(&self._view.header.applying_index)

    cdef uint64_t applied_index_now(self) noexcept nogil:
        return load_acquire_u64(&self._view.header.applied_index)

    # --- for Python --------------------------------------------------------------------------

    cdef object _fetch(self, object key, uint64_t* version):
        # The value copied straight into its bytes object, which nobody else has yet.
        cdef Probe probe
        cdef Found found
        cdef Py_ssize_t key_bytes = 0
        cdef uint8_t* target
        cdef int attempt = 0, status = STATUS_NOT_FOUND
        cdef bint is_lenient, is_confirmed
        cdef bytes value = None
        key_view(key, &probe.key, &key_bytes)
        probe.key_bytes = key_bytes
        probe.hash = hash_key(self._view.seed, probe.key, key_bytes)
        while is_key(key_bytes):
            is_lenient = attempt >= LENIENT_ATTEMPTS
            if self.releases_gil:
                with nogil:
                    status = map_locate(&self._view, &probe, &found, is_lenient)
            else:
                status = map_locate(&self._view, &probe, &found, is_lenient)
            if status == STATUS_NOT_FOUND:
                break
            if status == STATUS_OK:
                value = PyBytes_FromStringAndSize(NULL, found.entry.value_bytes)
                target = <uint8_t*>PyBytes_AS_STRING(value)
                if self.releases_gil or found.entry.value_bytes > GIL_COPY_BYTES:
                    with nogil:
                        copy_value(&found.entry, target)
                        is_confirmed = map_confirm(&found)
                else:
                    copy_value(&found.entry, target)
                    is_confirmed = map_confirm(&found)
                if is_confirmed:
                    version[0] = found.entry.version
                    break
            status = STATUS_CONTENDED
            attempt += 1
            if attempt == READ_ATTEMPTS_MAX:
                break
            wait_a_little(attempt)
        status = self._outcome(status, attempt)
        if status == STATUS_OK:
            return value
        if status == STATUS_NOT_FOUND:
            return None
        raise_outcome(status)

    cdef tuple _read_many(self, object keys, size_t max_value_bytes, bint with_versions):
        # ([value or None], [version or 0] or None), at one point in time.
        cdef tuple names = tuple(keys)      # holds the keys while other threads may run
        cdef size_t count = len(names), at
        cdef Py_ssize_t key_bytes = 0
        cdef ReadItem* items
        cdef seafoam_buffer out
        cdef int status
        cdef list values, versions
        cdef object value, version      # objects: the lists take over a reference of each
        if count > KEYS_PER_READ_MAX:
            raise ValueError(f"{count} keys at once; at most {KEYS_PER_READ_MAX} can be read so")
        items = <ReadItem*>malloc(count * sizeof(ReadItem) + 1)
        memset(&out, 0, sizeof(out))
        if items == NULL:
            raise MemoryError("no memory for the keys")
        try:
            for at in range(count):
                key_view(<object>PyTuple_GET_ITEM(names, at), &items[at].key, &key_bytes)
                items[at].key_bytes = key_bytes
            with nogil:
                status = self.get_many_into(items, count, &out, max_value_bytes)
            if status != STATUS_OK:
                raise_outcome(status)
            values = PyList_New(count)
            versions = PyList_New(count) if with_versions else None
            for at in range(count):
                value = None
                if items[at].found:
                    value = PyBytes_FromStringAndSize(
                        <char*>out.data + items[at].value_start, items[at].value_bytes)
                Py_INCREF(value)
                PyList_SET_ITEM(values, at, value)
                if with_versions:
                    version = items[at].version
                    Py_INCREF(version)
                    PyList_SET_ITEM(versions, at, version)
            return values, versions
        finally:
            free(items)
            buffer_free(&out)

    def get(self, key, /):
        """A key's value (bytes of JSON text), or None."""
        cdef uint64_t version
        return self._fetch(key, &version)

    def get_versioned(self, key, /):
        """A key's value and the index of the log entry that wrote it; or None."""
        cdef uint64_t version = 0
        value = self._fetch(key, &version)
        return None if value is None else (value, version)

    def get_many(self, keys, max_value_bytes=ANSWER_BYTES_MAX):
        """The keys' values, in order, None where there is none: all at one point in time.

        At most 10,000 keys, whose values are at most `max_value_bytes` together (else Refusal,
        ``too_large``). Always without the GIL.
        """
        return self._read_many(keys, max_value_bytes, False)[0]

    def get_many_versioned(self, keys, max_value_bytes=ANSWER_BYTES_MAX):
        """As `get_many`: the values, and the versions, 0 where there is no such key."""
        return self._read_many(keys, max_value_bytes, True)

    def scan(self, prefix=b"", str after not None="", size_t limit=SCAN_LIMIT_DEFAULT,
             bint values=False, size_t max_bytes=ANSWER_BYTES_MAX):
        """One page of the keys (bytes) with a prefix: (keys, values or None, next or None).

        Begins behind `after`, an earlier page's next, and has at most `limit` keys (1 to 10,000)
        of at most `max_bytes` together with their values; it may have fewer, or none, before the
        end, where next is None. No key is missed that stays, none comes twice that stays. The
        order is not specified. Always without the GIL. Raises Refusal for an `after` that is no
        next of a page with this prefix (``bad_request``), or one of another cluster
        (``wrong_cluster``).
        """
        cdef ScanPage page
        cdef seafoam_buffer out
        cdef int status
        cdef bytes after_key = b""
        cdef bytes wanted
        if not 1 <= limit <= SCAN_LIMIT_MAX:
            raise ValueError(f"limit is {limit}; it must be 1 to {SCAN_LIMIT_MAX}")
        if not isinstance(prefix, str) and type(prefix) is not bytes:
            raise TypeError(f"a prefix is str or bytes, not {type(prefix).__name__}")
        wanted = prefix.encode() if isinstance(prefix, str) else prefix
        memset(&page, 0, sizeof(page))
        memset(&out, 0, sizeof(out))
        if after:
            page.position, after_key = cursor_parts(&self._view, wanted, after)
        page.after_key = <const uint8_t*>PyBytes_AS_STRING(after_key)
        page.after_key_bytes = PyBytes_GET_SIZE(after_key)
        page.prefix = <const uint8_t*>PyBytes_AS_STRING(wanted)
        page.prefix_bytes = PyBytes_GET_SIZE(wanted)
        page.with_values = values
        page.limit_count = limit
        page.max_bytes = max_bytes
        page.items = <ScanItem*>malloc(limit * sizeof(ScanItem))
        if page.items == NULL:
            raise MemoryError("no memory for the page")
        try:
            with nogil:
                status = self.scan_into(&page, &out)
            if status != STATUS_OK:
                raise_outcome(status)
            return page_result(&self._view, wanted, &page, &out)
        finally:
            free(page.items)
            buffer_free(&out)

    @property
    def is_attached(self):
        """Whether the map's writer lives and the map has not been replaced."""
        return self.is_alive()

    @property
    def applying_index(self):
        """The log entry whose writes began last: what was read before is not newer."""
        return self.applying_index_now()

    @property
    def applied_index(self):
        """The log entry whose writes are all to be seen."""
        return self.applied_index_now()

    @property
    def keys(self):
        """How many keys there are."""
        return load_relaxed_u64(&self._view.header.key_count)

    @property
    def commit_index(self):
        """The commit index the node knows."""
        return load_acquire_u64(&self._view.header.commit_index)

    @property
    def term(self):
        """The node's term."""
        return load_acquire_u64(&self._view.header.term)

    @property
    def role(self):
        """The node's role, as the node numbers them."""
        return load_acquire_u64(&self._view.header.role)

    @property
    def node_state(self):
        """The node's state, as the node numbers them."""
        return load_acquire_u64(&self._view.header.node_state)

    @property
    def start_id(self):
        """Which start of the node wrote this map."""
        return self._view.header.start_id

    @property
    def segment_generation(self):
        """Which of that start's maps this is."""
        return self._view.header.segment_generation

    @property
    def retry_count(self):
        """How often this object's reads began anew because of the writer, approximately."""
        return load_relaxed_u64(&self._retry_count)

    @property
    def contended_count(self):
        """How many of this object's reads gave up, approximately."""
        return load_relaxed_u64(&self._contended_count)


cdef tuple page_result(
        const MapView* view, bytes prefix, const ScanPage* page, const seafoam_buffer* out):
    cdef size_t at
    cdef list keys = []
    cdef list values = [] if page.with_values else None
    cdef const ScanItem* item
    following = None
    for at in range(page.item_count):
        item = &page.items[at]
        keys.append(PyBytes_FromStringAndSize(<char*>out.data + item.key_start, item.key_bytes))
        if values is not None:
            values.append(PyBytes_FromStringAndSize(
                <char*>out.data + item.value_start, item.value_bytes))
    if page.is_full:
        following = cursor_text(
            view, prefix, page.items[page.item_count - 1].position, keys[-1])
    elif not page.is_end:
        following = cursor_text(view, prefix, page.next_position, b"")
    return keys, values, following
