"""The images that `make images` builds."""

from __future__ import annotations

from tidegate import __version__


def image(name: str) -> str:
    """The name of one of the project's images, as loaded into the cluster under test."""
    return f"localhost/tidegate/{name}:{__version__}"
