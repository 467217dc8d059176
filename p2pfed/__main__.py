"""`python -m p2pfed` is the command line."""

import sys

from p2pfed.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
