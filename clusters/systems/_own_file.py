"""The file that describes a system of the user's own: what may stand in it (docs/own-system.md).

Here are its tables and their fields as types. `_own_read` reads one and reports all that is wrong at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=1, le=65535)]
Status = Annotated[int, Meta(ge=200, le=599)]
Seconds = Annotated[float, Meta(gt=0, le=600)]
Text = Annotated[str, Meta(min_length=1)]
Argv = Annotated[list[str], Meta(min_length=1)]
Way = Literal["value", "json", "text", "base64"]


class Config(Struct, kw_only=True):
    """A file that is written on the node before its process starts: `text`, or what `template` names."""

    path: Text
    template: str | None = None
    text: str | None = None


class Run(Struct, kw_only=True):
    """One process of a node."""

    argv: Argv
    name: str | None = None
    env: dict[str, str] = {}
    config: list[Config] = []
    dirs: list[str] = []
    user: str | None = None
    stop_signal: Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"] = "TERM"
    start_after_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0


class Build(Struct, kw_only=True):
    """The command that makes what `files` name below `${build}`; done again when `inputs` have changed."""

    argv: Argv
    inputs: Annotated[list[str], Meta(min_length=1)]
    env: dict[str, str] = {}


class Several(Struct, kw_only=True):
    """A list that templates name as `${list.NAME}`: `item` for each of the nodes, joined."""

    item: str
    of: Literal["nodes", "peers"] = "nodes"
    join: str = ","


class OwnOption(Struct, kw_only=True):
    """An option of the system, for `--opt NAME=VALUE` and `${option.NAME}`."""

    default: bool | int | float | str
    summary: str = ""
    choices: list[str] = []
    least: float | None = None
    most: float | None = None
    caveat: str | None = None


class Matching(Struct, kw_only=True):
    """Answers with this status (None: any) whose body the regular expression is found in."""

    status: Status | None = None
    body: str | None = None


class Request(Struct, kw_only=True):
    """One operation as one HTTP request, and what its answers mean. What no rule names is indeterminate."""

    path: Text
    method: Literal["GET", "PUT", "POST", "DELETE", "PATCH"] = "GET"
    body: str = ""
    ok: list[Status | Matching] = field(default_factory=lambda: [200, 201, 204])
    null: list[Status | Matching] = []
    mismatch: list[Status | Matching] = []
    fail: list[Status | Matching] = []
    value: str | None = None
    value_as: Way = "value"
    ext: dict[str, str] = {}


class Client(Struct, kw_only=True):
    """What workloads talk through: a Python class, a command that speaks JSON lines, or HTTP requests."""

    python: str | None = field(default=None, name="class")
    command: Argv | None = None
    operations: list[str] = []
    env: dict[str, str] = {}
    start_s: Seconds = 10.0
    http: dict[str, Request] = {}
    headers: dict[str, str] = {}
    port: str = "client"


class Ready(Struct, kw_only=True):
    """What must succeed through every node before a run begins, and after its faults: an operation, or a GET
    (`http`). With `listening` the client's port is tried first."""

    f: str = "write"
    key: str = "splitbrain-ready"
    value: Any = 1
    http: str | None = None
    status: list[Status] = field(default_factory=lambda: [200])
    port: str = "client"
    listening: bool = True


class Saying(Struct, kw_only=True):
    """How a node is asked what it is: a GET, and where in its answer what stands."""

    http: Text
    role: str
    port: str = "client"
    leader: list[Any] = field(default_factory=lambda: ["leader"])
    follower: list[Any] = field(default_factory=lambda: ["follower"])
    candidate: list[Any] = field(default_factory=lambda: ["candidate"])
    learner: list[Any] = field(default_factory=lambda: ["learner"])
    term: str | None = None
    commit: str | None = None
    applied: str | None = None
    revision: str | None = None
    leader_name: str | None = None


class Log(Struct, kw_only=True):
    """A line of a node's log that means something. A group `term` of the pattern is the term."""

    kind: Literal["election", "leader-seen", "leader-lost", "start", "stop", "crash", "corruption"]
    pattern: Text


class Promised(Struct, kw_only=True):
    """A promise, and the families of faults under which it is made."""

    property: Literal["linearizable", "availability", "durable", "lease"]
    faults: list[str]
    most: Literal["minority", "all"] = "minority"
    unless: dict[str, bool | int | float | str] = {}
    source: str = ""
    link: str = ""


class OwnFile(Struct, kw_only=True):
    """The whole file, checked. `path` is where it was read from, `home` the folder that its paths start at;
    these two are no fields of the file."""

    name: str
    run: list[Run]
    ports: dict[str, Port]
    client: Client
    summary: str = ""
    version: str | None = None
    image: str | None = None
    files: dict[str, str] = {}
    build: Build | None = None
    lists: dict[str, Several] = field(default={}, name="list")
    option: dict[str, OwnOption] = {}
    ready: Ready = field(default_factory=Ready)
    status: Saying | None = None
    log: list[Log] = []
    promise: list[Promised] = []
    path: Path = Path()
    home: Path = Path()

    def operations(self) -> tuple[str, ...]:
        """What the client can do, as far as the file says it (a Python class says it itself)."""
        return tuple(self.client.http or self.client.operations)
