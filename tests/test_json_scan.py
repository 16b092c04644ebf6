"""The leaves of JSON text in C: the vector form of the string scan and the portable one find the
same byte, wherever it stands and whatever it is."""

import ctypes
import random
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

from json_support import GuardedMemory

CORE = Path(__file__).parent.parent / "seafoam" / "_core"
PROGRAM = """
#include "json_scan.h"
size_t plain_bytes(const uint8_t *text, size_t text_bytes)
{
    return (size_t)(json_skip_plain(text, text + text_bytes) - text);
}
int is_vector(void)
{
#if defined(SEAFOAM_JSON_SSE2) || defined(SEAFOAM_JSON_NEON)
    return 1;
#else
    return 0;
#endif
}
"""


@pytest.fixture(scope="module", params=["vector", "portable"])
def scan(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    source, library = folder / "scan.c", folder / "scan.so"
    source.write_text(PROGRAM)
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    flags = ["-DSEAFOAM_JSON_PORTABLE"] if request.param == "portable" else []
    flags += ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{CORE}"]
    subprocess.run([*compiler, *flags, str(source), "-o", str(library)], check=True, timeout=120)
    loaded = ctypes.CDLL(str(library))
    loaded.plain_bytes.restype = ctypes.c_size_t
    loaded.plain_bytes.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    if request.param == "portable":
        assert not loaded.is_vector()
    return loaded.plain_bytes


def plain_bytes(text):
    for index, byte in enumerate(text):
        if byte < 0x20 or byte >= 0x80 or byte in b'"\\':
            return index
    return len(text)


def test_every_byte_at_every_place(scan):
    memory = GuardedMemory(64)
    for length in (1, 7, 8, 9, 15, 16, 17, 33, 40):
        for index in range(length):
            for byte in range(256):
                text = bytearray(b"x" * length)
                text[index] = byte
                assert scan(memory.place(bytes(text)), length) == plain_bytes(text)


def test_every_pair_of_neighbours(scan):
    """A borrow between the bytes of a word must not point at the wrong one."""
    memory = GuardedMemory(64)
    edges = b"\x00\x1f\x20\x21\x22\x23\x5b\x5c\x5d\x7f\x80\xa0\xff"
    for first in range(256):
        for second in edges:
            text = bytes([0x20, 0x23, first, second, 0x5D, 0x20, 0x7F, 0x21] * 2)
            assert scan(memory.place(text), len(text)) == plain_bytes(text)


def test_random_texts(scan):
    rng = random.Random(41)
    memory = GuardedMemory(4096)
    for _ in range(2000):
        text = bytes(rng.choices(range(0x20, 0x80), k=rng.randrange(300)))
        text = text.replace(b'"', b"_").replace(b"\\", b"_")
        if text and rng.random() < 0.8:
            at = rng.randrange(len(text))
            text = text[:at] + rng.randbytes(3) + text[at:]
        assert scan(memory.place(text), len(text)) == plain_bytes(text)
