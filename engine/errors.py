"""What can go wrong in a way that a person can mend, and the two ways a job ends early."""

import re

# What code that is not ours may raise while it runs for us: anything at all.
USER_CODE_ERRORS = (Exception, SystemExit)

# What torch raises where it meets a network, or inputs of it, that it cannot follow.
CAPTURE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

# What libraries say of damaged files, and what that means to somebody who has never seen them.
_MEANINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (
            "MemoryError|allocate|overflow computing|too large|out of memory",
            "it tells of more data than it can hold",
        ),
        (
            r"EOF\b|exhausted|more bytes|bytes in a|not enough data|hasRecord|record size"
            r"|wrong byte|not fully covered|header length|cannot reshape|Truncated",
            "a part of it is missing",
        ),
        ("not a zip", "it is no zip archive"),
        (r"bad CRC|magic number", "its bytes are not as they were written"),
        ("pickle", "it holds Python objects"),
        ("name too long", "it names a file that cannot exist"),
        ("recursion", "its parts lie too deep in each other"),
    )
)
_OWN_WORDS = re.compile("its? ")
_RAW = re.compile(
    r"'?\w*'?$|\W*[A-Z]\w+(Error|Exception)\b|.*(object has no attribute|codec can't)"
)
_KINDS = {
    "object": "named fields",
    "array": "a list",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "nothing",
}
_FIELD = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<at>.*)`)?$", re.DOTALL)
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def plain_reason(error: BaseException) -> str:
    """Return why a file cannot be read, as words that go on after a colon, without a full stop.

    What our own code says (`it …`, `its …`) stays as it is; what a library says is said by its
    meaning, for it speaks to programmers.
    """
    told = (str(error).strip().splitlines() or [""])[0].rstrip(". ")
    if _OWN_WORDS.match(told):
        return told[:200]
    known = f"{type(error).__name__}: {told}"
    fitting = (words for pattern, words in _MEANINGS if pattern.search(known))
    return next(fitting, "its content makes no sense")


def running_reason(error: BaseException) -> str:
    """Return why a network or a library's function does not run: what it said, where it tells."""
    told = (str(error).strip().splitlines() or [""])[0].rstrip(". ")
    return "a part of it is not what it has to be" if _RAW.match(told) else told[:200]


def field_mistake(error: Exception) -> tuple[str, str]:
    """Return the field that msgspec refuses, as `recovery.epochs`, and what is wrong with it."""
    found = _FIELD.match(str(error))
    what, place = (found["what"], found["at"] or "") if found else (str(error), "")
    what = what.removeprefix("Object ").replace("contains unknown field", "has an unknown field")
    what = what.replace("missing required field", "lacks the field")
    if wrong := re.match("Invalid enum value (.*)", what):
        return place, f"{wrong[1]} is none of the values that it may have"
    if sides := re.match(r"Expected `([^`]*)`( [<>]=? \S+)?(?:, got `(.*)`)?$", what):
        wanted = " or ".join(dict.fromkeys(_kind(kind) for kind in sides[1].split(" | ")))
        bound = (sides[2] or "").split()
        limit = f" of {_BOUNDS[bound[0]]} {bound[1]}" if bound else ""
        got = f", not {_kind(sides[3])}" if sides[3] else ""
        return place, f"it has to be {wanted}{limit}{got}"
    what = what[:1].lower() + what[1:].replace("`", "")
    return place, f"it {what}" if what.startswith(("has ", "lacks ")) else what


def _kind(name: str) -> str:
    return _KINDS.get(name, name)


class UserError(Exception):
    """Something the person can mend: one sentence that says what and where, and one that says how.

    `message` names the file and the place; `hint` is the mend, empty where there is none.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class TrustNeededError(UserError):
    """A file asks for code that nobody has allowed yet. `names` are the modules to allow."""

    def __init__(self, path: str, names: tuple[str, ...], why: str) -> None:
        super().__init__(
            f"{path} needs code that you have not allowed: {', '.join(names)} ({why}).",
            "Allow it only if you trust where the file comes from: "
            + " ".join(f"--trust {name}" for name in names)
            + ".",
        )
        self.path = path
        self.names = names
        self.why = why


class CancelledError(Exception):
    """A job was asked to stop and did."""
