"""`python -m vtnp` is the command `vtnp`."""

import sys

from vtnp.cli import main

if __name__ == "__main__":
    sys.exit(main())
