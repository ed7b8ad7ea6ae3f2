"""Writes a checkpoint of random weights: scripts/make_checkpoint SHAPE OUT [--seed N]."""

import argparse
import sys
from pathlib import Path

from edge.extras import missing

try:
    from export.checkpoint.random_checkpoint import write_checkpoint
    from export.checkpoint.random_shapes import SHAPES
    from export.errors import ExportError
except ModuleNotFoundError as error:
    sys.exit(f"make_checkpoint: {missing(error.name, need='scripts/make_checkpoint')}")


def main() -> int:
    """Parses the arguments and writes the folder; 1 and a line on stderr if it cannot be written."""
    parser = argparse.ArgumentParser(prog="scripts/make_checkpoint", description=__doc__)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("out", type=Path, help="the folder to create")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        write_checkpoint(arguments.out, SHAPES[arguments.shape], seed=arguments.seed)
    except (ExportError, OSError) as error:
        print(f"make_checkpoint: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
