"""Aider as a library: one chat about a few files, bounded in tokens, reflections and time, without a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before Aider and litellm are imported: they read these while they load.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_TELEMETRY", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OPENAI_API_BASE"] = os.environ.get("OPENAI_BASE_URL", "")

from aider import models
from aider.coders import Coder
from aider.io import InputOutput


@dataclass(frozen=True)
class ModelLimits:
    """What one attempt may ask of the model; tokens and seconds are of one call."""

    output_tokens: int
    context_tokens: int
    reflections: int
    call_seconds: int
    seed: int
    temperature: float


@dataclass
class Usage:
    """What the attempt has used so far."""

    tokens_in: int = 0
    tokens_out: int = 0
    model_calls: int = 0


class BoundedModel(models.Model):  # type: ignore[misc]
    """A model behind an OpenAI-compatible server: its limits are given, never looked up, and its use is counted."""

    def __init__(self, name: str, limits: ModelLimits, stops: list[str], usage: Usage) -> None:
        full_name = f"openai/{name}"
        models.model_info_manager.local_model_metadata[full_name] = {
            "max_input_tokens": limits.context_tokens,
            "max_tokens": limits.output_tokens,
            "litellm_provider": "openai",
            "mode": "chat",
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
        }
        super().__init__(full_name, weak_model=False, editor_model=False)
        self.weak_model = self.editor_model = self
        self.usage = usage
        self.limits = limits
        self.stops = stops
        self.edit_format = "whole"
        self.use_repo_map = False
        self.streaming = False
        self.vary(0)

    def vary(self, turn: int) -> None:
        """Another seed and more temperature for each turn: the same answer to a failed check would fail again."""
        self.use_temperature = min(self.limits.temperature + 0.25 * turn, 0.8)
        self.extra_params = {
            "max_tokens": self.limits.output_tokens,
            "seed": self.limits.seed * 100 + turn,
            "timeout": self.limits.call_seconds,
            "num_retries": 0,
            **({"stop": self.stops} if self.stops else {}),
        }

    def send_completion(self, *arguments: Any, **options: Any) -> Any:
        """As Aider's, and counted."""
        self.usage.model_calls += 1
        digest, completion = super().send_completion(*arguments, **options)
        counted = getattr(completion, "usage", None)
        if counted:
            self.usage.tokens_in += counted.prompt_tokens or 0
            self.usage.tokens_out += counted.completion_tokens or 0
        return digest, completion


class ScopedIO(InputOutput):  # type: ignore[misc]
    """Nobody is there to be asked: edits inside the scope are allowed, all else is refused."""

    def __init__(self, allowed: Callable[[str], bool], log: Path) -> None:
        super().__init__(
            pretty=False, yes=True, fancy_input=False, chat_history_file=str(log), input_history_file=os.devnull
        )
        self.allowed = allowed

    def confirm_ask(self, question: str, _default: str = "y", subject: str | None = None, **_: Any) -> bool:
        """Yes to an edit of a file in the scope; no to anything else, such as adding files or running commands."""
        about_edit = question.startswith(("Create new file?", "Allow edits to file"))
        return about_edit and subject is not None and self.allowed(subject)


class Conversation:
    """One chat about `targets` (to be written) with `tests` to read."""

    def __init__(
        self, model: str, limits: ModelLimits, targets: list[str], tests: list[str], allowed: Callable[[str], bool],
        usage: Usage,
    ) -> None:  # fmt: skip
        scratch = Path(os.environ.get("TMPDIR", "/tmp"))
        # A small model likes to repeat the tests: there its answer ends. Providers take four such texts at most
        stops = [f"\n{test}\n" for test in tests[:4]]
        self.coder = Coder.create(
            main_model=BoundedModel(model, limits, stops, usage),
            edit_format="whole",
            io=ScopedIO(allowed, scratch / "aider.chat.history.md"),
            fnames=[str(Path(target).absolute()) for target in targets],
            read_only_fnames=[str(Path(test).absolute()) for test in tests],
            use_git=False,
            map_tokens=0,
            stream=False,
            auto_lint=False,
            auto_test=False,
            auto_commits=False,
            detect_urls=False,
            suggest_shell_commands=False,
            analytics=None,
        )
        # Without git Aider takes the directory that holds all files of the chat, and would shorten their names
        self.coder.root = str(Path.cwd())
        self.coder.abs_root_path_cache.clear()
        self.coder.max_reflections = limits.reflections

    def say(self, message: str, turn: int) -> None:
        """Turn number `turn`, from 0: Aider asks the model and writes what it answers.

        Earlier turns are left out: the files of the chat hold their outcome, and a small context is a quick one.
        """
        self.coder.main_model.vary(turn)
        self.coder.done_messages, self.coder.cur_messages = [], []
        self.coder.run(with_message=message, preproc=False)
