"""`python -m featherweight`: the window without arguments, the command line with them."""

from featherweight.engine.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
