"""The node process: its parts put together, started and stopped.

Owns the order in which things happen: ports are claimed before a directory is made (a port in use
leaves nothing behind), the directory is locked and read and made durable before anything is
served, and on the way down new work is refused first, then what is under way is finished, then
the disk is closed. Must never go on after a failure that leaves it unclear what is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import resource
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvloop

from seafoam._core import limits
from seafoam._core.http import Hosts
from seafoam._core.message import Message
from seafoam._core.wal import Recovery
from seafoam._core.wire import HASH_SEED_BYTES, decode_founding
from seafoam._core.wire_peer import REFUSED_BYTES, REFUSED_CLUSTER, Hello
from seafoam.calls import CALL_FOUNDING, CALL_JOIN, BadCall, Elsewhere, call_kind, encode_elsewhere
from seafoam.clock import LoopClock
from seafoam.config import Settings, map_limit_bytes
from seafoam.contacts import Contacts
from seafoam.descriptors import Shares, claim, tell
from seafoam.disk import FileDisk
from seafoam.errors import (
    CapacityExceeded,
    DataDamaged,
    DiskFailed,
    DiskWentBack,
    PeerRefused,
    StartError,
)
from seafoam.founding import Facts, Founding
from seafoam.founding_store import FoundingStore
from seafoam.http_server import HttpServer
from seafoam.joining import Joining
from seafoam.node import Node
from seafoam.peers import Identity, Peers
from seafoam.unjoined import UnjoinedNode
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
#: A leader that ends gives its leadership away first, if somebody takes it within this time.
HAND_OVER_SECONDS = 1.0
HAND_OVER_LOOKS = 100
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
    except DataDamaged as error:
        logger.error("cannot start: %s; `seafoam repair %s` says what can be kept", error,
                     shlex.quote(str(settings.data_path)))
        return EXIT_CANNOT_START
    except (StartError, DiskFailed) as error:
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
    with (_listener(settings, "HTTP_PORT") as listener,
          _listener(settings, "PEER_PORT") as peer_listener):
        process = _Process(settings, listener, peer_listener, claim())
        await process.start()
        await stop_asked.wait()
        await process.stop()
    return EXIT_DONE


class _Process:
    """One node's parts. It is the handler of its peers."""

    def __init__(
        self, settings: Settings, listener: socket.socket, peer_listener: socket.socket,
        shares: Shares,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._shares = shares
        self._listener = listener
        self._peer_listener = peer_listener
        self._clock = LoopClock(loop)
        self._disk = FileDisk(settings.data_path, loop=loop, on_failure=_end)
        self._recovery = self._disk.open()
        host = settings.advertise or settings.host
        self._http_address = _endpoint(host, listener.getsockname()[1])
        self._peer_address = _endpoint(host, peer_listener.getsockname()[1])
        self._node: Node | None = None
        cluster_id = self._cluster_id()
        self._peers = Peers(
            Identity(self._disk.node_id, self._disk.start_id, cluster_id, self._peer_address,
                     self._http_address),
            self, loop, luck=random.Random(secrets.randbits(64)),
            callers_max=shares.callers_max,
        )
        self._contacts = Contacts(self._peers)
        # PEERs that belong to another cluster, with what was said of each.
        self._strangers: dict[str, str] = {}
        store = FoundingStore(settings.data_path, self._disk.node_id)
        facts = Facts(self._disk.node_id, self._disk.start_id, self._peer_address,
                      str(settings.data_path), settings.peers, cluster_id)
        founding = Founding(facts, store.load(), _draw_cluster)
        self._joining = Joining(
            self._disk.node_id, founding, store, self._contacts, self._on_cluster
        )
        self._unjoined = UnjoinedNode(
            self._disk.node_id, self._disk.start_id, self._http_address, self._peer_address,
            self._joining.waiting_for,
        )
        names = [settings.advertise] if settings.advertise else []
        self._http = HttpServer(
            self._unjoined, Hosts(names), on_fatal=_end, connections_max=shares.clients_max,
            refused_max=shares.refused_max,
        )

    def _cluster_id(self) -> int:
        founding = self._founding_data()
        return decode_founding(founding).cluster_id if founding else 0

    def _founding_data(self) -> bytes:
        """What the disk says the cluster was founded with; empty where it says nothing."""
        newest = self._disk.snapshot
        if newest is not None:
            with contextlib.closing(self._disk.open_snapshot(newest)) as handle:
                return handle.head.founding
        entries = self._recovery.entries
        return entries[0].data if entries else b""

    async def start(self) -> None:
        """Serve clients and peers, and find the cluster."""
        logger.info("seafoam %s: node %016x, data in %s", VERSION, self._disk.node_id,
                    self._disk.path)
        tell(self._shares)
        await self._http.start(self._listener)
        await self._peers.start(self._peer_listener)
        if self._founding_data():
            self._begin(self._recovery)
        self._joining.start(self._node)

    def _on_cluster(self, founding: bytes, came_by: str) -> Node:
        """The node is in a cluster: its log begins, durably, and it goes to work."""
        recovery = self._disk.found(founding)
        cluster_id = decode_founding(founding).cluster_id
        self._peers.set_cluster(cluster_id)
        logger.info("%s cluster %016x; its data is in %s", came_by, cluster_id, self._disk.path)
        return self._begin(recovery)

    def _begin(self, recovery: Recovery) -> Node:
        node = Node(
            self._disk, self._clock, self._contacts, recovery, self._settings.quota_bytes, _end,
            seed=self._disk.start_id, map_limit_bytes=map_limit_bytes(),
            snapshot_log_bytes=self._settings.snapshot_log_bytes,
        )
        node.http_address = self._http_address
        self._node = node
        self._http.change_node(node)
        node.on_new_map = partial(self._http.change_node, node)
        node.start(partial(_announce, node))
        return node

    async def stop(self) -> None:
        """Refuse what is new, finish what is under way, hand leadership over, and end."""
        logger.info("stopping")
        node = self._node
        if node is not None:
            node.begin_stop()
            for _ in range(HAND_OVER_LOOKS):
                if not node.leads_others:
                    break
                await asyncio.sleep(HAND_OVER_SECONDS / HAND_OVER_LOOKS)
        await self._http.stop(STOP_GRACE_SECONDS)
        self._joining.stop()
        await self._peers.stop()
        if node is not None:
            node.close()
        self._unjoined.close()
        self._disk.close()
        logger.info("stopped")

    # -- what the peers say ----------------------------------------------------------------------

    def on_hello(self, address: str, hello: Hello) -> None:
        """An address has answered."""
        ids = (hello.node_id, hello.start_id)
        self._contacts.on_hello(address, ids == (self._disk.node_id, self._disk.start_id))

    def on_called(self, hello: Hello) -> None:
        """Another node has called; what it wants, it will say, and it wants an answer."""
        if hello.cluster_id == self._peers.identity.cluster_id != 0:
            self._contacts.on_called(hello.peer_address)

    def on_lost(self, address: str) -> None:
        """An address does not answer any more."""
        self._contacts.on_trouble(address, "")

    def on_unreachable(self, address: str, sentence: str) -> None:
        """An address cannot be reached."""
        self._contacts.on_trouble(address, sentence)

    def on_refused(self, address: str, code: int, sentence: str) -> None:
        """This node or the one at an address does not want to speak to the other."""
        self._contacts.on_trouble(address, sentence)
        is_new = code == REFUSED_CLUSTER and self._strangers.get(address) != sentence
        if is_new and address in self._settings.peers:
            self._strangers[address] = sentence
            logger.error(
                "%s: two clusters are never made one; to give this node to the other, move %s "
                "away and start it again", sentence, self._settings.data_path)

    def on_copy(self, address: str, sentence: str) -> None:
        """This node runs beside the one whose data it has: two would go different ways.

        Only whom an operator or the log names is believed.
        """
        node = self._node
        if node is not None and address in (*self._settings.peers, *node.peer_addresses()):
            _end(StartError(
                f"{sentence}, and for longer than this one; to start this one as a new node, "
                f"empty {self._settings.data_path}"))

    def on_message(self, from_id: int, message: Message) -> None:
        """A message of Raft, from the node it says it is from.

        That need not be a member that this node knows: it may have to catch up first.
        """
        if self._node is not None:
            if message.term > self._node.term() + limits.TERMS_AHEAD_MAX:
                raise PeerRefused(
                    REFUSED_BYTES, f"sent a message of term {message.term}, which no election "
                                   f"has led to: this node is in term {self._node.term()}")
            self._node.handle_message(message)

    def on_call(self, hello: Hello, payload: bytes, answer: Callable[[bytes], None]) -> None:
        """A call of another node."""
        try:
            if call_kind(payload) == CALL_FOUNDING:
                self._joining.handle_call(hello.node_id, payload, answer)
            elif self._node is not None:
                if call_kind(payload) != CALL_JOIN and hello.cluster_id == 0:
                    raise BadCall(f"node {hello.node_id:016x} asks what only a member may ask, "
                                  f"and is in no cluster")
                self._node.handle_call(hello.node_id, payload, answer)
            else:
                answer(encode_elsewhere(Elsewhere("")))
        except BadCall as error:
            raise PeerRefused(REFUSED_BYTES, str(error)) from None


# -- ports ---------------------------------------------------------------------------------


def _bind(host: str, port: int, name: str) -> socket.socket:
    """A TCP socket bound to `host` and `port`, which `name` names in the refusal."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
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


def _listener(settings: Settings, name: str) -> socket.socket:
    """A listening socket: connections wait in its backlog until they are accepted."""
    port = settings.http_port if name == "HTTP_PORT" else settings.peer_port
    listener = _bind(settings.host, port, name)
    try:
        listener.listen(LISTEN_BACKLOG_COUNT)
    except OSError as error:
        listener.close()
        raise StartError(
            f"{name} {port} is in use on {settings.host}; "
            f"stop what uses it or choose another port ({error.strerror})"
        ) from None
    listener.setblocking(False)
    return listener


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _draw_cluster() -> tuple[int, bytes]:
    """A new cluster's id and hash seed."""
    return secrets.randbelow((1 << 64) - 1) + 1, secrets.token_bytes(HASH_SEED_BYTES)


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
    if isinstance(error, (DiskFailed, DiskWentBack, CapacityExceeded, StartError)):
        logger.critical("the node ends: %s", error)
    else:
        logger.critical("the node ends: an invariant is broken: %s", error, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FATAL)
