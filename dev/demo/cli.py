"""Command line of the demo: `python3 dev/demo/cli.py --help`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # run as a file, from anywhere: the package is found from the checkout's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)
    sys.dont_write_bytecode = True
    from dev.demo.commands import main

    sys.exit(main(sys.argv[1:]))
