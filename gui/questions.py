"""Questions of which only the newest matters, such as the prediction for a slider in motion."""

from collections.abc import Callable

from featherweight.engine.requests import AnyRequest


class NewestQuestion:
    """Keeps at most one question under way, and of those that wait only the newest."""

    def __init__(self, send: Callable[[AnyRequest], int]) -> None:
        self._send = send
        self._under_way: int | None = None
        self._waiting: AnyRequest | None = None

    def ask(self, request: AnyRequest) -> None:
        """Send the question, or keep it until the one under way is answered."""
        if self._under_way is None:
            self._under_way = self._send(request)
        else:
            self._waiting = request

    def answered(self, identity: int) -> bool:
        """Note an answer and send what waits. False where the answer is not to this question."""
        if identity != self._under_way:
            return False
        self._under_way = None
        if self._waiting is not None:
            request, self._waiting = self._waiting, None
            self.ask(request)
        return True

    @property
    def pending(self) -> bool:
        """Whether an answer is awaited."""
        return self._under_way is not None

    def forget(self) -> None:
        """Await nothing any more: the engine died or another network is open."""
        self._under_way = None
        self._waiting = None
