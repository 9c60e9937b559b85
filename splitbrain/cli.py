"""The command line: a contract that scripts rely on.

Data on stdout, talk on stderr; with `--json` exactly one JSON object on stdout, also for exits 2 and
4. Exit codes: 0 valid, 1 violation, 2 usage, 3 unknown, 4 infrastructure or harness error, 130
interrupted. Errors of `harness.core.errors` are one sentence and never a traceback.

Commands only translate; what they do lives in `running`, `spec`, `card`, `listing`, `new`, `doctor`. Imports stand
in the functions that need them: `--help` is quick, and the packages are checked before one of ours
is imported.
"""

from __future__ import annotations

import json as json_module
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from splitbrain.talk import console, print_json, say

if TYPE_CHECKING:
    from harness.core.spec import Spec

RUNS = Path("runs")
HISTORIES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".edn", ".edn.gz", ".edn.zst")

app = typer.Typer(
    name="splitbrain",
    help="Run a real consensus cluster, break it, and prove whether it kept its promises.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, its id, or `latest`.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is in the cache; download nothing.")]


def main() -> NoReturn:
    """The `splitbrain` command; never returns."""
    sys.exit(execute(sys.argv[1:]))


class _Stopped(BaseException):
    """A signal asked us to stop while no run was on. No `Exception`: nobody may take it for one."""


def _stop(number: int, _frame: object) -> NoReturn:
    raise _Stopped(f"interrupted by {signal.Signals(number).name} before there was anything to judge")


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a glyph must not end a run on an old terminal
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    json = "--json" in arguments
    try:
        import splitbrain

        splitbrain.check_packages()
    except ImportError as e:
        return _fail(str(e), 4, json=json)
    from harness.core.errors import SplitbrainError

    try:
        code = app(args=list(arguments), prog_name="splitbrain", standalone_mode=False)
    except SplitbrainError as e:
        return _fail(str(e), e.exit_code, json=json)
    except _Stopped as e:
        return _fail(str(e), 130, json=json)
    except BrokenPipeError:  # `splitbrain list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as e:  # noqa: BLE001 - a bug of ours is exit 4 and one JSON object as well
        if hasattr(e, "format_message"):  # typer's own: a missing argument, an unknown option
            return _fail(
                f"{_sentence(e.format_message())}; `splitbrain --help` shows the usage", 2, json=json
            )
        import traceback

        traceback.print_exc()
        return _fail(f"a fault in splitbrain itself: {type(e).__name__}: {e}", 4, json=json)
    return code if isinstance(code, int) else 0


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:]


def _fail(sentence: str, code: int, *, json: bool, spec: Spec | None = None) -> int:
    """Say why on stderr, and as an object on stdout where that was asked for."""
    sys.stderr.write(f"splitbrain: {sentence}\n")
    if json:
        from splitbrain.launch import error_results

        print_json(error_results(sentence, spec))
    return code


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> int | None:
    if version:
        from splitbrain.registry import version as own_version

        sys.stdout.write(f"splitbrain {own_version()}\n")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        from harness.core.errors import UsageError

        raise UsageError("a command is missing; `splitbrain --help` lists them")
    return None


@app.command()
def run(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="SPEC.toml", help="A spec; flags override it.")
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to test (default etcd), or a FILE.toml."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Its version; 3.6 is the newest known 3.6.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients do (default register).")
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Families, family:target or walk:kill+pause, by commas; none (default partition,kill,pause).",
        ),
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How many, 1 to 9 (default 3); attach: HOST:PORT,...; ssh: USER@HOST:PORT,...",
        ),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where nodes run (default netns).")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="TIME", help="Load under faults (default 30s).")] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="N", help="Operations/s over all clients, 0: no limit (default 200)."),
    ] = None,
    concurrency: Annotated[str | None, typer.Option(metavar="N", help="Clients (default 10).")] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Repeats a run (default: drawn, shown).")
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Runs, with seeds N, N+1 ...")
    ] = 1,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where run directories go.")] = RUNS,
    opt: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of whoever declares it; repeatable."),
    ] = None,
    expect: Annotated[
        str | None, typer.Option(metavar="VERDICT", help="valid or invalid: exit 0 if met, 1 if not.")
    ] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a cluster that failed standing, for exec and logs.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End load at the first violation seen while it runs.")
    ] = False,
    no_admission: Annotated[
        bool, typer.Option("--no-admission", help="Do not wait for other runs where the machine is full.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the spec and the schedule only.")] = False,
    json: Json = False,
    offline: Offline = False,
) -> int:
    """Run a cluster under load and faults, and judge its history."""
    import msgspec

    from harness.core.errors import SplitbrainError
    from splitbrain import running
    from splitbrain import spec as specs

    flags = {
        "system": system,
        "version": version,
        "workload": workload,
        "faults": faults,
        "nodes": nodes,
        "provider": provider,
        "time": time,
        "rate": rate,
        "concurrency": concurrency,
        "seed": seed,
        "expect": expect,
        "opt": opt or None,
        "admission": False if no_admission else None,
        "keep": keep or None,
        "fail-fast": fail_fast or None,
    }
    spec = specs.resolve(spec_file, flags)
    planned = specs.successors(spec, repeat)
    try:
        if dry_run:
            running.show_plan(spec, json=json)
            return 0
        if not spec.addresses:
            exact = running.exact_version(spec, offline=offline)
            planned = [msgspec.structs.replace(s, version=exact) for s in planned]
        ended = running.run_all(planned, out, json=json)
    except SplitbrainError as e:
        return _fail(str(e), e.exit_code, json=json, spec=spec)
    from harness.core.exits import overall
    from splitbrain.launch import several

    if json:
        results = [e.results for e in ended]
        print_json(results[0] if repeat == 1 else several(results, repeat))
    elif repeat > 1:
        say(several([e.results for e in ended], repeat)["reason"])
    return overall(e.code for e in ended)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="RUN|HISTORY", help="A run, or a history file.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What a bare history is of: register, kv, set ..., or module:attr of your own.",
        ),
    ] = None,
    witness: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the orders that prove a valid verdict.")
    ] = None,
    keyed: Annotated[
        bool | None,
        typer.Option("--keyed/--no-keyed", help="Values of an EDN history are [key value], or are not."),
    ] = None,
    *,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Plant violations: which share would have been seen?")
    ] = False,
    json: Json = False,
) -> int:
    """Judge a run or a history file again, with no cluster."""
    from harness.core.exits import exit_code
    from splitbrain.card import print_anomalies, print_card, print_error
    from splitbrain.progress import Progress
    from splitbrain.runner import check as check_again

    path = Path(target)
    if not path.is_file() and not target.endswith(HISTORIES):
        path = _find(target)
    if model is not None and ":" in model and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # behind everything else: a model of the user's, beside them
    with Progress(sys.stderr if sys.stderr.isatty() else None) as progress:
        results = check_again(
            path,
            model=model,
            witness=witness,
            sensitivity=sensitivity,
            keyed=keyed,
            progress=progress.note,
        )
    if json:
        print_json(results)
    else:
        print_card(console(), results, path if path.is_dir() else None)
        print_error(console(), results)
        print_anomalies(console(), results)
    return exit_code({**results, "interrupted": False})  # the run was, this command is not: unknown


def _find(text: str) -> Path:
    from results.rundir import find_run

    return find_run(RUNS, text)


def _results_of(run_dir: Path) -> dict[str, Any]:
    """Raises: UsageError for a run that has none."""
    from harness.core.errors import UsageError

    path = run_dir / "results.json"
    try:
        value = json_module.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"{run_dir} has no results.json: the run has not ended, or was killed; `splitbrain check"
            f" {run_dir}` judges its journal"
        ) from None
    except (OSError, ValueError) as e:
        raise UsageError(f"cannot read {path}: {e}; `splitbrain check {run_dir}` writes it again") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} is no JSON object; `splitbrain check {run_dir}` writes it again")
    return value


@app.command()
def show(target: Run, *, json: Json = False) -> int:
    """Print the verdict card of a run and its anomalies."""
    from splitbrain.card import print_anomalies, print_card, print_error

    run_dir = _find(target)
    results = _results_of(run_dir)
    if json:
        print_json(results)
        return 0
    print_card(console(), results, run_dir)
    print_error(console(), results)
    print_anomalies(console(), results)
    return 0


@app.command()
def report(target: Run) -> int:
    """Write report.html of a run again."""
    run_dir = _find(target)
    from results.report import write_report

    write_report(run_dir)
    sys.stdout.write(f"{run_dir / 'report.html'}\n")
    return 0


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="RUN|HISTORY", help="A run, or a history file.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to (default: stdout).")
    ] = None,
    *,
    jepsen: Annotated[bool, typer.Option("--jepsen", help="As Jepsen's history.edn.")] = False,
) -> int:
    """Write a run's history in a form that other tools read."""
    from harness.core.errors import InfrastructureError, UsageError
    from splitbrain.foreign import export_edn

    if not jepsen:
        raise UsageError("export needs a form to write; expected --jepsen")
    path = Path(target)
    if not path.is_file() and not target.endswith(HISTORIES):
        path = _find(target)
    lines = export_edn(path)
    if out is None:
        sys.stdout.writelines(lines)
        return 0
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        part.replace(out)
    except OSError as e:
        raise InfrastructureError(f"cannot write {out}: {e.strerror}; choose another file") from None
    finally:
        part.unlink(missing_ok=True)
    say(f"{out} written")
    return 0


@app.command(name="open")
def open_report(target: Run) -> int:
    """Open the report of a run in a browser."""
    import webbrowser

    from harness.core.errors import UsageError

    path = _find(target) / "report.html"
    if not path.exists():
        raise UsageError(f"{path} does not exist; `splitbrain report {target}` writes it")
    sys.stdout.write(f"{path}\n")
    graphical = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if not (graphical and webbrowser.open(path.resolve().as_uri())):
        say("no browser here: open this file in one")
    return 0


@app.command(name="exec", context_settings={"ignore_unknown_options": True})
def execute_in_node(
    target: Run,
    node: Annotated[str, typer.Argument(metavar="NODE", help="n1, n2 ...")],
    words: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="What to run there.")],
) -> NoReturn:
    """Run a command inside a node of a cluster that was kept."""
    from splitbrain import kept

    argv = kept.command(_find(target), node, words)
    os.execv(argv[0], argv)  # noqa: S606 - its exit code is ours


@app.command()
def logs(
    target: Run,
    node: Annotated[
        str | None,
        typer.Argument(metavar="[NODE]", help="n1 ..., or controller, agent, sampler; default: all."),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they grow.")] = False,
) -> int:
    """Print the logs of a run's nodes, also while it goes on."""
    from splitbrain.logs import write_logs

    def write(block: bytes) -> None:
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()

    try:
        write_logs(_find(target), node, write, follow=follow)
    except _Stopped:
        return 130  # the way to end -f
    return 0


@app.command(name="list")
def list_all(
    *,
    system: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE.toml", help="A system of your own, to be listed too; repeatable."),
    ] = None,
    json: Json = False,
) -> int:
    """What there is, what goes together, the latest runs."""
    from splitbrain import listing
    from splitbrain import spec as specs

    for file in system or ():
        specs.system_named(file)
    if json:
        print_json(listing.everything(RUNS))
    else:
        listing.print_everything(console(), RUNS)
    return 0


@app.command()
def systems(*, json: Json = False) -> int:
    """Systems that can be tested: versions, where they are had from, promises and options."""
    from splitbrain import listing
    from splitbrain import systems as about

    rows = about.examine()
    if json:
        print_json({"systems": rows})
    else:
        about.print_rows(console(), rows)
    for sentence in listing.broken(["systems"]):
        say(sentence)
    return 0


@app.command()
def workloads(*, json: Json = False) -> int:
    """What clients can do, with options."""
    return _details("workloads", json=json)


@app.command()
def faults(*, json: Json = False) -> int:
    """What can go wrong, with targets and options."""
    return _details("faults", json=json)


def _details(group: Any, *, json: bool) -> int:
    from splitbrain import listing

    if json:
        print_json({group: listing.details(group)})
    else:
        listing.print_details(console(), group)
    for sentence in listing.broken([group]):
        say(sentence)
    return 0


@app.command()
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="system, workload or checker.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case words, joined by hyphens.")],
    *,
    json: Json = False,
) -> int:
    """Write a system, workload or checker of your own to begin with, and its test, into the current folder."""
    from splitbrain import new as skeletons

    made = skeletons.write(kind, name, Path())
    if json:
        import msgspec

        print_json(msgspec.to_builtins(made))
        return 0
    sys.stdout.write("".join(f"{file}\n" for file in made.files))
    say("next:\n" + "\n".join(f"  {step}" for step in made.next))
    return 0


@app.command()
def bugs(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A known bug; without it they are listed.")
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, metavar="N", help="Runs of each side, kept; those missing are made."
        ),
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Of one pair (default: from the commit's hash).")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table into this document.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where runs go (default runs; of --repeat .bugs).")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All of them (with --repeat 1, if not said).")] = False,
    no_admission: Annotated[
        bool, typer.Option("--no-admission", help="Do not wait for other runs where the machine is full.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
) -> int:
    """Known bugs, found again: a broken version and its clean twin under the same faults."""
    from splitbrain.bugs.command import Asked, answer

    asked = Asked(
        name=name,
        repeat=repeat,
        seed=seed,
        every=every,
        write=write,
        out=out,
        runs=RUNS,
        admission=not no_admission,
        offline=offline,
        json=json,
    )
    return answer(asked)


@app.command()
def doctor(
    system: Annotated[
        str | None,
        typer.Argument(metavar="[SYSTEM.toml]", help="Look at the file of a system of your own instead."),
    ] = None,
    *,
    nodes: Annotated[
        str | None, typer.Option(metavar="USER@HOST:PORT,...", help="What works on these hosts instead.")
    ] = None,
    opt: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Options of provider ssh.")
    ] = None,
    json: Json = False,
) -> int:
    """What works on this machine, and what is missing; or what is wrong with a system's file."""
    from splitbrain import doctor as rooms

    if system is not None:
        told = rooms.examine_system(system)
        if json:
            print_json(told)
        else:
            rooms.print_system(console(), told)
        return 0
    found = rooms.examine(RUNS, nodes, opt or [])
    if json:
        print_json(found)
    else:
        rooms.print_findings(console(), found)
    return 0 if found["error"] is None else 4


@app.command()
def heal(
    target: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's directory, its id, or `latest` (default).")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every run that is not alive.")] = False,
    json: Json = False,
) -> int:
    """Undo what a killed run left behind, from its ledger."""
    from harness.core.errors import UsageError
    from splitbrain import heal as healing

    if every and target is not None:
        raise UsageError(f"heal takes a run or --all; leave one of {target!r} and --all out")
    deeds = healing.heal_all(RUNS) if every else healing.heal(_find(target or "latest"))
    if json:
        print_json(healing.plain(deeds))
    else:
        healing.print_deeds(console(), deeds)
    return 4 if any(deed.problem for deed in deeds) else 0


@app.command()
def fetch(
    target: Annotated[str, typer.Argument(metavar="SYSTEM[@VERSION]", help="etcd, etcd@3.6, etcd@3.5.1")],
    *,
    offline: Offline = False,
    json: Json = False,
) -> int:
    """Obtain a version of a system ahead of time."""
    from harness.core.errors import UsageError
    from splitbrain import registry, running
    from splitbrain import spec as specs

    system, at, version = target.partition("@")
    system = specs.system_named(system)
    if at and not version:
        raise UsageError(f"fetch {target!r}: the version is empty; expected SYSTEM or SYSTEM@VERSION")
    defaults = {option.name: option.default for option in registry.describe("systems", system).options}
    install = running.install(system, version or None, defaults, offline=offline)
    if json:
        import msgspec

        print_json(msgspec.to_builtins(install))
        return 0
    sys.stdout.write(f"{system} {install.version}\n")
    for name, path in install.program.items():
        sys.stdout.write(f"  {name}  {path}  sha256 {install.sha256.get(name, 'not known')}\n")
    for caveat in install.caveats:
        say(f"note: {caveat}")
    return 0
