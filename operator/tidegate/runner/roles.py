"""What each container of the runner image does: environment in, exit code out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping

from tidegate.api import reasons
from tidegate.api.wire import ENV_INPUT, AgentInput, GateInput, JudgeInput, PublisherReport, WireError
from tidegate.runner.places import ENV_POD_UID, Places, write_termination_message
from tidegate.runner.report import shortened
from tidegate.runner.stop import StopSignal
from tidegate.runner.text import clean

log = logging.getLogger("tidegate.runner")


def _environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name} is not set: the Pod's builder sets it")
    return value


def workspace(_stop: StopSignal) -> int:
    """Run the init container of an agent Pod."""
    from tidegate.runner.workspace import prepare

    places = Places()
    places.use_private_temporary_directory()
    report = prepare(AgentInput.from_variables(os.environ), places, _environment(ENV_POD_UID))
    write_termination_message(places.termination_log, report.dumps())
    return 1 if report.error else 0


def publisher(stop: StopSignal) -> int:
    """Run the sidecar of an agent Pod."""
    from tidegate.runner.publisher import run

    places = Places()
    places.use_private_temporary_directory()
    given = AgentInput.from_variables(os.environ)
    try:
        report = run(given, places, _environment(ENV_POD_UID), stop)
    except Exception as error:  # the last word must reach the operator, whatever went wrong
        log.exception("publishing failed")
        report = PublisherReport(error=reasons.PUBLISHER_FAILED, message=clean(f"{type(error).__name__}: {error}", 800))
    write_termination_message(places.termination_log, shortened(report).dumps())
    return 1 if report.error else 0


def checkout(_stop: StopSignal) -> int:
    """Run the init container of a gate Pod."""
    from tidegate.runner.checkout import check_out

    places = Places()
    report = check_out(GateInput.from_variables(os.environ), places)
    write_termination_message(places.termination_log, report.dumps())
    return 1 if report.error else 0


def judge(_stop: StopSignal) -> int:
    """Run the last container of a gate Pod whose gate leaves reports."""
    from tidegate.runner.judge import judge as judged

    places = Places()
    report = judged(JudgeInput.from_variables(os.environ), places)
    write_termination_message(places.termination_log, report.dumps())
    return 1 if report.reason else 0


def markers(_stop: StopSignal) -> int:
    """Run the gate of sweeps that looks for conflicts; the workspace is a checkout with its `.git`."""
    from tidegate.clients.git import Git
    from tidegate.runner.markers import report

    text, code = report(Git(Places().workspace / ".git"))
    print(text)
    return code


def planner(_stop: StopSignal) -> int:
    """Run the Planner engine, in the agent's container."""
    from tidegate.runner.planner import main

    return main()


def reviewer(_stop: StopSignal) -> int:
    """Run the Reviewer engine, in the agent's container."""
    from tidegate.runner.reviewer import main

    return main()


ROLES: Mapping[str, Callable[[StopSignal], int]] = {
    "workspace": workspace,
    "publisher": publisher,
    "checkout": checkout,
    "judge": judge,
    "markers": markers,
    "planner": planner,
    "reviewer": reviewer,
}


def run_role(arguments: list[str], stop: StopSignal) -> int:
    """Run the role named by the only argument; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if len(arguments) != 1 or arguments[0] not in ROLES:
        print(f"usage: python -m tidegate.runner {'|'.join(ROLES)}", file=sys.stderr)
        return 2
    try:
        return ROLES[arguments[0]](stop)
    except WireError as error:
        print(f"{ENV_INPUT}: {error}", file=sys.stderr)
        return 2
