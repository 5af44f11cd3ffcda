"""Counting tokens in answers and streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidegate.errors import PermanentError
from tidegate.gateway.proxy import read_request
from tidegate.gateway.settings import Settings
from tidegate.gateway.usage import MAX_ATTEMPTS, StreamMeter, Tallies, Tokens, estimate, read_usage


def event(document: Any, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps(document)}{end}".encode()


DELTA = {"choices": [{"delta": {"content": "four"}}], "usage": None}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_measured_however_it_is_cut(end: str, size: int) -> None:
    data = event(DELTA, end) + b": a comment\n\n" + event(USAGE, end) + b"data: [DONE]\n\n"
    meter = StreamMeter(keep_usage=False)
    out = b"".join(meter.feed(data[at : at + size]) for at in range(0, len(data), size)) + meter.rest()
    assert out == event(DELTA, end) + b": a comment\n\n" + b"data: [DONE]\n\n"
    assert meter.tokens == Tokens(3, 5)
    assert meter.answered == 4


def test_usage_in_a_chunk_with_a_choice_is_passed_on() -> None:
    both = {**DELTA, "usage": USAGE["usage"]}
    meter = StreamMeter(keep_usage=False)
    assert meter.feed(event(both)) == event(both)
    assert meter.tokens == Tokens(3, 5)


def test_an_endless_event_is_an_error() -> None:
    with pytest.raises(ValueError, match="too long"):
        StreamMeter(keep_usage=True, max_event_bytes=10).feed(b"data: " + b"x" * 20)


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"prompt_tokens": "3"}, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"completion_tokens": 1}],
)
def test_usage_that_is_none(usage: Any) -> None:
    assert read_usage({"usage": usage}) is None


def test_estimates_say_so() -> None:
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "abcdefgh"}]}]}
    assert estimate(asked, 9) == Tokens(4, 3, True)


def test_the_oldest_tallies_are_forgotten() -> None:
    tallies = Tallies()
    tallies.of("first", 1).add(Tokens(1, 1))
    for number in range(MAX_ATTEMPTS):
        tallies.of("t", number)
    assert tallies.of("first", 1).calls == 0


def test_only_forbidden_fields_are_dropped() -> None:
    body = {"messages": [], "model": "m", "seed": 1, "store": True, "user": "u", "metadata": {}, "service_tier": "x"}
    assert read_request(json.dumps(body).encode()).body == {"messages": [], "model": "m", "seed": 1}
    stream = read_request(b'{"messages":[],"stream":true,"stream_options":{"x":1}}')
    assert stream.body["stream_options"] == {"x": 1, "include_usage": True}
    assert not stream.asked_for_usage


def test_settings_name_the_variable_that_is_wrong(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("secret\n")
    given = {"TIDEGATE_GATEWAY_UPSTREAM": "http://llm/v1/", "TIDEGATE_GATEWAY_KEY_FILE": str(tmp_path / "key")}
    loaded = Settings.load({**given, "TIDEGATE_GATEWAY_PORT": "99"})
    assert (loaded.upstream, loaded.key, loaded.port) == ("http://llm/v1", "secret", 99)
    assert "secret" not in repr(loaded)
    for wrong, name in (
        ({}, "UPSTREAM"),
        ({**given, "TIDEGATE_GATEWAY_KEY_FILE": "/nowhere"}, "KEY_FILE"),
        ({**given, "TIDEGATE_GATEWAY_PORT": "x"}, "PORT"),
    ):
        with pytest.raises(PermanentError, match=name):
            Settings.load(wrong)
