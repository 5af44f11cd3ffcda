"""What several kinds share: the base model, names, references, repositories, resources, conditions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tidegate.api.review import MAX_MERGE_BASES

LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
COMMIT_PATTERN = r"^([0-9a-f]{40}|[0-9a-f]{64})$"
QUANTITY_PATTERN = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
# First character of a host is no dash: git would hand it to ssh as an option.
URL_PATTERN = r"^((https?|ssh)://[A-Za-z0-9\[][^/@\s\x00-\x1f\x7f?#]*/|file:///)[^\s\x00-\x1f\x7f?#]+$"


def rule(expression: str, message: str, **more: Any) -> dict[str, Any]:
    """One CEL rule; the message names the field and the cure. `more`: `fieldPath`, `reason`."""
    return {"rule": expression, "message": message, **more}


def immutable(field: str, cure: str, *, has: bool = True) -> dict[str, Any]:
    """A rule for the parent of `field`: it can't be changed, added or removed. `has=False`: it is always there."""
    same = f"self.{field} == oldSelf.{field}"
    expression = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same})" if has else same
    return rule(expression, f"{field} can't be changed: {cure}", fieldPath=f".{field}", reason="FieldValueForbidden")


def rules(*each: dict[str, Any]) -> dict[str, Any]:
    """`json_schema_extra` with CEL rules."""
    return {"x-kubernetes-validations": list(each)}


def map_list(*keys: str) -> dict[str, Any]:
    """`json_schema_extra` of a list that is merged by the given keys of its items."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


SET_LIST: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ATOMIC_LIST: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}


class ApiModel(BaseModel):
    """Base of all types: camelCase in JSON, unknown fields ignored so that newer objects can be read."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


LabelName = Annotated[str, Field(pattern=LABEL_PATTERN, min_length=1, max_length=63)]
ObjectName = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=253)]
ShortObjectName = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=63)]
Commit = Annotated[str, Field(pattern=COMMIT_PATTERN, max_length=64)]
StatusCommit = Annotated[str, Field(max_length=64)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Quantity = Annotated[
    str | int,
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN, "maxLength": 32}),
]
Priority = Annotated[int, Field(ge=1, le=10)]
GitUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        json_schema_extra=rules(
            rule(
                f"self.matches(r'{URL_PATTERN}')",
                "url must be https://HOST/PATH or ssh://HOST/PATH without a user part, query or fragment; "
                "credentials go into the Secret that credentialsSecretName names "
                "(http:// and file:// only where the operator's settings allow them)",
            )
        ),
    ),
]
Branch = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        json_schema_extra=rules(
            rule(
                r"self.matches(r'^[^\x00-\x20\x7f~^:?*\[\\./-][^\x00-\x20\x7f~^:?*\[\\]*$')"
                " && !self.contains('..') && !self.contains('//') && !self.contains('/.') && !self.contains('@{')"
                " && !self.endsWith('/') && !self.endsWith('.') && !self.endsWith('.lock')"
                " && !self.startsWith('refs/') && self != 'HEAD' && self != '@'",
                "targetBranch must be the name of a branch as git allows it, without refs/heads/: for example main or "
                "release/1.2",
            )
        ),
    ),
]
RelativePath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        json_schema_extra=rules(
            rule(
                r"!self.startsWith('/') && !self.matches(r'(^|/)\.\.(/|$)|[\x00-\x1f\x7f\\]')",
                "scope holds paths or globs relative to the repository's root: no leading /, no .., no backslash",
            )
        ),
    ),
]
ProtectedPath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        json_schema_extra=rules(
            rule(
                r"!self.startsWith('/') && !self.startsWith('!') && !self.matches(r'(^|/)\.\.(/|$)|[\x00-\x1f\x7f\\]')",
                "protectedPaths holds paths or globs relative to the repository's root: no leading / or !, no .., no "
                "backslash",
            )
        ),
    ),
]
AcceptanceLine = Annotated[str, Field(min_length=1, max_length=1024)]
CommandWord = Annotated[str, Field(max_length=8192)]
ImageName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$", min_length=1, max_length=512)]

PublishBranches = Literal["Never", "Always"]
Strategy = Literal["Rebase", "FastForward", "MergeCommit", "Squash"]
TaskRole = Literal["Planner", "Worker", "Tester", "Fixer", "Reviewer"]
Until = Literal["Merged", "Complete"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]


class Author(ApiModel):
    """Whose name stands on the commits."""

    name: str = Field(
        pattern=r"^[^<>\x00-\x1f\x7f]+$", min_length=1, max_length=128, description="Name of the commits' author."
    )
    email: str = Field(
        pattern=r"^[^<>\s\x00-\x1f\x7f]+@[^<>\s\x00-\x1f\x7f]+$",
        max_length=254,
        description="Email address of the commits' author.",
    )


class Remote(ApiModel):
    """A git repository and what is needed to reach it."""

    url: GitUrl = Field(description="https:// or ssh:// URL of the repository, without a user part.")
    credentials_secret_name: ObjectName | None = Field(
        default=None,
        description="Secret of this namespace, of type kubernetes.io/basic-auth or kubernetes.io/ssh-auth, with "
        "annotation tidegate.dev/git-url: the URL prefix that its credentials are for. Without a Secret git asks as "
        "anybody may.",
    )


class AuthoredRemote(Remote):
    """A git repository with the author of what Tidegate commits there."""

    author: Author | None = Field(default=None, description="Author of the commits; the operator's default otherwise.")


BRANCH_PREFIX_RULE = rule(
    r"self.startsWith('tidegate/') && self.endsWith('/') && !self.contains('..') && !self.contains('//')"
    r" && !self.contains('/.') && self.matches(r'^[A-Za-z0-9._/-]+$')",
    "branchPrefix must begin with tidegate/ and end with /: for example tidegate/ or tidegate/team-a/",
)


class Repository(AuthoredRemote):
    """The repository that a build or a task works on."""

    target_branch: Branch = Field(default="main", description="Branch that changes land in.")
    publish_branches: PublishBranches = Field(
        default="Never",
        description="Whether work is also pushed to ordinary branches, where the remote's CI sees it: Never or Always.",
    )
    branch_prefix: str = Field(
        default="tidegate/",
        min_length=1,
        max_length=100,
        description="Begin of the names of published branches; begins with tidegate/ and ends with /.",
        json_schema_extra=rules(BRANCH_PREFIX_RULE),
    )


class LocalRef(ApiModel):
    """An object of this namespace."""

    name: ShortObjectName = Field(description="Name of the object.")


REF_PATTERN = r"^refs/[A-Za-z0-9_][A-Za-z0-9._/+@=-]*$"
ReviewSize = Annotated[int, Field(ge=1000, le=1_000_000)]
MergeBases = Annotated[list[Commit], Field(max_length=MAX_MERGE_BASES, json_schema_extra=SET_LIST)]
RefName = Annotated[str, Field(min_length=6, max_length=256, pattern=REF_PATTERN)]


class TaskRef(ApiModel):
    """One AgentTask of this namespace, and no other of the same name."""

    name: ShortObjectName = Field(description="Name of the AgentTask.")
    uid: str = Field(pattern=r"^[-A-Za-z0-9]+$", min_length=1, max_length=64, description="UID of the AgentTask.")


class EnvVar(ApiModel):
    """An environment variable with a plain value."""

    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        min_length=1,
        max_length=128,
        description="Name of the variable; names that begin with TIDEGATE_ are Tidegate's.",
        json_schema_extra=rules(
            rule(
                "!self.startsWith('TIDEGATE_')",
                "env name must not begin with TIDEGATE_: those are set by Tidegate; choose another name",
            )
        ),
    )
    value: str = Field(default="", max_length=4096, description="Value; $(NAME) is not expanded.")


def _short_keys(most: int) -> dict[str, Any]:
    return rule(f"self.all(k, size(k) <= {most})", f"keys may have at most {most} characters: shorten them")


EnvList = Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=map_list("name"))]
Command = Annotated[list[CommandWord], Field(max_length=64, json_schema_extra=ATOMIC_LIST)]


def text_size(of: str, *fields: str) -> str:
    """CEL: the characters in these lists of an object, all together; `env` is counted with its names."""
    item = {"env": "size(i.name) + (has(i.value) ? size(i.value) : 0)"}
    return " + ".join(f"(has({of}.{f}) ? {of}.{f}.map(i, {item.get(f, 'size(i)')}).sum() : 0)" for f in fields)


QuantityMap = Annotated[dict[str, Quantity], Field(max_length=4, json_schema_extra=rules(_short_keys(63)))]


class Resources(ApiModel):
    """Requests and limits of a container, as in a Pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || "
                "quantity(string(self.limits[k])).compareTo(quantity(string(self.requests[k]))) >= 0)",
                "resources.requests must not be above resources.limits: raise the limit or lower the request",
            )
        )
    )

    requests: QuantityMap | None = Field(
        default=None, description="What the scheduler sets aside, for example cpu, memory, ephemeral-storage."
    )
    limits: QuantityMap | None = Field(default=None, description="What the container can't exceed.")


LabelMap = Annotated[
    dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=3, json_schema_extra=rules(_short_keys(63)))
]


class Selector(ApiModel):
    """Selects by labels; an empty one selects all."""

    match_labels: LabelMap | None = Field(default=None, description="Labels that must all be there.")


class Port(ApiModel):
    """A port of a network peer."""

    port: int = Field(ge=1, le=65535, description="Port number.")
    protocol: Literal["TCP", "UDP"] = Field(default="TCP", description="TCP or UDP.")


class Egress(ApiModel):
    """A network peer that Pods may reach: an address range, or Pods by labels."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.cidr) != (has(self.namespaceSelector) || has(self.podSelector))",
                "egress must have either cidr or selectors (namespaceSelector, podSelector): set one of the two",
            )
        )
    )

    cidr: str | None = Field(
        default=None,
        max_length=64,
        description="Address range, for example 192.0.2.0/24.",
        json_schema_extra=rules(
            rule("isCIDR(self)", "cidr must be an address range in CIDR form: for example 192.0.2.0/24")
        ),
    )
    namespace_selector: Selector | None = Field(
        default=None, description="Namespaces by labels; without podSelector all Pods there."
    )
    pod_selector: Selector | None = Field(
        default=None, description="Pods by labels; without namespaceSelector those of the Pod's own namespace."
    )
    ports: list[Port] = Field(
        default=[], max_length=4, description="Ports; all when empty.", json_schema_extra=ATOMIC_LIST
    )


EgressList = Annotated[list[Egress], Field(max_length=4, json_schema_extra=ATOMIC_LIST)]
NamespaceList = Annotated[list[LabelName], Field(max_length=256, json_schema_extra=SET_LIST)]


class Condition(ApiModel):
    """One aspect of the object's state, as in metav1.Condition."""

    type: str = Field(min_length=1, max_length=64, description="What the condition is about, for example Succeeded.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(min_length=1, max_length=64, description="Why, in one CamelCase word.")
    message: str = Field(default="", max_length=1024, description="Why, for people.")
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: int = Field(default=0, ge=0, description="The metadata.generation that this is about.")


ConditionList = Annotated[list[Condition], Field(max_length=16, json_schema_extra=map_list("type"))]


class Status(ApiModel):
    """What every status has."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that the operator has acted on."
    )
    conditions: ConditionList = Field(default=[], description="The state, aspect by aspect.")


class OwnGates(ApiModel):
    """Gates that a task's change must pass on its own branch before the task is complete."""

    profile_name: ShortObjectName = Field(
        description="GateProfile that is run on the commit of an attempt that ended well; gates that are services "
        "or reviews are left to the lane."
    )
    max_continuations: int = Field(
        default=2,
        ge=0,
        le=5,
        description="How often the agent goes on from its work with what failed, before the task fails.",
    )


class Usage(ApiModel):
    """What was spent on models, as the gateway counted it."""

    tokens_in: int = Field(default=0, ge=0, description="Prompt tokens.")
    tokens_out: int = Field(default=0, ge=0, description="Completion tokens.")
    model_calls: int = Field(default=0, ge=0, description="Requests to a model.")
