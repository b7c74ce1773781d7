"""The command `dsv4`, for the installed script and for `python -m dsv4`."""

from __future__ import annotations

import sys

from dsv4._parts import part


def main() -> int:
    """Run the command line; returns its exit status."""
    return part("app.cli").main()


if __name__ == "__main__":
    sys.exit(main())
