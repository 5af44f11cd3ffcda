"""A snapshot on a terminal: a live tree, or a line for each change where the output is no terminal. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tidegate.cli.snapshot import Snapshot, TaskLine
from tidegate.cli.text import amount

_STYLES = {
    "Complete": "green", "Running": "cyan", "Gating": "cyan", "Assigned": "cyan", "Pending": "dim", "Failed": "red",
    "Blocked": "red", "Partial": "yellow", "Cancelled": "yellow", "Passed": "bold green", "Exhausted": "bold red",
    "Active": "bold cyan",
}  # fmt: skip
_MARKS = {
    "Complete": "✓",
    "Running": "●",
    "Assigned": "●",
    "Gating": "○",
    "Pending": "·",
    "Partial": "◐",
    "Cancelled": "-",
}


def headline(shot: Snapshot) -> str:
    """The build in one line."""
    words = [f"build {shot.name}", shot.phase]
    if shot.iteration:
        words.append(f"plan {shot.iteration}")
    words.append(f"{shot.complete}/{shot.total} tasks")
    words.append(f"{shot.merged} merged")
    if shot.tokens_in or shot.tokens_out:
        words.append(f"tokens {amount(shot.tokens_in)} in, {amount(shot.tokens_out)} out")
    if shot.elapsed:
        words.append(shot.elapsed)
    return "  ".join(words)


def tree(shot: Snapshot, rows: int) -> RenderableType:
    """The build as a tree of at most about `rows` tasks; those that ended well give way first."""
    root = Tree(Text(headline(shot), style=_STYLES.get(shot.phase, "bold")), guide_style="dim")
    shown = _most_telling(shot.tasks, rows)
    if shown:
        root.add(_table(shown))
    hidden = Counter(task.state for task in shot.tasks) - Counter(task.state for task in shown)
    if hidden:
        root.add(Text("and " + ", ".join(f"{n} {state}" for state, n in sorted(hidden.items())), style="dim"))
    notes = [Text(note, style="yellow") for note in troubles(shot)]
    return Group(root, *notes)


def _most_telling(tasks: tuple[TaskLine, ...], rows: int) -> tuple[TaskLine, ...]:
    if len(tasks) <= rows:
        return tasks
    ranks = {
        "Running": 0,
        "Assigned": 0,
        "Gating": 0,
        "Failed": 1,
        "Blocked": 1,
        "Partial": 1,
        "Cancelled": 2,
        "Pending": 3,
    }
    best = sorted(tasks, key=lambda task: (ranks.get(task.state, 4), task.order))[:rows]
    kept = {task.name for task in best}
    return tuple(task for task in tasks if task.name in kept)


def _table(tasks: tuple[TaskLine, ...]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(6):
        table.add_column(no_wrap=True, overflow="ellipsis")
    for task in tasks:
        style = _STYLES.get(task.state, "")
        tokens = f"{amount(task.tokens_in)}/{amount(task.tokens_out)}" if task.tokens_in or task.tokens_out else ""
        attempt = f"attempt {task.attempt}" if task.attempt > 1 else ""
        table.add_row(
            Text(f"{_MARKS.get(task.state, '✗')} {task.name}", style=style),
            Text(task.state, style=style),
            Text(task.merge, style="red" if task.merge.startswith("unmerged") else "green"),
            Text(tokens, style="dim"),
            Text(task.elapsed, style="dim"),
            Text("  ".join(part for part in (attempt, task.why) if part), style="dim"),
        )
    return table


def troubles(shot: Snapshot) -> list[str]:
    """What a person should look at."""
    notes = [
        f"{type_}: {reason}: {message}" for type_, status, reason, message in shot.conditions if _bad(type_, status)
    ]
    return notes if not shot.finalized else []


def _bad(type_: str, status: str) -> bool:
    return (type_ == "Stalled" and status == "True") or (type_ in ("Planned", "SweepGreen") and status == "False")


def verdict(shot: Snapshot) -> list[str]:
    """The end in a few lines: the verdict, and what is unmerged, where it is and why."""
    lines = [f"{shot.phase}: {shot.message}"]
    for task, ref, reason in shot.unmerged:
        lines.append(f"unmerged: {task}  {reason}  {ref}".rstrip())
    more = shot.unmerged_total - len(shot.unmerged)
    if more > 0:
        lines.append(f"unmerged: {more} more")
    return lines


def changes(old: Snapshot | None, new: Snapshot, now: datetime) -> list[str]:
    """Plain lines for what differs between two snapshots."""
    stamp = now.strftime("%H:%M:%S")
    found: list[str] = []
    if old is None:
        found.append(headline(new))
    before = {task.name: task for task in old.tasks} if old else {}
    for task in new.tasks:
        found += _task_changes(before.get(task.name), task)
    names = {task.name for task in new.tasks}
    found += [f"task {name} is gone" for name in before if name not in names]
    known = {(c[0], c[1], c[2]) for c in old.conditions} if old else set()
    for type_, status, reason, message in new.conditions:
        news = (type_, status, reason) not in known and reason != "Progressing"
        if (
            news
            and not (new.finalized and type_ == "Stalled")
            and type_ not in ("Reconciling", "Succeeded", "Finalized")
        ):
            found.append(f"build {new.name}: {type_}={status} {reason}: {message}".rstrip(": "))
    if old is not None and old.iteration != new.iteration and new.iteration > 1:
        found.append(f"build {new.name}: plan {new.iteration} applied")
    return [f"{stamp} {line}" for line in found]


def _task_changes(old: TaskLine | None, new: TaskLine) -> list[str]:
    found: list[str] = []
    if old is None or (old.state, old.attempt) != (new.state, new.attempt):
        attempt = f" (attempt {new.attempt})" if new.attempt > 1 else ""
        tokens = (
            f", tokens {amount(new.tokens_in)} in, {amount(new.tokens_out)} out" if new.ended and new.tokens_in else ""
        )
        took = f" after {new.elapsed}" if new.ended and new.elapsed else ""
        waits = new.state == "Pending" and not new.attempt  # for others, which says little
        why = f": {new.why}" if new.why and not waits else ""
        found.append(f"task {new.name} {new.state}{attempt}{took}{tokens}{why}")
    if new.merge and (old is None or old.merge.split(" #")[0] != new.merge.split(" #")[0]):
        found.append(f"task {new.name} {new.merge}")
    return found
