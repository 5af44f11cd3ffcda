"""The command line: `tidegate`, also found by kubectl as `kubectl tidegate`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidegate import __version__, names
from tidegate.cli import apply as files
from tidegate.cli.follow import EXIT_NOT_PASSED, EXIT_USAGE, JsonScreen, LineScreen, LiveScreen, Screen, follow
from tidegate.cli.logs import LogError, show_log
from tidegate.cli.text import clean
from tidegate.clients.kube import Kube
from tidegate.clients.kubeconfig import default_namespace
from tidegate.errors import KubeError, PermanentError

app = typer.Typer(
    help="Watch and start builds, and read what their agents say.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Output(StrEnum):
    """How results are shown."""

    TEXT = "text"
    JSON = "json"


NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace; the context's otherwise.")]
ContextOption = Annotated[str, typer.Option("--context", help="Context of the kubeconfig; the current one otherwise.")]
KubeconfigOption = Annotated[str, typer.Option("--kubeconfig", help="Path of the kubeconfig; $KUBECONFIG otherwise.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text, or json: one object a line.")]


@app.command()
def watch(
    build: Annotated[str, typer.Argument(help="Name of the BuildRequest.")],
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Follow a build until its verdict. Exit code 0 when it Passed, 1 when it ended otherwise, 2 for errors."""

    async def work(kube: Kube, space: str) -> int:
        return await _follow(kube, space, build, output)

    _run(work, namespace, context, kubeconfig)


@app.command()
def run(
    file: Annotated[str, typer.Option("--filename", "-f", help="File with a BuildRequest; - is standard input.")],
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Apply a file with a BuildRequest, then follow the build; exit codes as of watch."""

    async def work(kube: Kube, space: str) -> int:
        objects = files.read_objects(file)
        builds = files.builds_in(objects, space)
        if len(builds) != 1:
            raise files.FileError(f"{file} holds {len(builds)} BuildRequests: run needs exactly one")
        for line in await files.apply_objects(kube, objects, space):
            if output is Output.TEXT:
                _write(line)
        return await _follow(kube, *builds[0], output)

    _run(work, namespace, context, kubeconfig)


@app.command()
def logs(
    task: Annotated[str, typer.Argument(help="Name of the AgentTask.")],
    follow_log: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the agent ends.")] = False,
    attempt: Annotated[int, typer.Option("--attempt", min=0, help="Number of the attempt; the newest otherwise.")] = 0,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Show what a task's agent wrote, or say where in git it is when the Pod is gone."""

    async def work(kube: Kube, space: str) -> int:
        try:
            await show_log(kube, space, task, attempt or None, follow=follow_log, write=_write)
        except LogError as error:
            print(error, file=sys.stderr)
            return EXIT_NOT_PASSED
        return 0

    _run(work, namespace, context, kubeconfig)


@app.command()
def version(output: OutputOption = Output.TEXT) -> None:
    """Show the version of this program and of the API that it speaks."""
    if output is Output.JSON:
        _write(json.dumps({"version": __version__, "apiVersion": names.API_VERSION}))
    else:
        _write(f"tidegate {__version__} ({names.API_VERSION})")


async def _follow(kube: Kube, namespace: str, build: str, output: Output) -> int:
    console = Console()
    screen: Screen
    if output is Output.JSON:
        screen = JsonScreen(_write)
    elif console.is_terminal:
        screen = LiveScreen(console)
    else:
        screen = LineScreen(_write)
    try:
        return await follow(kube, namespace, build, screen)
    finally:
        if isinstance(screen, LiveScreen):
            screen.close()


def _run(work: Callable[[Kube, str], Awaitable[int]], namespace: str, context: str, kubeconfig: str) -> None:
    """Connect, work, and end with its exit code; errors become one line."""

    async def connected() -> int:
        space = namespace or default_namespace(kubeconfig or None, context or None)
        kube = await Kube.connect(kubeconfig or None, context=context or None)
        try:
            return await work(kube, space)
        finally:
            await kube.close()

    try:
        code = asyncio.run(connected())
    except (KubeError, PermanentError, files.FileError) as error:
        print(f"error: {clean(error, 2000)}", file=sys.stderr)
        code = EXIT_USAGE
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = EXIT_USAGE
    raise typer.Exit(code)


def _write(line: str) -> None:
    print(line, flush=True)


def program_name(argv0: str) -> str:
    """How a person called this program: kubectl finds plugins as `kubectl-tidegate`."""
    name = Path(argv0).name
    return "kubectl tidegate" if name.replace("_", "-").startswith("kubectl-tidegate") else "tidegate"


def main() -> None:
    """Entry point of both commands."""
    app(prog_name=program_name(sys.argv[0]))


if __name__ == "__main__":
    main()
