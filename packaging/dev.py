"""Sets up this checkout and runs, tests or checks it. Needs nothing but Python 3.11.

python3 packaging/dev.py run [FILE]           open the demo (or FILE) in the window
python3 packaging/dev.py test [PYTEST ARGS]   all checks, then all tests
python3 packaging/dev.py check                format, lint, types, imports, rules
"""

from __future__ import annotations  # so that an old Python reaches the sentence that says so

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "featherweight-setup"
WINDOWS = sys.platform == "win32"
SCRIPTS = VENV / ("Scripts" if WINDOWS else "bin")
PYTHON = SCRIPTS / ("python.exe" if WINDOWS else "python")
LINKED_FOLDERS = ("engine", "gui", "resources")
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
)
# Files stay whole, because their tests share what was opened or trained for them.
SHARED_OUT = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
# What Qt's wheels load but do not bring, with the Debian package of each.
QT_LIBRARIES = {
    "libglib-2.0.so.0": "libglib2.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libxkbcommon.so.0": "libxkbcommon0",
}
X11_LIBRARIES = {
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
WAYLAND_LIBRARIES = {
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libwayland-egl.so.1": "libwayland-egl1",
}


class SetupError(Exception):
    """Why the checkout could not be set up, and the mend, in one or two sentences."""


def main() -> int:
    """Set up, then do the verb. Returns the exit status."""
    verbs = {"run": run, "test": test, "check": check}
    verb, arguments = sys.argv[1:2], sys.argv[2:]
    if not verb or verb[0] not in verbs:
        print(__doc__)
        return 0 if verb in (["-h"], ["--help"]) else 2
    try:
        if sys.version_info < (3, 11):
            raise SetupError("Featherweight needs Python 3.11 or newer; start this file with one.")
        set_up()
        return verbs[verb[0]](arguments)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def run(arguments: list[str]) -> int:
    """Open the window on the demo or a file; without a display do the same in the terminal."""
    if has_display():
        install_libraries(display=True)
        verb = ("window", *(arguments or ["--demo"]))
    else:
        print(
            "There is no display here (DISPLAY and WAYLAND_DISPLAY are empty): the terminal does."
        )
        print("For the window, run the same command on a desktop or through ssh -X.\n", flush=True)
        verb = ("inspect", *arguments) if arguments else ("demo",)
    return tool(PYTHON, "-m", "featherweight", *verb, folder=Path.cwd())


def check(arguments: list[str]) -> int:
    """Run every check, the rules among them, and name all that failed."""
    return run_checks((*CHECKS, ("pytest", "-q", "tests/rules", *arguments)))


def test(arguments: list[str]) -> int:
    """Run the checks; where they pass, run the tests, so that their summary is the last line.

    All of them are shared out among the cores; some that were asked for run in one process.
    """
    return run_checks(CHECKS) or pytest(*(arguments or SHARED_OUT))


def run_checks(checks: tuple[tuple[str, ...], ...]) -> int:
    """Run tools one after the other; returns 1 where one failed, having named it."""
    install_libraries(display=False)
    failed = []
    for command in checks:
        print(f"\n$ {' '.join(command)}", flush=True)
        status = pytest(*command[1:]) if command[0] == "pytest" else tool(*command)
        if status:
            failed.append(" ".join(command))
    if failed:
        print(f"\nFailed: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def pytest(*arguments: str) -> int:
    """Run pytest without a display, one thread for each of its processes."""
    settings = {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
    return tool("pytest", *arguments, settings=settings)


def tool(
    command: str | Path,
    *arguments: str,
    folder: Path = ROOT,
    settings: dict[str, str] | None = None,
) -> int:
    """Run a program of the virtual environment in a folder; returns its exit status."""
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV), **(settings or {})}
    return subprocess.run(
        [SCRIPTS / command, *arguments], cwd=folder, env=environment, check=False
    ).returncode


def set_up() -> None:
    """Make the virtual environment, install into it and make the link tree, as far as needed."""
    link_packages()
    made = wanted_state()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == made:
        return
    make_environment()
    print("Installing what Featherweight needs into .venv: minutes the first time.", flush=True)
    constraints = ROOT / "packaging" / "constraints.txt"
    project = f"{ROOT}[dev]"
    if tool(PYTHON, "-m", "pip", "install", "-q", "-c", str(constraints), "-e", project):
        raise SetupError("pip could not install the packages: see its message above.")
    site = subprocess.run(
        [PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(site) / "featherweight_dev.pth").write_text(f"{ROOT / '.dev'}\n", encoding="utf-8")
    STAMP.write_text(made)


def wanted_state() -> str:
    """Return what an installation depends on; another value means to install again."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("pyproject.toml", "packaging/constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def make_environment() -> None:
    """Make `.venv` where there is none that has a working pip."""
    if (
        PYTHON.exists()
        and not subprocess.run(
            [PYTHON, "-m", "pip", "--version"], check=False, capture_output=True
        ).returncode
    ):
        return
    if importlib.util.find_spec("ensurepip") is None:
        install_packages(["python3-venv"], "This Python cannot make virtual environments")
    if subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False).returncode:
        raise SetupError("The virtual environment .venv could not be made: see the message above.")


def link_packages() -> None:
    """Make `.dev/featherweight`, through which tools find the packages under their import name."""
    tree = ROOT / ".dev" / "featherweight"
    tree.mkdir(parents=True, exist_ok=True)
    own = [path for path in (ROOT / "packaging" / "featherweight").iterdir() if path.is_file()]
    sources = [*(ROOT / name for name in LINKED_FOLDERS), *own]
    for source in sources:
        link = tree / source.name
        if WINDOWS and source.is_file():
            shutil.copyfile(source, link)
        elif not link.exists():
            link.unlink(missing_ok=True)
            make_link(link, source)
    for stale in {path.name for path in tree.iterdir()} - {source.name for source in sources}:
        if stale != "__pycache__":
            (tree / stale).unlink()


def make_link(link: Path, source: Path) -> None:
    """Link to a file or folder; on Windows by a junction, which needs no rights."""
    if WINDOWS:
        subprocess.run(["cmd", "/c", "mklink", "/J", link, source], check=True, capture_output=True)
    else:
        link.symlink_to(os.path.relpath(source, link.parent))


def has_display() -> bool:
    """Whether a window can be shown."""
    return not sys.platform.startswith("linux") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def install_libraries(display: bool) -> None:
    """Install the shared libraries of Qt that are missing; those of the display where asked."""
    if not sys.platform.startswith("linux"):
        return
    needed = dict(QT_LIBRARIES)
    if display:
        needed |= WAYLAND_LIBRARIES if os.environ.get("WAYLAND_DISPLAY") else X11_LIBRARIES
    missing = [package for library, package in needed.items() if not loads(library)]
    if missing:
        install_packages(missing, "Qt lacks shared libraries")


def loads(library: str) -> bool:
    """Whether the system has the shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def install_packages(packages: list[str], why: str) -> None:
    """Install Debian packages as root; else raise SetupError with the command to run."""
    names = " ".join(packages)
    by_hand = f"{why}. Run: sudo apt-get update && sudo apt-get install -y {names}"
    if shutil.which("apt-get") is None:
        raise SetupError(f"{why}. Install what your system calls {names}.")
    if os.geteuid() != 0:
        raise SetupError(by_hand)
    print(f"{why}; installing {names}.", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SetupError(f"{done.stderr.strip()}\napt-get failed. {by_hand}")


if __name__ == "__main__":
    sys.exit(main())
