"""One writer and many readers of the shared map without the GIL, with values that betray tearing.

Built for tests only. Owns nothing shared but the map itself and one counter of its own.

Keys come in four kinds, told apart by the first byte of their names:
    s   stay: set before anyone reads, then overwritten for ever; a miss is a false miss
    g   come and go: either answer is right
    n   new: inserted one after the other, so that the map grows; `published` says how many are
        there, and whoever has read it must find those
    p   pairs: written in one log entry, with one version; a multi-key read must see them equal
A value is made from the key's number and the version, length included, so that any mixture of two
values is seen; and no reader may see a version older than one it has seen of that key.
"""

from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from seafoam._core.atomics cimport load_acquire_u64, store_release_u64
from seafoam._core.buffer cimport buffer_free, seafoam_buffer
from seafoam._core.map cimport MapReader, MapWriter, ReadItem
from seafoam._core.status cimport STATUS_CONTENDED, STATUS_NOT_FOUND, STATUS_OK

cdef enum:
    KEY_BYTES = 12
    STAYING_COUNT = 512
    # Most reads and writes go to a few of them, so that they meet.
    HOT_COUNT = 4
    GOING_COUNT = 512
    PAIR_COUNT = 64
    PAIR_KEY_COUNT = 2
    MANY_COUNT = 16
    VALUE_BYTES_MAX_HERE = 6000
    WORD_BYTES = 8


cdef struct Tally:
    uint64_t read_count
    uint64_t found_count
    uint64_t torn_count
    uint64_t false_miss_count
    uint64_t backward_count
    uint64_t split_pair_count
    uint64_t contended_count
    uint64_t other_count


cdef inline uint64_t mix(uint64_t word) noexcept nogil:
    word = (word ^ (word >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    word = (word ^ (word >> 27)) * <uint64_t>0x94d049bb133111eb
    return word ^ (word >> 31)


cdef inline uint64_t luck(uint64_t* state) noexcept nogil:
    state[0] += <uint64_t>0x9e3779b97f4a7c15
    return mix(state[0])


cdef inline void name_key(uint8_t* key, char kind, uint64_t number) noexcept nogil:
    cdef int at
    key[0] = <uint8_t>kind
    for at in range(1, KEY_BYTES):
        key[at] = <uint8_t>(c'a' + (number & 15))
        number >>= 4


cdef inline size_t value_length(uint64_t number, uint64_t version) noexcept nogil:
    # Some short, some long to copy, now and then any; few size classes, so that memory is soon
    # used again.
    cdef uint64_t hash = mix(number * 7919 + version)
    if hash & 63 == 0:
        return WORD_BYTES + hash // 64 % (VALUE_BYTES_MAX_HERE - WORD_BYTES)
    return hash // 64 % 40 + (3000 if hash & 1 else WORD_BYTES)


cdef inline uint64_t staying_number(uint64_t chance) noexcept nogil:
    return (chance >> 4) % (HOT_COUNT if chance & 3 else STAYING_COUNT)


cdef inline uint64_t value_word(uint64_t number, uint64_t version, size_t at) noexcept nogil:
    # A multiplication, not a hash: copying is to be what takes the time.
    return (number << 40 ^ version) * <uint64_t>0x9e3779b97f4a7c15 + at


cdef size_t make_value(uint8_t* value, uint64_t number, uint64_t version) noexcept nogil:
    cdef size_t value_bytes = value_length(number, version), at
    cdef uint64_t word
    for at in range(0, value_bytes, 8):
        word = value_word(number, version, at)
        memcpy(value + at, &word, WORD_BYTES)
    return value_bytes


cdef bint is_whole(const uint8_t* value, size_t value_bytes, uint64_t number, uint64_t version
                   ) noexcept nogil:
    cdef size_t at, rest_bytes
    cdef uint64_t word
    if value_bytes != value_length(number, version):
        return False
    for at in range(0, value_bytes, 8):
        word = value_word(number, version, at)
        rest_bytes = value_bytes - at
        if memcmp(value + at, &word, rest_bytes if rest_bytes < WORD_BYTES else WORD_BYTES) != 0:
            return False
    return True


cdef class Race:
    """A map under test, and what its readers found out. Numbers are 64 bits; no GIL inside."""

    cdef readonly MapWriter writer
    cdef uint64_t _index
    # How many new keys there are. Written by: the writer, release. Read by: readers, acquire.
    cdef uint64_t _published_count
    # 1 once the writer is done. Written by: it, release. Read by: readers, acquire.
    cdef uint64_t _is_done
    cdef uint8_t* _value
    cdef uint64_t _canary

    def __cinit__(self, MapWriter writer not None):
        self.writer = writer
        self._value = <uint8_t*>malloc(VALUE_BYTES_MAX_HERE + WORD_BYTES)
        if self._value == NULL:
            raise MemoryError("no memory for a value")

    def __dealloc__(self):
        free(self._value)

    cdef int _write(self, char kind, uint64_t number) noexcept nogil:
        cdef uint8_t key[KEY_BYTES]
        cdef size_t value_bytes = make_value(self._value, number, self._index)
        name_key(key, kind, number)
        return self.writer.put(key, KEY_BYTES, self._value, value_bytes, self._index)

    cdef int _step(self, uint64_t* state) except -1 nogil:
        # One log entry.
        cdef uint64_t chance = luck(state) % 100, number, pair
        cdef uint8_t key[KEY_BYTES]
        cdef int status = STATUS_OK
        self._index += 1
        self.writer.begin(self._index, chance >= 85)
        if chance < 60:
            status = self._write(c's', staying_number(luck(state)))
        elif chance < 70:
            status = self._write(c'g', luck(state) % GOING_COUNT)
        elif chance < 80:
            name_key(key, c'g', luck(state) % GOING_COUNT)
            self.writer.remove(key, KEY_BYTES)
        elif chance < 85:
            status = self._write(c'n', self._published_count)
            if status == STATUS_OK:
                store_release_u64(&self._published_count, self._published_count + 1)
        else:
            pair = luck(state) % PAIR_COUNT
            for number in range(<uint64_t>PAIR_KEY_COUNT):
                status = self._write(c'p', pair * PAIR_KEY_COUNT + number) or status
        self.writer.end()
        return status

    def prepare(self):
        """Sets every key that must always be there."""
        cdef uint64_t number
        for number in range(<uint64_t>STAYING_COUNT):
            self._index += 1
            self.writer.begin(self._index, False)
            self._write(c's', number)
            self.writer.end()
        for number in range(<uint64_t>PAIR_COUNT):
            self._index += 1
            self.writer.begin(self._index, True)
            self._write(c'p', 2 * number)
            self._write(c'p', 2 * number + 1)
            self.writer.end()

    def write(self, uint64_t entry_count, uint64_t seed):
        """Applies so many log entries without the GIL, then tells the readers to stop."""
        cdef uint64_t at, state = seed
        cdef int status = STATUS_OK
        with nogil:
            for at in range(entry_count):
                status = self._step(&state)
                if status != STATUS_OK:
                    break
            store_release_u64(&self._is_done, 1)
        if status != STATUS_OK:
            raise MemoryError(f"the writer stopped with status {status}")

    def read(self, MapReader reader not None, uint64_t seed):
        """Reads until the writer is done; what it saw, as a dict."""
        cdef Tally tally
        cdef uint64_t state = seed
        cdef seafoam_buffer out
        cdef uint64_t* newest = <uint64_t*>calloc(STAYING_COUNT, 8)
        memset(&tally, 0, sizeof(tally))
        memset(&out, 0, sizeof(out))
        if newest == NULL:
            raise MemoryError("no memory for versions")
        with nogil:
            while load_acquire_u64(&self._is_done) == 0:
                self._read_one(reader, &out, newest, luck(&state), &tally)
                if tally.read_count & 15 == 0:
                    self._read_pairs(reader, &out, luck(&state), &tally)
        free(newest)
        buffer_free(&out)
        return tally

    cdef void _read_one(self, MapReader reader, seafoam_buffer* out, uint64_t* newest,
                        uint64_t chance, Tally* tally) noexcept nogil:
        cdef uint8_t key[KEY_BYTES]
        cdef uint64_t published_count = load_acquire_u64(&self._published_count)
        cdef uint64_t number, version = 0
        cdef char kind = c's'
        cdef int status
        number = staying_number(chance >> 8)
        if chance & 3 == 1:
            kind = c'g'
        elif chance & 3 == 2 and published_count != 0:
            kind = c'n'
            number = (chance >> 8) % published_count
        name_key(key, kind, number)
        out.used_bytes = 0
        status = reader.get_into(key, KEY_BYTES, out, &version)
        tally.read_count += 1
        if status == STATUS_OK:
            tally.found_count += 1
            tally.torn_count += not is_whole(out.data, out.used_bytes, number, version)
            if kind == c's':
                tally.backward_count += version < newest[number]
                newest[number] = version
        elif status == STATUS_NOT_FOUND:
            tally.false_miss_count += kind != c'g'
        elif status == STATUS_CONTENDED:
            tally.contended_count += 1
        else:
            tally.other_count += 1

    cdef void _read_pairs(self, MapReader reader, seafoam_buffer* out, uint64_t chance,
                          Tally* tally) noexcept nogil:
        cdef uint8_t keys[MANY_COUNT][KEY_BYTES]
        cdef ReadItem items[MANY_COUNT]
        cdef uint64_t first = chance % (PAIR_COUNT - MANY_COUNT // 2 + 1) * PAIR_KEY_COUNT
        cdef size_t at
        cdef int status
        for at in range(<size_t>MANY_COUNT):
            name_key(keys[at], c'p', first + at)
            items[at].key = keys[at]
            items[at].key_bytes = KEY_BYTES
        out.used_bytes = 0
        status = reader.get_many_into(items, MANY_COUNT, out, MANY_COUNT * VALUE_BYTES_MAX_HERE)
        tally.read_count += MANY_COUNT
        if status != STATUS_OK:
            tally.contended_count += status == STATUS_CONTENDED
            tally.other_count += status != STATUS_CONTENDED
            return
        tally.found_count += MANY_COUNT
        for at in range(<size_t>MANY_COUNT):
            if not items[at].found:
                tally.false_miss_count += 1
            elif not is_whole(out.data + items[at].value_start, items[at].value_bytes,
                              first + at, items[at].version):
                tally.torn_count += 1
            tally.split_pair_count += items[at].version != items[at & ~<size_t>1].version

    def read_plainly(self, uint64_t load_count):
        """The canary: plain loads of words that the writer stores at the same time."""
        cdef const uint64_t* words = <const uint64_t*>self.writer.segment.base
        cdef uint64_t at, total = 0
        with nogil:
            for at in range(load_count):
                # What `applying_index` and its neighbours hold.
                total += (<volatile const uint64_t*>words)[40 + at % 4]
        return total

    def count_plainly(self, uint64_t increment_count):
        """The canary: a counter that two threads increase without any order between them."""
        cdef uint64_t at
        with nogil:
            for at in range(increment_count):
                (<volatile uint64_t*>&self._canary)[0] += 1
        return self._canary


def overrun(size_t length_bytes):
    """The canary for AddressSanitizer: one byte behind a block."""
    cdef uint8_t* block = <uint8_t*>malloc(length_bytes)
    cdef uint8_t seen
    if block == NULL:
        raise MemoryError("no memory for a canary")
    seen = (<volatile uint8_t*>block)[length_bytes]
    free(block)
    return seen


def shift_too_far(int32_t word, int32_t bit_count):
    """The canary for UndefinedBehaviorSanitizer (Python's -fwrapv makes overflow no error)."""
    return word << bit_count
