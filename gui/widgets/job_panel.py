"""How far a job is, how long it takes, and the buttons that stop it or let it go on."""

from dataclasses import dataclass

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from featherweight.gui import icons, theme
from featherweight.gui.widgets.text import ElidedLabel, label

STEPS = 1000


@dataclass(frozen=True)
class ButtonState:
    """Whether a button is there, whether it can be pressed, and what that does."""

    shown: bool = False
    enabled: bool = False
    tip: str = ""


@dataclass(frozen=True)
class JobState:
    """What is said of a job, in two lines. `share` is how much is done, None while unknown."""

    title: str
    stage: str
    detail: str
    left: str
    share: float | None
    pause: ButtonState
    resume: ButtonState
    finish: ButtonState
    cancel: ButtonState


class JobPanel(QWidget):
    """A title, a bar, two lines on what is done with the time left, and a row of buttons."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.title.setObjectName("job_title")
        self.title.setProperty("role", "heading")
        self.left = label("", "section")
        self.left.setObjectName("job_left")
        self.bar = QProgressBar()
        self.bar.setObjectName("job_progress")
        self.bar.setAccessibleName("Progress of the job")
        self.bar.setTextVisible(False)
        self.stage, self.detail = (_line(name) for name in ("job_stage", "job_detail"))
        self.pause_button = _button("pause_button", "Pause")
        self.resume_button = _button("resume_button", "Resume")
        self.resume_button.setProperty("role", "primary")
        self.finish_button = _button("finish_button", "Stop and keep")
        self.cancel_button = _button("cancel_button", "Cancel")
        far = QHBoxLayout()
        far.setSpacing(8)
        far.addWidget(self.detail, 1)
        far.addWidget(self.left)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        for button in (
            self.pause_button, self.resume_button, self.finish_button, self.cancel_button
        ):  # fmt: skip
            buttons.addWidget(button)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.title)
        column.addWidget(self.bar)
        said = QVBoxLayout()
        said.setSpacing(2)
        said.addWidget(self.stage)
        said.addLayout(far)
        column.addLayout(said)
        column.addLayout(buttons)
        self._dress()

    def show_state(self, state: JobState) -> None:
        """Say another thing."""
        self.title.setText(state.title)
        self.left.setText(state.left)
        self.left.setVisible(bool(state.left))
        self.stage.setText(state.stage)
        self.detail.setText(state.detail)
        self.bar.setMaximum(0 if state.share is None else STEPS)
        self.bar.setValue(round((state.share or 0.0) * STEPS))
        for button, look in (
            (self.pause_button, state.pause),
            (self.resume_button, state.resume),
            (self.finish_button, state.finish),
            (self.cancel_button, state.cancel),
        ):
            button.setVisible(look.shown)
            button.setEnabled(look.enabled)
            button.setToolTip(look.tip)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._dress()
        super().changeEvent(event)

    def _dress(self) -> None:
        self.resume_button.setIcon(icons.icon("resume", theme.colours().on_accent))


def _line(name: str) -> ElidedLabel:
    made = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
    made.setObjectName(name)
    made.setProperty("role", "muted")
    return made


def _button(name: str, text: str) -> QPushButton:
    made = QPushButton(text)
    made.setObjectName(name)
    return made
