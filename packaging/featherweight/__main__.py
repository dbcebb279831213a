"""`featherweight` and `python -m featherweight`: the window, or a verb of the command line."""

import sys


def main() -> int:
    """Open the window without arguments or for `window …`; give all else to the command line."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] == "window":
        from featherweight.gui.app import main as open_window

        return open_window(arguments[1:])
    from featherweight.engine.command_line import main as run_verb

    return run_verb(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
