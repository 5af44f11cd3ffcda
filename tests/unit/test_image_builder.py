"""What goes into an image decides its key, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.images import cli as images

DOCKERFILE = """\
ARG BASE=x
FROM ${BASE} AS build
COPY requirements.txt /src/
COPY --chown=1:1 package \\
     other.txt /src/
FROM ${BASE}
COPY --from=build /src /src
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "images/thing").mkdir(parents=True)
    (tmp_path / "images/thing/Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "requirements.txt").write_text("a==1\n")
    (tmp_path / "other.txt").write_text("o")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text("x = 1\n")
    monkeypatch.setattr(images, "ROOT", tmp_path)
    return tmp_path


def test_copied_sources_leave_out_other_stages_and_options() -> None:
    assert images.copied_sources(DOCKERFILE) == ("requirements.txt", "package", "other.txt")


def test_the_tag_is_the_projects_version(root: Path) -> None:
    assert images.read_image("thing", "base").tag == "localhost/tidegate/thing:1.2.3"


@pytest.mark.parametrize("path", ["package/module.py", "requirements.txt", "images/thing/Dockerfile"])
def test_an_edit_of_an_input_changes_the_key(root: Path, path: str) -> None:
    before = images.read_image("thing", "base").key
    with (root / path).open("a") as file:
        file.write("\n# more\n")
    assert images.read_image("thing", "base").key != before


def test_a_new_file_and_another_base_change_the_key(root: Path) -> None:
    before = images.read_image("thing", "base").key
    assert images.read_image("thing", "other base").key != before
    (root / "package/new.py").write_text("")
    assert images.read_image("thing", "base").key != before


def test_what_is_no_input_leaves_the_key(root: Path) -> None:
    before = images.read_image("thing", "base").key
    (root / "README.md").write_text("words")
    (root / "package/__pycache__").mkdir()
    (root / "package/__pycache__/module.pyc").write_bytes(b"code")
    (root / "package/module.py").touch()
    assert images.read_image("thing", "base").key == before


def test_the_context_holds_the_inputs_alone(root: Path, tmp_path: Path) -> None:
    (root / "secret.env").write_text("TOKEN=1")
    context = tmp_path / "context"
    context.mkdir()
    images.stage_context(images.read_image("thing", "base"), context)
    found = {str(p.relative_to(context)) for p in context.rglob("*") if p.is_file()}
    assert found == {"requirements.txt", "other.txt", "package/module.py"}


def test_a_missing_input_and_an_unknown_image_are_named(root: Path) -> None:
    (root / "other.txt").unlink()
    with pytest.raises(images.BuildError, match=r"other\.txt"):
        images.read_image("thing", "base")
    with pytest.raises(images.BuildError, match="nothing"):
        images.read_image("nothing", "base")


def test_pip_learns_this_machines_settings_in_a_mounted_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.org/simple")
    arguments = images.build_secrets(tmp_path)
    assert f"id=pip,src={tmp_path / 'pip.conf'}" in arguments
    assert "index-url = https://packages.example.org/simple" in (tmp_path / "pip.conf").read_text()


def test_every_dockerfile_names_only_files_that_are_there() -> None:
    for name in images.image_names():
        image = images.read_image(name, "base")
        assert image.key


def test_every_image_runs_as_a_user_without_rights() -> None:
    for name in images.image_names():
        lines = (images.ROOT / "images" / name / "Dockerfile").read_text().splitlines()
        last_stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
        assert "USER 1000:1000" in last_stage, name
