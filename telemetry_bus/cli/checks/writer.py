"""Checks of the writer: whether it is there and well, and what it could not do."""

from __future__ import annotations

from ... import __version__
from ...errors import TelemetryError, WriterAbsent
from ..deadletters.letters import letters_of, reading
from ..output import counted
from ..status import gone
from .case import Case
from .finding import Finding, ok, problem, warning


def owner(case: Case) -> Finding:
    """Who holds `writer.lock`, and whether he answers."""
    if not case.held:
        refusal = case.bus.other_name()
        return ok("none runs") if refusal is None else problem(f"none can run: {refusal.message}", refusal.hint or "")
    if case.owner.is_program:
        return warning(
            f"process {case.owner.pid} owns the database in thread mode: other programs have to wait for its end",
            "let all programs use mode daemon",
        )
    try:
        report = case.answer
    except WriterAbsent:
        if not case.bus.held:
            return ok("none runs; one has just left")
        return problem(case.owner.silence(), "end it by its process id; nothing is lost")
    except TelemetryError as error:
        return problem(f"process {case.owner.pid} answers: {error.message}", "telemetry-bus stop ends it")
    assert report is not None
    if report["version"] != __version__:
        return warning(
            f"process {report['pid']} is of version {report['version']}, and this is {__version__}",
            "telemetry-bus stop ends it; producers start the next one",
        )
    return ok(f"process {report['pid']} owns the database and answers")


def spawning(case: Case) -> Finding:
    """Without a writer, and with nobody who starts one, jobs only gather."""
    if case.may_spawn:
        return ok("producers start a writer")
    if case.held:
        return ok("turned off, and a writer runs")
    waiting = case.journals.pending_jobs
    message = "turned off by TELEMETRY_BUS_SPAWN, and no writer runs"
    hint = "start telemetry-writer, or unset TELEMETRY_BUS_SPAWN"
    return problem(f"{message}: {counted(waiting, 'job')} waiting", hint) if waiting else warning(message, hint)


def state(case: Case) -> Finding:
    """What it says of itself."""
    report = case.answer_or_none
    if report is None:
        return ok("no writer is asked")
    if report["state"] != "running":
        causes = [f"jobs gone: {loss}"] if (loss := gone(report)) else []
        causes += [report["last_error"]] if report["last_error"] else []
        hint = "mend that; jobs are kept and tried again meanwhile"
        if not report["last_error"]:
            hint = "look for them in the database that was replaced; the next writer is not degraded by it"
        return problem(f"{report['state']}: {'; '.join(causes)}", hint)
    if report["last_error"]:
        return warning(f"running; its last error: {report['last_error']}", "telemetry-bus dead-letters list")
    return ok("running")


def inherited(case: Case) -> Finding:
    """What it has from the process that happened to start it, and could not undo. A limit may stop it; the rest is
    slow at most."""
    report = case.answer_or_none
    told = ", ".join(report.get("inherited") or ()) if report else ""  # an earlier version does not say
    if "RLIMIT" in told:
        return warning(
            f"the writer has from what started it: {told}",
            "telemetry-bus stop ends it; start the next one as a service, or from a program without that",
        )
    return ok(told or ("no writer is asked" if report is None else "nothing that holds the writer back"))


def drift(case: Case) -> Finding:
    """Tables that differ from the definitions that jobs bring; only a writer knows."""
    report = case.answer_or_none
    if report is None or not report["drift"]:
        return ok("no writer is asked" if report is None else "none")
    return warning("; ".join(report["drift"]), "change the table, or the definition in the producer")


def dead_letters(case: Case) -> Finding:
    """Read without the writer, which may not be there."""
    if case.bus.database.dialect == "postgresql":
        with reading(case.bus.database) as letters:
            count = letters.count()
    elif not case.is_database:
        return ok("none")
    else:
        with case.reading() as connection:
            count = letters_of(connection).count()
    if count:
        return warning(
            counted(count, "job") + " failed",
            "telemetry-bus dead-letters list; mend the cause, then dead-letters retry --all",
        )
    return ok("none")
