"""`splitbrain campaign`: a night of many runs, and what it came to beside the nights before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splitbrain.commands.app import Json, app
from splitbrain.talk import console, print_json, say

if TYPE_CHECKING:
    from splitbrain.campaign.runner import Show
    from splitbrain.campaign.spec import Campaign

CAMPAIGNS = Path("campaigns")

campaign = typer.Typer(help="Many runs, by night or in shards; compared with the nights before.")
app.add_typer(campaign, name="campaign")

File = Annotated[Path, typer.Argument(metavar="CAMPAIGN.toml", help="What to run; docs/campaigns.md.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where campaigns have their folders.")]
Junit = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the night as JUnit XML, a case for each cell.")
]
Seed = Annotated[int | None, typer.Option(min=0, metavar="N", help="Of the night (default: drawn, shown).")]


@campaign.command()
def run(
    file: File,
    out: Out = CAMPAIGNS,
    seed: Seed = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only this part of the cells, from 1/N to N/N; needs --seed."),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Place cells on the workers of this Dask scheduler.")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Start no more cells after so many failures.")
    ] = None,
    junit: Junit = None,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the latest night, if it has not come to its end.")
    ] = False,
    json: Json = False,
) -> int:
    """Run a night: every cell once, each in a process of its own; exit code by the worst of it."""
    from harness.core.exits import ERROR, overall
    from splitbrain.campaign import home as homes
    from splitbrain.campaign import markdown, runner
    from splitbrain.campaign.places import Here, Places
    from splitbrain.campaign.spec import read
    from splitbrain.told import announce, of_a_night, step_summary

    asked = read(file)
    part = _shard(shard, seed, asked)
    folder = out / asked.name
    if junit is not None:  # from the beginning on: a job that is killed leaves nothing green
        from results.junit import write_xml
        from splitbrain.campaign.junit import begun

        write_xml(junit, begun(asked.name))
    places: Places
    if dask is not None:
        from splitbrain.campaign.dask import Workers

        places = Workers(dask)
    else:
        places = Here(cores_most=asked.cores, memory_most_mb=asked.memory_mb, at_once=asked.at_once)
    with homes.held(folder):
        show = _show()
        try:
            night, lost = runner.open_night(asked, folder, resume=resume, seed=seed, shard=part)
            runner.close_cut_off(asked, lost, show)
            work = runner.Night(asked, night, places, show, max_failures=max_failures)
            try:
                if junit is not None:
                    _write_junit(junit, work.so_far(), night, ended=False)
                say(
                    f"campaign {asked.name}, night {night}, seed {work.plan.seed}, {len(work.plan.cells)} cells planned"
                )
                for x in work.plan.left_out:
                    say(f"left out: {x.label}: {x.reason}")
                work.work()
                told = work.conclude()
            finally:
                work.close()
        finally:
            show.close()
    step_summary(markdown.summary(told))
    announce(of_a_night(told))
    unwritten = junit is not None and _junit_lost(junit, told, night)
    _tell(told, night, json=json)
    return overall([int(told["exit"]), *([ERROR] if unwritten else [])])


@campaign.command()
def plan(
    file: File,
    seed: Seed = None,
    shards: Annotated[
        int | None,
        typer.Option(min=1, max=256, metavar="N", help="Split the cells for the jobs of a CI's matrix."),
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Show the cells of a night, and start nothing."""
    import msgspec

    from splitbrain.campaign import merge
    from splitbrain.campaign.runner import new_plan
    from splitbrain.campaign.spec import read

    made = new_plan(read(file), seed)
    split = merge.shards(made, file, shards) if shards is not None else {}
    if json:
        print_json({**msgspec.to_builtins(made), **split})
        return 0
    for job in split.get("include", ()):
        sys.stdout.write(f"{job['cells']:5} cells  {job['command']}\n")
    if not split:
        for cell in made.cells:
            sys.stdout.write(f"{cell.id}  {cell.label}, seed {cell.seed}\n")
    for x in made.left_out:
        say(f"left out: {x.label}: {x.reason}")
    more = ", and samples as long as the budget lasts" if made.endless else ""
    say(
        f"{len(made.cells)} cells, seed {made.seed}{more};"
        f" {sum(c.limit_s for c in made.cells):,.0f} s at most, one by one"
    )
    return 0


@campaign.command()
def merge(
    file: File,
    nights: Annotated[list[Path], typer.Argument(metavar="DIR...", help="What the shards have left.")],
    out: Out = CAMPAIGNS,
    junit: Junit = None,
    *,
    json: Json = False,
) -> int:
    """Make one night of those of the shards, and compare it with the nights before."""
    from harness.core.exits import ERROR, overall
    from splitbrain.campaign import home as homes
    from splitbrain.campaign import markdown, summary
    from splitbrain.campaign import merge as merging
    from splitbrain.campaign.spec import read
    from splitbrain.told import step_summary

    asked = read(file)
    folder = out / asked.name
    with homes.held(folder):
        night = merging.merge(asked, merging.nights_below(nights), folder)
        told = summary.again(night, asked)
        if problems := merging.tell(asked, night, told):
            for problem in problems:
                say(problem)
            told = summary.again(night, asked)
    step_summary(markdown.summary(told))
    unwritten = junit is not None and _junit_lost(junit, told, night)
    _tell(told, night, json=json)
    return overall([int(told["exit"]), *([ERROR] if unwritten else [])])


@campaign.command()
def show(
    file: File,
    out: Out = CAMPAIGNS,
    night: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Which night (default: the latest).")
    ] = None,
    junit: Junit = None,
    *,
    json: Json = False,
) -> int:
    """Tell again what a night came to; of one that was cut off, what there is of it."""
    from harness.core.errors import UsageError
    from splitbrain.campaign import home as homes
    from splitbrain.campaign import summary
    from splitbrain.campaign.spec import read

    asked = read(file)
    folder = out / asked.name
    nights = homes.nights(folder)
    chosen = [n for n in nights if night in (None, homes.number(n))]
    if not chosen:
        there = (
            f"there are nights {homes.number(nights[0])} to {homes.number(nights[-1])}"
            if nights
            else "there is none"
        )
        which = "no night" if night is None else f"no night {night}"
        raise UsageError(f"{folder} holds {which}; {there}")
    told = homes.read_summary(chosen[-1]) or summary.again(chosen[-1], asked, write=False)
    if junit is not None:
        _write_junit(junit, told, chosen[-1])
    _tell(told, chosen[-1], json=json)
    return 0


@campaign.command()
def trend(
    file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.toml|DIR", help="A campaign, or its folder.")],
    out: Out = CAMPAIGNS,
    last: Annotated[int, typer.Option(min=1, metavar="N", help="How many nights, the latest.")] = 30,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as a page, beside the nights.")
    ] = None,
    *,
    json: Json = False,
) -> int:
    """What changed from night to night."""
    from harness.core.errors import InfrastructureError, UsageError
    from splitbrain.campaign import home as homes
    from splitbrain.campaign import trend as trends
    from splitbrain.campaign.spec import read

    folder = file if file.is_dir() else out / read(file).name
    found = trends.rows(folder, last)
    if not found:
        raise UsageError(f"{folder} holds no night; `splitbrain campaign run` makes one")
    if html is not None:
        try:
            homes.write(html, trends.build(folder, found))
        except OSError as e:
            raise InfrastructureError(f"cannot write {html}: {e.strerror}; choose another file") from None
        say(f"{html} written")
    if json:
        print_json(trends.plain(folder, found))
    elif html is None:
        trends.show(console(), found)
    return 0


@campaign.command()
def overdue(
    file: File,
    out: Out = CAMPAIGNS,
    after: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How old the latest night may be (default: `every`, 26h)."),
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Say, and tell by [notify], that a night did not happen: for cron, some time after it should have."""
    from datetime import UTC, datetime

    from splitbrain import spec as specs
    from splitbrain.campaign import notify, watch
    from splitbrain.campaign.spec import read

    asked = read(file)
    limit_s = asked.every_s if after is None else specs.seconds(after)
    found = watch.look(out / asked.name, limit_s, datetime.now(UTC))
    if found.late:
        about = {"campaign": asked.name, "night": found.night}
        text = f"campaign {asked.name}: {found.sentence}"
        for problem in notify.tell(asked.notify, "overdue", text, about):
            say(problem)
    if json:
        print_json({"format": 1, "late": found.late, "night": found.night, "reason": found.sentence})
    else:
        sys.stdout.write(f"{found.sentence}\n")
    return 4 if found.late else 0


def _shard(text: str | None, seed: int | None, asked: Campaign) -> tuple[int, int] | None:
    """Raises: UsageError for what is no shard, or one whose cells the others would not know."""
    from harness.core.errors import UsageError

    if text is None:
        return None
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n) <= 256):
        raise UsageError(f"--shard {text}: expected I/N such as 2/4")
    if seed is None and asked.seed is None:
        raise UsageError(
            f"--shard {text} needs --seed: all shards have to be of one plan; `splitbrain campaign plan --shards"
            f" {n} --json` draws one"
        )
    return int(i), int(n)


def _write_junit(path: Path, told: dict[str, Any], night: Path, *, ended: bool = True) -> None:
    """Raises: InfrastructureError when it cannot be written."""
    from results.junit import write_xml
    from splitbrain.campaign import junit

    write_xml(path, junit.build(told, night, ended=ended))


def _junit_lost(path: Path, told: dict[str, Any], night: Path) -> bool:
    """Whether the file could not be written; that is said, and touches nothing of what was found."""
    from harness.core.errors import InfrastructureError

    try:
        _write_junit(path, told, night)
    except InfrastructureError as e:
        say(f"splitbrain: {e}; `splitbrain campaign show --junit` writes it as well")
        return True
    return False


def _show() -> Any:
    from splitbrain.campaign.display import Live, Plain

    talk = console(stderr=True)
    show: Show = Live(talk) if talk.is_terminal else Plain(talk)
    return show


def _tell(told: dict[str, Any], night: Path, *, json: bool) -> None:
    if json:
        print_json(told)
        return
    page = console()
    page.print(f"{told['verdict']}: {told['reason']}", soft_wrap=True)
    if told["canary"]["sentence"] not in told["reason"]:
        page.print(told["canary"]["sentence"], soft_wrap=True)
    for f in told["findings"]:
        often = f["rate"] if f["hits"] else f["absence"]
        page.print(
            f"  {f['status']:8} {f['signature']}: {f['hits']} of {f['eligible']} tonight; {often}",
            soft_wrap=True,
        )
        for report in f["reports"][:3]:
            page.print(f"           {night / report}", soft_wrap=True)
    page.print(str(night / "index.html"), soft_wrap=True)
