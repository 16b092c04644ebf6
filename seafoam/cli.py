"""The two commands: ``seafoam-server`` runs a node, ``seafoam`` talks to one or repairs its data.

Owns what is printed and each exit status. Must never show a traceback for what a user did, nor
print a value as anything but the text that is stored. What only one verb needs is imported there,
so that the others start at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from seafoam.errors import SeafoamError
from seafoam.version import VERSION

if TYPE_CHECKING:
    from seafoam.client import Answer, Connection

__all__ = ["client_main", "server_main"]

EXIT_ABSENT = 1        # not found, or something else is there
EXIT_USAGE = 2         # the command line, or what it gave, is not acceptable
EXIT_UNREACHABLE = 3   # no node answers, or it cannot serve at the moment
EXIT_OTHER = 4

#: Codes of the API -> exit status; any other is EXIT_OTHER.
EXIT_OF_CODE = {
    "key_not_found": EXIT_ABSENT,
    "cas_mismatch": EXIT_ABSENT,
    "key_exists": EXIT_ABSENT,
    "bad_request": EXIT_USAGE,
    "too_large": EXIT_USAGE,
    "no_leader": EXIT_UNREACHABLE,
    "starting": EXIT_UNREACHABLE,
    "not_ready": EXIT_UNREACHABLE,
    "shutting_down": EXIT_UNREACHABLE,
    "timeout": EXIT_UNREACHABLE,
}
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_bytes(text: str) -> int:
    """The number of bytes that ``512M`` or ``4G`` stands for (powers of 1,024)."""
    bare = text.upper().removesuffix("B").removesuffix("I")
    number, unit = bare.rstrip("KMGT"), bare.lstrip("0123456789")
    if not (number.isascii() and number.isdigit()) or unit not in SIZES:
        raise click.BadParameter(f"{text!r} is no size; write such as 512M or 4G, or bytes")
    return int(number) * SIZES[unit]


def folder(text: str) -> Path:
    """A folder's name; an empty one is a variable that a script forgot to set."""
    if not text:
        raise click.BadParameter("an empty name is no folder; write . for the one you are in")
    return Path(text)


def utf8(text: str) -> str:
    """A key as it was typed, which must be text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("a key must be UTF-8 text") from None
    return text


# The server


@click.command("server", context_settings=CONTEXT, short_help="Run a node.", epilog=(
    "Each option can also be given as the environment variable SEAFOAM_ and its name: "
    "SEAFOAM_MAX_MEMORY=4G."
))
@click.argument("http_port", type=int)
@click.argument("peer_port", type=int)
@click.argument("peers", nargs=-1, metavar="[PEER]...")
@click.option("--host", envvar="SEAFOAM_HOST", default="127.0.0.1", metavar="ADDRESS",
              help="Address to listen on.")
@click.option("--data-dir", envvar="SEAFOAM_DATA_DIR", metavar="FOLDER",
              type=folder, show_default="seafoam-data/PEER_PORT",
              help="Where this node's data is kept.")
@click.option("--max-memory", "max_memory_bytes", envvar="SEAFOAM_MAX_MEMORY", metavar="SIZE",
              type=size_bytes, show_default="a quarter of the machine's",
              help="How much keys and values may take, such as 512M or 4G; no more than three "
                   "eighths of the memory.")
@click.option("--snapshot-log", "snapshot_log_bytes", envvar="SEAFOAM_SNAPSHOT_LOG",
              metavar="SIZE", type=size_bytes, default="256M", show_default=True,
              help="How much log there is at least before a snapshot takes its place.")
@click.option("--advertise", envvar="SEAFOAM_ADVERTISE", metavar="HOST", show_default="--host",
              help="The name or address by which others reach this node; needed where --host is "
                   "every address of the machine.")
@click.option("--insecure", envvar="SEAFOAM_INSECURE", is_flag=True,
              help="Allow --host to be an address that other machines can reach.")
@click.version_option(VERSION, message="seafoam-server %(version)s")
def server(**settings: Any) -> int:
    """Run one node: serve clients over HTTP on HTTP_PORT, and other nodes on PEER_PORT.

    Both are port numbers. Each PEER is HOST:PORT of another node's PEER_PORT, or of its own: whom
    to talk to, not who is in the cluster. Nodes that find each other so found a cluster
    together, or join the one that there is; without a PEER a node is a cluster of one. The node
    runs until it is told to stop (Ctrl-C, SIGTERM).
    """
    from seafoam.config import Settings
    from seafoam.server import run

    try:
        sound = Settings(**settings)
    except SeafoamError as error:
        raise click.UsageError(str(error)) from None
    return run(sound)


# The client


NEGATIVE_NUMBER = re.compile(r"-[0-9]")


class _Place:
    """Which node a verb talks to; connects when it is called."""

    def __init__(self, ctx: click.Context, node: str, timeout_seconds: float) -> None:
        self.ctx = ctx
        self.node = node
        self.timeout_seconds = timeout_seconds

    def __call__(self) -> Connection:
        from seafoam.client import BadAddress, Connection

        try:
            connection = Connection(self.node, self.timeout_seconds)
        except BadAddress as error:
            raise click.UsageError(str(error), self.ctx) from None
        self.ctx.call_on_close(connection.close)
        return connection


def _node_behind_verb(ctx: click.Context, param: click.Parameter, node: str | None) -> None:
    if node is not None:
        ctx.obj.node = node


class _Verb(click.Command):
    """A verb: takes --node behind it too, and a negative number for the argument it is."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.append(click.Option(
            ["--node"], metavar="HOST:PORT", expose_value=False, callback=_node_behind_verb,
            help="The node to talk to; also taken before the verb."))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # click takes all that begins with a minus for an option unless told to let unknown ones
        # pass. Then it is here that those are refused which are no number either.
        ctx.ignore_unknown_options = True
        known = {name for param in self.get_params(ctx) for name in param.opts}
        options = args[:args.index("--")] if "--" in args else args
        for name in (argument.partition("=")[0] for argument in options):
            if len(name) > 1 and name[0] == "-" and not NEGATIVE_NUMBER.match(name) \
                    and name not in known:
                raise click.NoSuchOption(name, possibilities=sorted(known), ctx=ctx)
        return super().parse_args(ctx, args)


class _Verbs(click.Group):
    command_class = _Verb


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if value != value:
        raise click.BadParameter("it is not a number")
    return value


@click.group(cls=_Verbs, context_settings=CONTEXT)
@click.option("--node", envvar="SEAFOAM_NODE", default="127.0.0.1:3000", metavar="HOST:PORT",
              show_envvar=True, help="The node to talk to; also taken behind the verb.")
@click.option("--timeout", envvar="SEAFOAM_TIMEOUT", default=10.0, metavar="SECONDS",
              show_envvar=True, type=click.FloatRange(min=0, min_open=True, max=3600),
              callback=_number,
              help="How long to wait for an answer.")
@click.version_option(VERSION, message="seafoam %(version)s")
@click.pass_context
def client(ctx: click.Context, node: str, timeout: float) -> None:
    """Talk to a running node, or repair the data of one that does not start.

    \b
    Exit status:
      0  done
      1  no such key, or something else is there; not repaired
      2  wrong usage, or a key or value that is not acceptable
      3  no node answers, or it cannot serve at the moment
      4  anything else
    """
    ctx.obj = _Place(ctx, node, timeout)


as_json = click.option("--json", "as_json", is_flag=True, help="Print the node's whole answer.")
Connect = Callable[[], "Connection"]


class _ReaderGone(Exception):
    """Nobody reads the output any more. Not an OSError: click ends on those by itself, with 1."""


def _print(text: bytes) -> None:
    try:
        sys.stdout.buffer.write(text + b"\n")
    except BrokenPipeError:
        raise _ReaderGone from None


def _json_text(value: str, what: str) -> bytes:
    """The JSON text given as an argument, or on the standard input for ``-``."""
    from seafoam._core import json

    text = sys.stdin.buffer.read() if value == "-" else os.fsencode(value)
    try:
        return json.compact(text)
    except json.JsonError as error:
        hint = ""
        if value != "-" and len(value) <= 100 and value.isprintable():
            import shlex

            hint = "; as a string it is " + shlex.quote(json.quote(value).decode())
        raise click.UsageError(f"{what} is not JSON: {error}{hint}") from None


def _body(*fields: tuple[str, bytes]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), text) for name, text in fields) + b"}"


def _quote(text: str) -> bytes:
    from seafoam._core import json

    return json.quote(text)


def _report_write(answer: Answer, as_json: bool) -> None:
    _print(answer.body if as_json else b"index " + answer.text("index"))


@client.command(context_settings=CONTEXT, short_help="Print the value of KEY.")
@click.argument("key", type=utf8, metavar="KEY")
@as_json
@click.pass_obj
def get(connect: Connect, key: str, as_json: bool) -> None:
    """Print the value of KEY: the JSON text, as it is stored."""
    answer = connect().post("/get", _body(("key", _quote(key))))
    _print(answer.body if as_json else answer.text("value"))


@client.command("set", context_settings=CONTEXT, short_help="Store VALUE under KEY.")
@click.argument("key", type=utf8, metavar="KEY")
@click.argument("value")
@click.option("--if-absent", is_flag=True, help="Only if there is no such key.")
@as_json
@click.pass_obj
def set_(connect: Connect, key: str, value: str, if_absent: bool, as_json: bool) -> None:
    """Store VALUE, which is JSON text, or - for the standard input, under KEY."""
    fields = [("key", _quote(key)), ("value", _json_text(value, "VALUE"))]
    if if_absent:
        fields.append(("if_absent", b"true"))
    _report_write(connect().post("/set", _body(*fields)), as_json)


@client.command(context_settings=CONTEXT, short_help="Store NEW_VALUE if OLD_VALUE is there.")
@click.argument("key", type=utf8, metavar="KEY")
@click.argument("values", nargs=-1, metavar="[OLD_VALUE] NEW_VALUE")
@click.option("--old-version", type=click.IntRange(0, 2**64 - 1), metavar="VERSION",
              help="Expect this version in place of OLD_VALUE.")
@as_json
@click.pass_obj
def cas(connect: Connect, key: str, values: tuple[str, ...], old_version: int | None,
        as_json: bool) -> None:
    """Store NEW_VALUE under KEY if OLD_VALUE is there (compared as JSON), or VERSION.

    One of the two values may be - for the standard input.
    """
    wanted = 2 if old_version is None else 1
    if len(values) != wanted or values.count("-") > 1:
        raise click.UsageError(
            "cas takes KEY OLD_VALUE NEW_VALUE, or --old-version VERSION KEY NEW_VALUE, "
            "of which one value may be -"
        )
    if old_version is None:
        old = ("old_value", _json_text(values[0], "OLD_VALUE"))
    else:
        old = ("old_version", b"%d" % old_version)
    new = ("new_value", _json_text(values[-1], "NEW_VALUE"))
    _report_write(connect().post("/cas", _body(("key", _quote(key)), old, new)), as_json)


@client.command(context_settings=CONTEXT, short_help="Delete KEY.")
@click.argument("key", type=utf8, metavar="KEY")
@as_json
@click.pass_obj
def delete(connect: Connect, key: str, as_json: bool) -> int:
    """Delete KEY; exit status 1 if there is no such key."""
    answer = connect().post("/delete", _body(("key", _quote(key))))
    if answer.text("deleted") != b"true":
        _complain(f"key_not_found: there is no key {key!r}")
        return EXIT_ABSENT
    _report_write(answer, as_json)
    return 0


@client.command(context_settings=CONTEXT, short_help="Print the keys that begin with PREFIX.")
@click.argument("prefix", type=utf8, default="", metavar="[PREFIX]")
@as_json
@click.pass_obj
def keys(connect: Connect, prefix: str, as_json: bool) -> None:
    """Print the keys that begin with PREFIX, one a line, in no particular order.

    A key that holds a control character or begins with a quote is printed as a JSON string; with
    --json every key is.
    """
    from seafoam._core import json

    connection = connect()
    fields = [("prefix", _quote(prefix))]
    while True:
        page = connection.post("/scan", _body(*fields))
        for literal in json.elements(page.text("keys")):
            key = json.unescape(literal[1:-1]).decode()
            plain = key.isprintable() and not key.startswith('"') and not as_json
            _print(key.encode() if plain else literal)
        if "next" not in page.fields:
            return
        fields = [("prefix", _quote(prefix)), ("after", page.text("next"))]


@client.command(context_settings=CONTEXT)
@as_json
@click.pass_obj
def status(connect: Connect, as_json: bool) -> None:
    """Print what the node says of itself."""
    body = connect().get("/status").body
    if as_json:
        _print(body)
        return
    import json

    _print(json.dumps(json.loads(body), indent=2, ensure_ascii=False).encode())


@client.command(context_settings=CONTEXT, short_help="Print who is in the cluster.")
@as_json
@click.pass_obj
def members(connect: Connect, as_json: bool) -> int:
    """Print who is in the node's cluster, one a line.

    Each line has the member's id, voter or learner, its address for other nodes and that for
    clients, which is - where the node has not heard of it.
    """
    body = connect().get("/members").body
    import json

    found = json.loads(body)["members"]
    if as_json:
        _print(body)
    for member in () if as_json else found:
        place = member["peer"], member["http"] or "-"
        _print(" ".join((member["node_id"], member["role"], *place)).encode())
    if not found:
        _complain("the node is in no cluster")
    return 0 if found else EXIT_UNREACHABLE


@client.command(context_settings=CONTEXT, short_help="Store a file of documents.")
@click.argument("file", metavar="FILE.jsonl", type=str)
@click.pass_obj
def load(connect: Connect, file: str) -> None:
    """Store documents, one a line: {"key": ..., "value": ...}; - reads the standard input.

    Stops at the first line that cannot be stored, and says how far it came.
    """
    connection = connect()
    try:
        source = click.open_file(file, "rb")
    except OSError as error:
        raise click.UsageError(f"cannot read {file!r}: {error.strerror}") from None
    with source as lines:
        count = _load_lines(connection, lines)
    _print(b"loaded %d documents" % count)


def _load_lines(connection: Connection, lines: IO[bytes]) -> int:
    from seafoam.loading import load_lines

    size_bytes = os.fstat(lines.fileno()).st_size  # 0 where lines come out of a pipe
    if not size_bytes or not sys.stderr.isatty():
        return load_lines(connection, lines, int)
    with click.progressbar(length=size_bytes, file=sys.stderr, label="loading") as bar:
        return load_lines(connection, lines, bar.update)


@client.command(context_settings=CONTEXT, short_help="Make a damaged data directory usable.")
@click.argument("directory", metavar="DIR", type=folder)
@click.option("--yes", is_flag=True, help="Do it without asking.")
def repair(directory: Path, yes: bool) -> int:
    """Say what is damaged in the data directory DIR, and after asking, make it usable again.

    No node may be running on it. Of a node that is a cluster of its own, what is whole before the
    damage is kept; for a member of a larger cluster everything is moved aside, and it starts again
    as a new node. What is moved goes to DIR/damaged-..., and nothing is deleted. Exit status 1
    where there is something to do and it was not done.
    """
    from seafoam.repair import carry_out, examine, held

    with held(directory) as data:
        plan = examine(data)
        if not plan.is_needed:
            _print(b"nothing is damaged, and nothing was changed")
            return 0
        for sentence in (*plan.damages, *plan.words):
            _print(os.fsencode(sentence))
        sys.stdout.flush()
        if not yes and not sys.stdin.isatty():
            _complain("nothing was changed; --yes does it without asking")
            return EXIT_ABSENT
        if not yes and not click.confirm("Do that?", err=True):
            _complain("nothing was changed")
            return EXIT_ABSENT
        aside = carry_out(data, plan)
        _print(os.fsencode(f"done; what was moved aside is in {aside}"))
    return 0


client.add_command(server)


# What both commands end in


def _complain(message: str) -> None:
    click.echo(f"seafoam: {message}", err=True)


def _explain(error: SeafoamError) -> int:
    """Say what went wrong; the exit status of it."""
    from seafoam.client import CallRefused, NodeUnreachable
    from seafoam.loading import LoadStopped

    _complain(str(error))
    cause = error.__cause__ if isinstance(error, LoadStopped) else error
    if not isinstance(cause, CallRefused):
        return EXIT_UNREACHABLE if isinstance(cause, NodeUnreachable) else EXIT_OTHER
    if cause.code == "cas_mismatch":
        for name in ("current_value", "current_version"):
            _complain(f"{name.replace('_', ' ')}: {(cause.detail(name) or b'').decode()}")
    return EXIT_OF_CODE.get(cause.code, EXIT_OTHER)


def _main(command: click.Command, name: str) -> NoReturn:
    try:
        status = command.main(prog_name=name, standalone_mode=False) or 0
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code if isinstance(error, click.UsageError) else EXIT_OTHER
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        status = EXIT_OTHER
    except (_ReaderGone, BrokenPipeError):
        status = EXIT_OTHER
    except OSError as error:
        _complain(f"{error.filename or 'output'}: {error.strerror or error}")
        status = EXIT_OTHER
    except SeafoamError as error:
        status = _explain(error)
    _finish(status)


def _finish(status: int) -> NoReturn:
    """Exit, without a word from Python where the output's reader has gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


def client_main() -> NoReturn:
    """Entry point of ``seafoam``."""
    _main(client, "seafoam")


def server_main() -> NoReturn:
    """Entry point of ``seafoam-server``."""
    _main(server, "seafoam-server")
