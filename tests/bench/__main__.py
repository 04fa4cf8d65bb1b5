"""`make bench`: measure the whole job beside routers that only route, or with --profile say where its time goes."""

import asyncio
import signal
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from proxy.fatal import Fatal
from tests.bench import growth, profile, report
from tests.bench.candidates import CANDIDATES, Candidate
from tests.bench.candidates.tollway import Tollway, of_checkout
from tests.bench.figures import Round
from tests.bench.load import built
from tests.bench.machine import Missing, described, suit
from tests.bench.rivals import ROOT
from tests.bench.rounds import RESULTS, play

T = TypeVar("T")
NAMES = [candidate.name for candidate in CANDIDATES]


@click.command()
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True, help="How often each is measured.")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="How long each workload lasts."
)
@click.option("--only", metavar="A,B", help=f"Measure only these of {', '.join(NAMES)}.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Measure only this checkout and another, in turn: its folder. Try --rounds 10.",
)
@click.option("--growth", "grown", is_flag=True, help="Say instead whether the cost grows with users, limits, streams.")
@click.option("--profile", "profiled", is_flag=True, help="Say instead where Tollway's time goes under the JSON load.")
def bench(*, rounds: int, seconds: float, only: str | None, against: Path | None, grown: bool, profiled: bool) -> None:
    """
    Measure Tollway's whole job beside proxies that only route (method: tests/bench/README.md).

    \b
    Examples:
      make bench
      make bench ARGS="--rounds 1 --seconds 2 --only tollway,direct"
      make bench ARGS="--against ../before --rounds 10"
      make bench ARGS="--growth --rounds 3"
      make bench ARGS="--profile"
    """
    chosen = _chosen(only)
    try:
        if against is not None:
            chosen = [Tollway(), of_checkout(against)]
        suit()
        for tool in ("upstream", "loadgen"):
            built(tool)
        if profiled:
            click.echo(_until_done(profile.profile(max(seconds, profile.SECONDS_MIN), _say)))
            return
        if grown:
            click.echo(_until_done(growth.growth(rounds, seconds, _say)))
            return
        _bench(chosen, rounds, seconds)
    except (Fatal, Missing) as fault:
        raise click.ClickException(str(fault)) from None


def _bench(chosen: list[Candidate], rounds: int, seconds: float) -> None:
    began = datetime.now(UTC)
    machine = described()
    versions, skipped = _prepared(chosen)
    measured = [candidate for candidate in chosen if candidate.name in versions]
    if not measured:
        raise Fatal("nothing is left to measure")
    played: list[Round] = _until_done(play(measured, rounds=rounds, seconds=seconds, say=_say))
    run = report.Run(
        when=f"{began:%Y-%m-%d %H:%M} UTC",
        machine=machine,
        method=f"medians of {len(played)} rounds of {seconds:g} s each",
        versions=versions,
        jobs={candidate.name: candidate.job for candidate in measured},
        skipped=skipped,
        rounds=played,
    )
    folder = RESULTS / f"{began:%Y%m%dT%H%M%S}"
    report.write(run, folder)
    click.echo(report.terminal(run))
    if any(candidate.name == "before" for candidate in measured):
        click.echo(report.pairs(run, "before"))
    click.echo(f"Kept in {folder.relative_to(ROOT)}/: results.json, table.md, chart.svg")


def _chosen(only: str | None) -> list[Candidate]:
    names = NAMES if only is None else [name.strip() for name in only.split(",")]
    if unknown := sorted(set(names).difference(NAMES)):
        raise click.BadParameter(f"no {', '.join(unknown)}; there are {', '.join(NAMES)}", param_hint="'--only'")
    return [candidate for candidate in CANDIDATES if candidate.name in names]


def _prepared(chosen: list[Candidate]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions of those that can run, and why the others cannot."""
    versions: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for candidate in chosen:
        try:
            versions[candidate.name] = candidate.prepare()
        except Missing as why:
            skipped[candidate.name] = str(why)
            _say(f"without {candidate.name}: {why}")
    return versions, skipped


def _until_done(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C and SIGTERM end everything that was started."""

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise click.Abort from None


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    bench(prog_name="make bench")
