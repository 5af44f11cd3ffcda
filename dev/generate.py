"""Write every generated file, or check with `--check` that each is what the code generates."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tidegate.api import crd

ROOT = Path(__file__).resolve().parent.parent
CHART_CRDS = ROOT / "charts" / "tidegate" / "templates" / "crds"
_META = "metadata:\n"
_ANNOTATIONS = """  {{- with include "tidegate.crdAnnotations" . }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
"""


def chart_template(text: str) -> str:
    """A resource definition as a template of the chart: installed when `crds.install`, with its annotations."""
    if "{{" in text:
        raise ValueError("the definition has text that Helm would take for a template")
    head, meta, rest = text.partition(f"\n{_META}")
    if not meta:
        raise ValueError("the definition has no metadata")
    comment, _, body = head.partition("\n")
    return f"{comment}\n{{{{- if .Values.crds.install }}}}\n{body}\n{_META}{_ANNOTATIONS}{rest}{{{{- end }}}}\n"


def main() -> int:
    """Write or check; exit code 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file would change")
    check: bool = parser.parse_args().check
    texts = crd.files()
    different = [
        str((directory / name).relative_to(ROOT))
        for directory, wanted in (
            (ROOT / "crds", texts),
            (CHART_CRDS, {name: chart_template(text) for name, text in texts.items()}),
        )
        for name in crd.write(directory, wanted, check=check)
    ]
    for path in different:
        print(("not as generated: " if check else "wrote ") + path)
    if check and different:
        print("run `make generate` and commit what it writes", file=sys.stderr)
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
