"""The cache against a model of the API server: events in any order, late, twice or never; own writes; comparisons."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidegate.clients.resources import resource_of
from tidegate.runtime.cache import Cache
from tidegate.runtime.keys import Key
from tidegate.runtime.kinds import Kind, watched_kinds

NAMES = ["a", "b", "c"]
STATES = ["Pending", "Running", "Complete"]
KINDS = {"AgentTask": watched_kinds()["AgentTask"]}


def key_of(name: str) -> Key:
    return Key("AgentTask", "ns", name)


class CacheMachine(RuleBasedStateMachine):
    """`server` is the truth; `events` were sent by it and may arrive in any order across objects, or be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 10
        self.serial = 0
        self.server: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.lossy = False
        self.cache = Cache(KINDS)
        self.cache.add_index("AgentTask", "state", lambda view: [view.state])
        self.heard: dict[Key, Any] = {}
        self.cache.add_listener("AgentTask", self._hear)

    def _hear(self, key: Key, old: Any, new: Any) -> None:
        assert self.heard.get(key) == old, "listeners hear a chain without gaps"
        assert old is not None or new is not None
        if old is not None and new is not None:
            assert new.meta.resource_version > old.meta.resource_version
        self.heard[key] = new

    def _next(self) -> str:
        self.version += 1
        return str(self.version)

    def _object(self, name: str, uid: str, state: str) -> dict[str, Any]:
        meta = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": self._next()}
        return {"metadata": meta, "spec": {"prompt": "x"}, "status": {"state": state}}

    @rule(name=st.sampled_from(NAMES), state=st.sampled_from(STATES), own=st.booleans())
    def write(self, name: str, state: str, own: bool) -> None:
        old = self.server.get(name)
        if old is None:
            self.serial += 1
        uid = old["metadata"]["uid"] if old else f"uid-{self.serial}"
        obj = self._object(name, uid, state)
        self.server[name] = obj
        self.events.append(("MODIFIED" if old else "ADDED", obj))
        if own:
            self.cache.offer("AgentTask", obj)

    @rule(name=st.sampled_from(NAMES), live_get=st.booleans())
    def delete(self, name: str, live_get: bool) -> None:
        old = self.server.pop(name, None)
        if old is None:
            return
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": self._next()}}
        self.events.append(("DELETED", last))
        if live_get:
            self.cache.remove(key_of(name), old["metadata"]["uid"], 0)

    @precondition(lambda self: self.events)
    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: Any, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.events) - 1))
        kind, obj = self.events[index]
        if not keep:
            self.events.pop(index)
        meta = obj["metadata"]
        if kind == "DELETED":
            self.cache.remove(key_of(meta["name"]), meta["uid"], int(meta["resourceVersion"]))
        else:
            self.cache.offer("AgentTask", obj)

    @precondition(lambda self: self.events)
    @rule()
    def lose(self) -> None:
        self.events.clear()
        self.lossy = True

    @rule()
    def compare(self) -> None:
        """A list at the present version, then everything in it offered: the cache equals the server."""
        present = {("ns", name, obj["metadata"]["uid"]) for name, obj in self.server.items()}
        self.cache.reconcile_list("AgentTask", "ns", present, self.version)
        for obj in self.server.values():
            self.cache.offer("AgentTask", obj)
        self.lossy = False
        assert {view.meta.name: view.meta.resource_version for view in self.cache.all("AgentTask")} == {
            name: int(obj["metadata"]["resourceVersion"]) for name, obj in self.server.items()
        }

    @rule()
    def deliver_all(self) -> None:
        """Without losses, delivering each pending event (in any order) brings the cache in step."""
        for kind, obj in reversed(self.events):
            meta = obj["metadata"]
            if kind == "DELETED":
                self.cache.remove(key_of(meta["name"]), meta["uid"], int(meta["resourceVersion"]))
            else:
                self.cache.offer("AgentTask", obj)
        self.events.clear()
        if not self.lossy:
            assert {view.meta.uid for view in self.cache.all("AgentTask")} == {
                obj["metadata"]["uid"] for obj in self.server.values()
            }

    @invariant()
    def never_ahead_of_the_server(self) -> None:
        for view in self.cache.all("AgentTask"):
            assert view.meta.resource_version <= self.version

    @invariant()
    def the_index_fits(self) -> None:
        by_state = {state: {v.meta.name for v in self.cache.indexed("AgentTask", "state", state)} for state in STATES}
        for state in STATES:
            assert by_state[state] == {v.meta.name for v in self.cache.all("AgentTask") if v.state == state}

    @invariant()
    def the_listener_heard_it_all(self) -> None:
        assert {k: v for k, v in self.heard.items() if v is not None} == {
            key_of(view.meta.name): view for view in self.cache.all("AgentTask")
        }


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCache = CacheMachine.TestCase


def test_an_index_added_late_holds_what_was_there() -> None:
    cache = Cache({"AgentTask": Kind(resource_of("AgentTask"), KINDS["AgentTask"].view)})
    meta = {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "5"}
    assert cache.offer("AgentTask", {"metadata": meta, "status": {"state": "Running"}})
    cache.add_index("AgentTask", "state", lambda view: [view.state])
    assert [view.meta.name for view in cache.indexed("AgentTask", "state", "Running")] == ["a"]


def test_a_failing_listener_doesnt_blind_the_next() -> None:
    cache = Cache(KINDS)
    heard: list[Key] = []

    def fail(_key: Key, _old: Any, _new: Any) -> None:
        raise ValueError("broken")

    cache.add_listener("AgentTask", fail)
    cache.add_listener("AgentTask", lambda key, _old, _new: heard.append(key))
    cache.offer("AgentTask", {"metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "5"}})
    assert heard == [key_of("a")]
