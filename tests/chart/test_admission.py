"""Who may answer on a MergeJob, as the API server decides it with the chart's policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.chart import Object, rendered
from tests.support.cluster import Cluster, RefusedError, fresh_name, wait_until
from tests.support.valid import COMMIT, valid

pytestmark = pytest.mark.cluster

KINDS = ("ClusterRole", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
LANE = "mathkit-main-0123456789"


@dataclass
class Gatekeeper:
    """A namespace with a MergeJob, and people with the chart's roles in it."""

    cluster: Cluster
    release: str
    namespace: str

    def grant(self, user: str, role: str) -> None:
        meta = {"name": f"{user}-{role}", "namespace": self.namespace}
        self.cluster.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
            }
        )

    def job(self, user: str = "", **spec: Any) -> str:
        obj = {**valid("MergeJob", fresh_name("job"))}
        obj["spec"] |= spec
        flags = [f"--as={user}"] if user else []
        self.cluster.kubectl("create", "-n", self.namespace, *flags, "-f", "-", stdin=json.dumps(obj))
        return str(obj["metadata"]["name"])

    def answer(self, user: str, job: str, field: str, **words: Any) -> None:
        given = {"laneName": LANE, "sourceCommit": COMMIT, "by": user, **words}
        patch = json.dumps({"spec": {field: given}})
        self.patch(user, job, patch)

    def patch(self, user: str, job: str, patch: str) -> None:
        who = f"--as={user}"
        self.cluster.kubectl("patch", "mergejob", job, "-n", self.namespace, who, "--type=merge", "-p", patch)


@pytest.fixture(scope="module")
def gatekeeper(cluster: Cluster) -> Iterator[Gatekeeper]:
    release, namespace = fresh_name("tg"), fresh_name("answers")
    cluster.create_namespace(namespace)
    objects: list[Object] = [o for o in rendered({"namespaces": [namespace]}, release=release) if o["kind"] in KINDS]
    cluster.apply(*objects)
    keeper = Gatekeeper(cluster, f"{release}-tidegate", namespace)
    keeper.grant("ann", f"{keeper.release}-lander")
    keeper.grant("ann", f"{keeper.release}-bypass")
    keeper.grant("lena", f"{keeper.release}-lander")
    one_lane = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "other-lane", "namespace": namespace},
        "rules": [
            {"apiGroups": ["tidegate.dev"], "resources": ["mergejobs"], "verbs": ["patch", "get"]},
            {
                "apiGroups": ["tidegate.dev"],
                "resources": ["mergelanes"],
                "resourceNames": ["another-lane"],
                "verbs": ["land", "bypass"],
            },
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "other-lane", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "other-lane"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    cluster.apply(one_lane, binding)
    wait_until(lambda: all(_refuses(keeper, field) for field in WORDS), 60, "the policies")
    yield keeper
    for obj in objects:
        cluster.kubectl("delete", obj["kind"], obj["metadata"]["name"], "--wait=false")
    cluster.delete_namespace(namespace)


def _refuses(keeper: Gatekeeper, field: str) -> bool:
    """Whether the field's policy is in force: that takes a moment. A job that was answered once proves nothing more."""
    try:
        keeper.answer("bob", keeper.job(), field, **WORDS[field])
    except RefusedError as error:
        return "needs the verb" in str(error)
    return False


WORDS: dict[str, Object] = {"approval": {"decision": "Approved"}, "bypass": {"reason": "the gate is broken"}}


@pytest.mark.parametrize("field", WORDS)
def test_who_has_the_verb_answers_in_the_own_name_alone(gatekeeper: Gatekeeper, field: str) -> None:
    job = gatekeeper.job()
    with pytest.raises(RefusedError, match="must be your own user name: ann"):
        gatekeeper.answer("ann", job, field, **WORDS[field], by="carol")
    gatekeeper.answer("ann", job, field, **WORDS[field])
    found = gatekeeper.cluster.get("mergejob", job, gatekeeper.namespace)
    assert found["spec"][field]["by"] == "ann"


@pytest.mark.parametrize("field", WORDS)
def test_the_verb_is_asked_for_the_lane_that_is_named(gatekeeper: Gatekeeper, field: str) -> None:
    job = gatekeeper.job()
    with pytest.raises(RefusedError, match=f"on MergeLane {LANE}"):
        gatekeeper.answer("bob", job, field, **WORDS[field])
    gatekeeper.answer("bob", job, field, **WORDS[field], laneName="another-lane")


@pytest.mark.parametrize("field", WORDS)
def test_an_answer_can_not_be_smuggled_in_at_creation(gatekeeper: Gatekeeper, field: str) -> None:
    spec = {field: {**WORDS[field], "laneName": LANE, "sourceCommit": COMMIT, "by": "kubernetes-admin"}}
    with pytest.raises(RefusedError, match="must be your own user name: ann"):
        gatekeeper.job("ann", **spec)


def test_the_operators_account_has_no_say(gatekeeper: Gatekeeper) -> None:
    operator = f"system:serviceaccount:tidegate-system:{gatekeeper.release}"
    gatekeeper.grant("op", f"{gatekeeper.release}-namespace")
    for verb in ("land", "bypass"):
        with pytest.raises(RefusedError):
            gatekeeper.cluster.kubectl(
                "auth", "can-i", verb, f"mergelanes.tidegate.dev/{LANE}", "-n", gatekeeper.namespace, "--as=op"
            )
    for user in ("op", operator):
        job = gatekeeper.job()
        for field, words in WORDS.items():
            with pytest.raises(RefusedError):
                gatekeeper.answer(user, job, field, **words)


def test_other_changes_of_an_answered_job_need_no_verb(gatekeeper: Gatekeeper) -> None:
    job = gatekeeper.job()
    gatekeeper.answer("ann", job, "approval", decision="Approved")
    gatekeeper.patch("bob", job, '{"spec":{"desiredState":"Cancelled"}}')


def test_who_may_answer_may_not_bypass(gatekeeper: Gatekeeper) -> None:
    job = gatekeeper.job()
    with pytest.raises(RefusedError, match="needs the verb bypass"):
        gatekeeper.answer("lena", job, "bypass", reason="why not")


def test_a_bypass_is_not_rewritten(gatekeeper: Gatekeeper) -> None:
    job = gatekeeper.job()
    gatekeeper.answer("ann", job, "bypass", reason="the gate is broken")
    with pytest.raises(RefusedError, match="can't be changed or taken back"):
        gatekeeper.answer("ann", job, "bypass", reason="another one")
    with pytest.raises(RefusedError, match="can't be changed or taken back"):
        gatekeeper.patch("ann", job, '{"spec":{"bypass":null}}')


def test_an_answer_for_another_commit_is_refused(gatekeeper: Gatekeeper) -> None:
    job = gatekeeper.job()
    for field, words in WORDS.items():
        with pytest.raises(RefusedError, match="sourceCommit must be"):
            gatekeeper.answer("ann", job, field, **words, sourceCommit="f" * 40)
