"""What the tests of JSON text share: seeded documents, oracles, and the C functions themselves."""

import ctypes
import json
import mmap
import os
import random
from decimal import Decimal

from seafoam._core import json as text_of
from seafoam._core import json_equal as equal_of

#: `make soak` runs the large counts; the default ones end within seconds.
SOAK = os.environ.get("SEAFOAM_SOAK") == "1"

STATUS_OK = 0
STATUS_NOT_FOUND = 3
STATUS_TOO_LARGE = 7
STATUS_INVALID = 8


# ---- seeded documents: as tokens, so that white space can be put between any two ----

CHARACTERS = ["a", "b", "key", " ", "/", "\u007f", "é", "ж", "漢", "\uffff", "😀", "\U0010ffff"]
ESCAPES = ['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0000", "\\u001f",
           "\\u00e9", "\\uFfFf", "\\ud83d\\ude00", "\\uDBFF\\uDFFF", "\\u0022"]
NUMBERS = ["0", "-0", "0.0", "1", "-1", "10", "1.0", "10e-1", "1E+2", "100", "0.1e3", "2.5e-3",
           "123456789012345678901234567890", "1e400", "-1e-400", "1e1000000", "1e-1000000",
           "0e5", "0.00", "3.14159265358979323846264338327950288", "1e0000001", "9007199254740993",
           "18446744073709551615", "18446744073709551616", "1.5", "15e-1", "0.000001", "1e-6"]


def string_token(rng: random.Random) -> str:
    pieces = rng.choices(CHARACTERS, k=rng.choice([0, 1, 2, 5, 20]))
    pieces += rng.choices(ESCAPES, k=rng.choice([0, 0, 1, 3]))
    rng.shuffle(pieces)
    return '"' + "".join(pieces) + '"'


def number_token(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(NUMBERS)
    return repr(rng.choice([rng.random() * 1000, rng.randrange(-(10**6), 10**6)]))


def value_tokens(rng: random.Random, depth: int = 4) -> list[str]:
    """The tokens of a random value that nests at most `depth` deep."""
    kind = rng.choice("[{[{stnwswn" if depth > 0 else "snwt")
    if kind == "[":
        tokens = ["["]
        for index in range(rng.choice([0, 1, 2, 4])):
            tokens += ([","] if index else []) + value_tokens(rng, depth - 1)
        return [*tokens, "]"]
    if kind == "{":
        tokens = ["{"]
        for index in range(rng.choice([0, 1, 2, 4])):
            tokens += ([","] if index else []) + [string_token(rng), ":"]
            tokens += value_tokens(rng, depth - 1)
        return [*tokens, "}"]
    if kind == "s":
        return [string_token(rng)]
    if kind == "n":
        return [number_token(rng)]
    return [rng.choice(["true", "false", "null"])]


def spaced(rng: random.Random, tokens: list[str]) -> bytes:
    """The tokens with random white space before, between and behind them."""
    out = []
    for token in [*tokens, ""]:
        out += [rng.choice(["", "", " ", "\n", "\t", "\r\n", " " * rng.randrange(40)]), token]
    return "".join(out).encode()


def document(rng: random.Random, depth: int = 4) -> bytes:
    return spaced(rng, value_tokens(rng, depth))


def mutated(rng: random.Random, text: bytes) -> bytes:
    """The text with one to three small changes, most of which break it."""
    out = bytearray(text)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out) + 1)
        change = rng.randrange(5)
        if change == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif change == 1 and at < len(out):
            del out[at : at + rng.randrange(1, 4)]
        elif change == 2:
            piece = rng.choice([b",", b":", b"[", b"]", b"{", b"}", b'"', b"\\", b"0", b"-", b".",
                                b"e9", b"\\u", b"\\ud800", b"\x00", b"\xc3", b"\xed\xa0\x80",
                                b"\xef\xbb\xbf", b"true", b" ", b"E1000001"])
            out[at:at] = piece
        elif change == 3 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        else:
            del out[at:]
    return bytes(out)


# ---- oracles ----


def accepts(text: bytes) -> bool:
    """Ours: accepted, or JsonError, and never anything else."""
    try:
        text_of.check(text)
    except text_of.JsonError as error:
        assert 0 <= error.offset <= len(text)
        assert str(error) == f"{error.reason}, at byte {error.offset}"
        return False
    return True


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def exponent_of(number: str) -> int:
    return abs(int(number.lower().partition("e")[2] or "0"))


class Number(str):
    """A number as it was written."""


def parse(text: bytes) -> object:
    """The standard library's reading, numbers as text and objects as lists of pairs."""
    return json.loads(
        text.decode("utf-8"), parse_constant=refuse_constant, parse_float=Number,
        parse_int=Number, object_pairs_hook=lambda pairs: ("object", pairs))


def scalars(value: object) -> list[object]:
    """Every string, name and number of a parsed value, without recursing."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple):
            for name, member in item[1]:
                found.append(name)
                waiting.append(member)
        elif isinstance(item, list):
            waiting.extend(item)
        else:
            found.append(item)
    return found


def expected(text: bytes) -> bool:
    """Whether the text is JSON, as the standard library says, made strict where it is not."""
    try:
        value = parse(text)
    except (ValueError, RecursionError):
        return False
    for item in scalars(value):
        if isinstance(item, Number):
            if exponent_of(item) > 1_000_000:
                return False
        elif isinstance(item, str) and any("\ud800" <= char <= "\udfff" for char in item):
            return False
    return True


def meaning(value: object) -> object:
    """A parsed value as something whose `==` is JSON's: numbers as exact decimals, true and 1
    told apart, the last of equal names."""
    if isinstance(value, tuple):
        return ("object", {name: meaning(member) for name, member in value[1]})
    if isinstance(value, list):
        return ("array", [meaning(item) for item in value])
    if isinstance(value, Number):
        return ("number", Decimal(value))
    return (type(value).__name__, value)


# ---- the C functions, called as other modules call them ----


class Span(ctypes.Structure):
    _fields_ = [("start", ctypes.c_size_t), ("end", ctypes.c_size_t), ("kind", ctypes.c_int),
                ("depth", ctypes.c_int)]


class Fault(ctypes.Structure):
    _fields_ = [("reason", ctypes.c_int), ("offset", ctypes.c_size_t)]


class Field(ctypes.Structure):
    _fields_ = [("name_start", ctypes.c_size_t), ("name_end", ctypes.c_size_t),
                ("name_escaped", ctypes.c_int), ("value", Span)]


class Fields(ctypes.Structure):
    _fields_ = [("fields", ctypes.POINTER(Field)), ("capacity", ctypes.c_size_t),
                ("max_depth", ctypes.c_int), ("count", ctypes.c_size_t),
                ("text_bytes", ctypes.c_size_t)]


class Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("used_bytes", ctypes.c_size_t),
                ("capacity_bytes", ctypes.c_size_t)]


def native(name: str, *argument_types: type, module: object = text_of) -> ctypes._CFuncPtr:
    """A function of a .pxd, found where Cython offers it to other modules."""
    capsule = module.__pyx_capi__[name]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, *argument_types)
    return prototype(pointer_of(capsule, name_of(capsule)))


ADDRESS, SIZE, SIZES = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)
FAULT = ctypes.POINTER(Fault)
native_check = native("json_check", ADDRESS, SIZE, ctypes.c_int, FAULT)
native_compact = native("json_compact", ADDRESS, SIZE, ADDRESS, SIZES, FAULT)
native_fields = native(
    "json_object_fields", ADDRESS, SIZE, ADDRESS, ctypes.POINTER(Fields), FAULT)
native_next = native("json_next_element", ADDRESS, SIZE, SIZES, ctypes.POINTER(Span))
native_unescape = native("json_unescape", ADDRESS, SIZE, ADDRESS, SIZES)
native_quote = native("json_quote", ADDRESS, SIZE, ctypes.POINTER(Buffer))
native_uint64 = native("json_uint64", ADDRESS, SIZE, ctypes.POINTER(ctypes.c_uint64))
native_equal = native("json_equal", ADDRESS, SIZE, ADDRESS, SIZE, ctypes.POINTER(ctypes.c_int),
                      module=equal_of)


class GuardedMemory:
    """Memory that ends at a page nobody may touch: a byte read past a text is a crash."""

    def __init__(self, capacity_bytes: int) -> None:
        page = mmap.PAGESIZE
        self.usable_bytes = -(-capacity_bytes // page) * page
        self.map = mmap.mmap(-1, self.usable_bytes + page)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ADDRESS, SIZE, ctypes.c_int]
        if protect(self.address + self.usable_bytes, page, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, text: bytes) -> int:
        """Puts the text right before the forbidden page and returns its address."""
        assert len(text) <= self.usable_bytes
        address = self.address + self.usable_bytes - len(text)
        ctypes.memmove(address, text, len(text))
        return address
