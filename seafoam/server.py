"""The node process: its parts put together, started and stopped.

Owns the order in which things happen: ports are claimed before a directory is made (a port in use
leaves nothing behind), the directory is locked and read and made durable before anything is
served, and on the way down new work is refused first, then what is under way is finished, then
the disk is closed. Must never go on after a failure that leaves it unclear what is on disk.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from functools import partial
from typing import Any

import uvloop

from seafoam._core.http import Hosts
from seafoam._core.wal import Recovery
from seafoam._core.wire import HASH_SEED_BYTES, encode_founding
from seafoam.clock import LoopClock
from seafoam.config import Settings, map_limit_bytes
from seafoam.disk import FileDisk
from seafoam.errors import CapacityExceeded, DiskFailed, StartError
from seafoam.http_server import HttpServer
from seafoam.node import Node
from seafoam.version import VERSION

__all__ = ["run"]

EXIT_DONE = 0
EXIT_CANNOT_START = 1
#: What sysexits.h calls an internal software error: going on was not safe.
EXIT_FATAL = 70

#: Ports, log, map, event loop and threads take twenty; the rest is for a few clients.
DESCRIPTORS_MIN = 64
#: What is under way when a stop is asked for may take this long.
STOP_GRACE_SECONDS = 5.0
LISTEN_BACKLOG_COUNT = 1024

logger = logging.getLogger("seafoam")


def run(settings: Settings) -> int:
    """Run one node until SIGINT or SIGTERM; the process's exit status."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        _check_descriptors()
        return uvloop.run(_serve(settings))
    except StartError as error:
        logger.error("cannot start: %s", error)
        return EXIT_CANNOT_START
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        logger.error("cannot start: %s; allow more (ulimit -n)", error.strerror)
        return EXIT_CANNOT_START
    except KeyboardInterrupt:
        return EXIT_DONE


def _check_descriptors() -> None:
    # With fewer, the event loop itself ends in a way that nobody can make a sentence of.
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < DESCRIPTORS_MIN:
        raise StartError(
            f"the process may have only {soft} open files, of which it needs {DESCRIPTORS_MIN} "
            f"without any client; allow more (ulimit -n)"
        )


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_unhandled)
    stop_asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_asked.set)
    with _listener(settings) as listener, _claim(settings) as peer_claim:
        disk = FileDisk(settings.data_path, loop=loop, on_failure=_end)
        recovery = disk.open()
        if not recovery.entries:
            peer = _endpoint(settings.advertise or settings.host, peer_claim.getsockname()[1])
            recovery = _found(disk, peer)
        node = Node(disk, LoopClock(loop), recovery, settings.quota_bytes, _end,
                    map_limit_bytes=map_limit_bytes())
        names = [settings.advertise] if settings.advertise else []
        host = settings.advertise or settings.host
        node.http_address = _endpoint(host, listener.getsockname()[1])
        http = HttpServer(node, Hosts(names), on_fatal=_end)
        await http.start(listener)
        logger.info("seafoam %s: node %s of cluster %s, data in %s",
                    VERSION, node.node_id, node.cluster_id, disk.path)
        node.start(partial(_announce, node))
        await stop_asked.wait()
        await _stop(node, http, disk)
    return EXIT_DONE


async def _stop(node: Node, http: HttpServer, disk: FileDisk) -> None:
    logger.info("stopping")
    node.begin_stop()
    await http.stop(STOP_GRACE_SECONDS)
    node.close()
    disk.close()
    logger.info("stopped")


# -- ports ---------------------------------------------------------------------------------


def _bind(host: str, port: int, name: str) -> socket.socket:
    """A TCP socket bound to `host` and `port`, which `name` names in the refusal."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if name == "HTTP_PORT":
            # Connections of a node that just ended may linger; a listening one still refuses us.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"{name} {port} is in use on {host}; stop what uses it or choose another port"
            ) from None
        raise StartError(f"{name} {port} cannot be bound on {host}: {error.strerror}") from None
    return bound


def _listener(settings: Settings) -> socket.socket:
    """The HTTP socket, listening: connections wait in its backlog until the node serves them."""
    listener = _bind(settings.host, settings.http_port, "HTTP_PORT")
    try:
        listener.listen(LISTEN_BACKLOG_COUNT)
    except OSError as error:
        listener.close()
        raise StartError(
            f"HTTP_PORT {settings.http_port} is in use on {settings.host}; "
            f"stop what uses it or choose another port ({error.strerror})"
        ) from None
    listener.setblocking(False)
    return listener


def _claim(settings: Settings) -> socket.socket:
    """PEER_PORT, bound so that nobody else takes it; nothing listens on it."""
    return _bind(settings.host, settings.peer_port, "PEER_PORT")


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- founding ------------------------------------------------------------------------------


def _found(disk: FileDisk, peer: str) -> Recovery:
    """Make this directory a cluster of one: its founding entry, committed and on disk."""
    cluster_id = secrets.randbelow((1 << 64) - 1) + 1  # 0 stands for none
    seed = secrets.token_bytes(HASH_SEED_BYTES)
    recovery = disk.found(encode_founding(cluster_id, seed, [(disk.node_id, peer)]))
    logger.info("founded cluster %016x; its data is in %s", cluster_id, disk.path)
    return recovery


# -- words ---------------------------------------------------------------------------------


def _announce(node: Node) -> None:
    logger.info("node %s serves http://%s", node.node_id, node.http_address)
    logger.info("try: curl -d '{\"key\":\"foo\",\"value\":{\"id\":0}}' http://%s/set",
                node.http_address)


def _on_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback raised. What a socket's other end can cause is logged; all else is a bug."""
    error = context.get("exception")
    if error is None or isinstance(error, OSError):
        loop.default_exception_handler(context)
    else:
        _end(error)


def _end(error: BaseException) -> None:
    """End the process at once: no answer may leave after `error`."""
    if isinstance(error, (DiskFailed, CapacityExceeded, StartError)):
        logger.critical("the node ends: %s", error)
    else:
        logger.critical("the node ends: an invariant is broken: %s", error, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FATAL)
