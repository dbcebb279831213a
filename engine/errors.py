"""What can go wrong in a way that a person can mend, and the two ways a job ends early."""

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
