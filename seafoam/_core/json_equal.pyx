"""Whether two JSON texts mean the same; json_equal.pxd says what that is.

Each text becomes a tape: its values in the order they are written, each with the place behind its
last descendant, so that any value is stepped over at once. Pairs of arrays or objects that must be
equal wait in a list; each pair is looked at once, so nothing recurses and nothing is compared
twice. An object's members are sorted by name, and of equal names the last is kept.
"""

from seafoam._core.json import check

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport UINT32_MAX, int32_t, int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from seafoam._core.buffer cimport buffer_append, buffer_free, buffer_reserve, seafoam_buffer
from seafoam._core.json cimport (
    GIL_RELEASE_BYTES, JSON_ARRAY, JSON_NUMBER, JSON_OBJECT, JSON_STRING, json_unescape,
)
from seafoam._core.json_scan cimport json_kind, json_scan, json_skip_scalar, json_skip_space
from seafoam._core.limits cimport JSON_EXPONENT_MAX
from seafoam._core.status cimport (
    STATUS_INVALID, STATUS_NO_MEMORY, STATUS_OK, STATUS_TOO_LARGE,
)

cdef struct Node:
    uint32_t start        # a scalar's text in the tape's copy; a string's is unescaped, unquoted
    uint32_t end
    uint32_t next         # index behind the last descendant; the parent's while it is open
    int32_t kind

cdef struct Tape:
    uint8_t* text         # a copy, strings unescaped in place
    seafoam_buffer nodes  # of Node

cdef struct Member:
    const uint8_t* name
    uint32_t name_bytes
    uint32_t value        # index of its node

cdef struct Pair:
    uint32_t left
    uint32_t right

cdef struct Comparison:
    Tape left
    Tape right
    seafoam_buffer pairs          # of Pair: what is still to compare
    seafoam_buffer left_members   # of Member: scratch for the objects being compared
    seafoam_buffer right_members
    seafoam_buffer merged         # of Member: scratch of the sort

cdef enum:
    NO_NODE = 0xFFFFFFFF


cdef inline const Node* nodes_of(const Tape* tape) noexcept nogil:
    return <const Node*>tape.nodes.data


cdef int build_tape(const uint8_t* source, size_t source_bytes, Tape* tape) noexcept nogil:
    cdef json_scan scan
    cdef Node node
    cdef Node* closed
    cdef uint32_t parent = NO_NODE
    cdef uint32_t count = 0
    cdef const uint8_t* at
    cdef const uint8_t* behind
    cdef size_t bytes_left
    tape.text = <uint8_t*>malloc(source_bytes + 1)
    if tape.text == NULL:
        return STATUS_NO_MEMORY
    memset(&scan, 0, sizeof(json_scan))
    scan.end = source + source_bytes
    at = source
    while True:
        at = json_skip_space(at, scan.end)
        if at == scan.end:
            return STATUS_OK if parent == NO_NODE and count != 0 else STATUS_INVALID
        if at[0] == c',' or at[0] == c':':
            at += 1
            continue
        if at[0] == c']' or at[0] == c'}':
            if parent == NO_NODE:
                return STATUS_INVALID
            closed = <Node*>tape.nodes.data + parent
            parent = closed.next
            closed.next = count
            at += 1
            continue
        node.kind = json_kind(at[0])
        node.start = at - source
        if node.kind == JSON_OBJECT or node.kind == JSON_ARRAY:
            behind = at + 1
            node.end = node.start
            node.next = parent
            parent = count
        else:
            behind = json_skip_scalar(&scan, at, JSON_EXPONENT_MAX)
            if behind == NULL:
                return STATUS_INVALID
            node.next = count + 1
            bytes_left = behind - at
            if node.kind != JSON_STRING:
                memcpy(tape.text + node.start, at, bytes_left)
            elif json_unescape(at + 1, bytes_left - 2, tape.text + node.start,
                               &bytes_left) != STATUS_OK:
                return STATUS_INVALID
            node.end = node.start + bytes_left
        if buffer_append(&tape.nodes, &node, sizeof(Node)) != 0:
            return STATUS_NO_MEMORY
        count += 1
        at = behind


cdef struct Decimal:
    bint negative
    int64_t exponent              # of ten, of the first digit; all zero where the number is zero
    const uint8_t* digits         # from the first significant digit, a decimal point between
    const uint8_t* digits_end     # behind the last significant digit


cdef void read_decimal(const uint8_t* at, const uint8_t* end, Decimal* decimal) noexcept nogil:
    """A checked number as sign, digits and exponent; its digits stay where they are, so that
    1e1000000 costs nothing and a million digits cost a million steps."""
    cdef int64_t exponent = 0
    cdef bint negative_exponent
    cdef const uint8_t* point = NULL
    cdef const uint8_t* stop
    decimal.negative = at[0] == c'-'
    if decimal.negative:
        at += 1
    stop = at
    while stop != end and (stop[0] | 0x20) != c'e':
        if stop[0] == c'.':
            point = stop
        stop += 1
    if stop != end:
        negative_exponent = stop[1] == c'-'
        decimal.digits = stop + 1 + (stop[1] == c'-' or stop[1] == c'+')
        while decimal.digits != end:
            exponent = exponent * 10 + (decimal.digits[0] - c'0')
            decimal.digits += 1
        if negative_exponent:
            exponent = -exponent
    if point == NULL:
        point = stop
    while at != stop and (at[0] == c'0' or at[0] == c'.'):
        at += 1
    while stop != at and (stop[-1] == c'0' or stop[-1] == c'.'):
        stop -= 1
    decimal.digits = at
    decimal.digits_end = stop
    if at == stop:
        decimal.negative = False
        decimal.exponent = 0
    elif at < point:
        decimal.exponent = exponent + (point - at) - 1
    else:
        decimal.exponent = exponent - (at - point)


cdef bint same_number(const uint8_t* left, size_t left_bytes, const uint8_t* right,
                      size_t right_bytes) noexcept nogil:
    cdef Decimal a
    cdef Decimal b
    read_decimal(left, left + left_bytes, &a)
    read_decimal(right, right + right_bytes, &b)
    if a.negative != b.negative or a.exponent != b.exponent:
        return False
    while a.digits != a.digits_end and b.digits != b.digits_end:
        if a.digits[0] == c'.':
            a.digits += 1
        if b.digits[0] == c'.':
            b.digits += 1
        if a.digits[0] != b.digits[0]:
            return False
        a.digits += 1
        b.digits += 1
    return a.digits == a.digits_end and b.digits == b.digits_end


cdef int compare_values(Comparison* work, uint32_t left, uint32_t right,
                        bint* equal) noexcept nogil:
    """Scalars are compared at once, arrays and objects put on the list."""
    cdef const Node* a = nodes_of(&work.left) + left
    cdef const Node* b = nodes_of(&work.right) + right
    cdef const uint8_t* a_text = work.left.text + a.start
    cdef const uint8_t* b_text = work.right.text + b.start
    cdef Pair pair
    if a.kind != b.kind:
        equal[0] = False
    elif a.kind == JSON_OBJECT or a.kind == JSON_ARRAY:
        pair.left = left
        pair.right = right
        if buffer_append(&work.pairs, &pair, sizeof(Pair)) != 0:
            return STATUS_NO_MEMORY
    elif a.end - a.start == b.end - b.start and memcmp(a_text, b_text, a.end - a.start) == 0:
        pass
    else:
        equal[0] = a.kind == JSON_NUMBER and same_number(
            a_text, a.end - a.start, b_text, b.end - b.start)
    return STATUS_OK


cdef inline int order_of(const Member* a, const Member* b) noexcept nogil:
    cdef int order = memcmp(
        a.name, b.name, a.name_bytes if a.name_bytes < b.name_bytes else b.name_bytes)
    if order != 0:
        return order
    return (a.name_bytes > b.name_bytes) - (a.name_bytes < b.name_bytes)


cdef void merge_runs(const Member* source, Member* target, size_t left_count,
                     size_t count) noexcept nogil:
    """Two sorted neighbours become one; of equal members the left one comes first."""
    cdef size_t left = 0
    cdef size_t right = left_count
    cdef size_t index
    if right >= count or order_of(source + right - 1, source + right) <= 0:
        memcpy(target, source, count * sizeof(Member))
        return
    for index in range(count):
        if right == count or (left != left_count
                              and order_of(source + left, source + right) <= 0):
            target[index] = source[left]
            left += 1
        else:
            target[index] = source[right]
            right += 1


cdef size_t sort_members(seafoam_buffer* members, seafoam_buffer* merged) noexcept nogil:
    """Sorts by name, keeps the last of equal names, and returns how many are left. The buffers
    may change places; both have room for all members."""
    cdef seafoam_buffer kept
    cdef const Member* source
    cdef Member* target
    cdef size_t count = members.used_bytes // sizeof(Member)
    cdef size_t width = 1
    cdef size_t first
    cdef size_t left_count = 0
    while width < count:
        first = 0
        while first < count:
            merge_runs(<Member*>members.data + first, <Member*>merged.data + first, width,
                       2 * width if count - first > 2 * width else count - first)
            first += 2 * width
        merged.used_bytes = members.used_bytes
        kept = members[0]
        members[0] = merged[0]
        merged[0] = kept
        width *= 2
    source = <const Member*>members.data
    target = <Member*>members.data
    for first in range(count):
        if first + 1 == count or order_of(source + first, source + first + 1) != 0:
            target[left_count] = source[first]
            left_count += 1
    return left_count


cdef int gather_members(Comparison* work, const Tape* tape, uint32_t object_index,
                        seafoam_buffer* members) noexcept nogil:
    cdef const Node* nodes = nodes_of(tape)
    cdef uint32_t behind = nodes[object_index].next
    cdef uint32_t index = object_index + 1
    cdef Member member
    members.used_bytes = 0
    while index != behind:
        member.value = index + 1
        if nodes[index].kind != JSON_STRING or member.value == behind:
            return STATUS_INVALID
        member.name = tape.text + nodes[index].start
        member.name_bytes = nodes[index].end - nodes[index].start
        if buffer_append(members, &member, sizeof(Member)) != 0:
            return STATUS_NO_MEMORY
        index = nodes[member.value].next
    work.merged.used_bytes = 0
    if buffer_reserve(&work.merged, members.used_bytes) != 0:
        return STATUS_NO_MEMORY
    members.used_bytes = sort_members(members, &work.merged) * sizeof(Member)
    return STATUS_OK


cdef int compare_objects(Comparison* work, Pair pair, bint* equal) noexcept nogil:
    cdef int status
    cdef size_t index
    cdef const Member* left
    cdef const Member* right
    status = gather_members(work, &work.left, pair.left, &work.left_members)
    if status == STATUS_OK:
        status = gather_members(work, &work.right, pair.right, &work.right_members)
    if work.left_members.used_bytes != work.right_members.used_bytes:
        equal[0] = False
    left = <const Member*>work.left_members.data
    right = <const Member*>work.right_members.data
    for index in range(work.left_members.used_bytes // sizeof(Member)):
        if status != STATUS_OK or not equal[0]:
            break
        if order_of(left + index, right + index) != 0:
            equal[0] = False
            break
        status = compare_values(work, left[index].value, right[index].value, equal)
    return status


cdef int compare_arrays(Comparison* work, Pair pair, bint* equal) noexcept nogil:
    cdef const Node* lefts = nodes_of(&work.left)
    cdef const Node* rights = nodes_of(&work.right)
    cdef uint32_t left = pair.left + 1
    cdef uint32_t right = pair.right + 1
    cdef int status = STATUS_OK
    while (status == STATUS_OK and equal[0] and left != lefts[pair.left].next
           and right != rights[pair.right].next):
        status = compare_values(work, left, right, equal)
        left = lefts[left].next
        right = rights[right].next
    if left != lefts[pair.left].next or right != rights[pair.right].next:
        equal[0] = False
    return status


cdef int compare_tapes(Comparison* work, bint* equal) noexcept nogil:
    cdef Pair pair
    cdef int status = compare_values(work, 0, 0, equal)
    while status == STATUS_OK and equal[0] and work.pairs.used_bytes != 0:
        work.pairs.used_bytes -= sizeof(Pair)
        memcpy(&pair, work.pairs.data + work.pairs.used_bytes, sizeof(Pair))
        if nodes_of(&work.left)[pair.left].kind == JSON_OBJECT:
            status = compare_objects(work, pair, equal)
        else:
            status = compare_arrays(work, pair, equal)
    return status


cdef int json_equal(const uint8_t* left, size_t left_bytes, const uint8_t* right,
                    size_t right_bytes, bint* equal) noexcept nogil:
    cdef Comparison work
    cdef int status
    equal[0] = True
    if left_bytes == right_bytes and memcmp(left, right, left_bytes) == 0:
        return STATUS_OK
    if left_bytes >= UINT32_MAX or right_bytes >= UINT32_MAX:
        return STATUS_TOO_LARGE
    memset(&work, 0, sizeof(Comparison))
    status = build_tape(left, left_bytes, &work.left)
    if status == STATUS_OK:
        status = build_tape(right, right_bytes, &work.right)
    if status == STATUS_OK:
        status = compare_tapes(&work, equal)
    free(work.left.text)
    free(work.right.text)
    buffer_free(&work.left.nodes)
    buffer_free(&work.right.nodes)
    buffer_free(&work.pairs)
    buffer_free(&work.left_members)
    buffer_free(&work.right_members)
    buffer_free(&work.merged)
    return status


# ---- the face for Python ----

def equal(bytes left not None, bytes right not None):
    """Whether two JSON texts mean the same. Raises `seafoam._core.json.JsonError`."""
    cdef const uint8_t* a = <const uint8_t*>PyBytes_AS_STRING(left)
    cdef const uint8_t* b = <const uint8_t*>PyBytes_AS_STRING(right)
    cdef size_t a_bytes = PyBytes_GET_SIZE(left)
    cdef size_t b_bytes = PyBytes_GET_SIZE(right)
    cdef bint same = False
    cdef int status
    check(left)
    check(right)
    if a_bytes + b_bytes > GIL_RELEASE_BYTES:
        with nogil:
            status = json_equal(a, a_bytes, b, b_bytes, &same)
    else:
        status = json_equal(a, a_bytes, b, b_bytes, &same)
    if status == STATUS_NO_MEMORY:
        raise MemoryError
    if status != STATUS_OK:
        raise OverflowError("the text is too large")
    return same
