"""What will be read, what that takes, and the button that starts, pauses and goes on."""

from dataclasses import dataclass

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from featherweight.gui import icons, theme
from featherweight.gui.widgets.text import ElidedLabel

TIPS = {
    "Start": "Try every planned setting on every layer",
    "Pause": "Stop after the reading under way; everything read is kept",
    "Resume": "Go on where the sweep was paused",
    "Extend": "Read what the plan has more than was read; change the plan to read more",
    "Show": "Show the readings that are kept beside the project",
}
STEPS = 1000


@dataclass(frozen=True)
class SweepState:
    """What a sweep takes or how far it is, and what it reads; the word on the button.

    `share` is how much of a sweep under way is done.
    """

    text: str = ""
    planned: str = ""
    button: str = "Start"
    enabled: bool = False
    share: float | None = None


class SweepBar(QWidget):
    """Two lines and two buttons above the map of readings."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setProperty("role", "page")
        self.about = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.about.setObjectName("sweep_about")
        self.planned = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.planned.setObjectName("sweep_planned")
        self.planned.setProperty("role", "muted")
        self.progress = QProgressBar()
        self.progress.setObjectName("sweep_progress")
        self.progress.setAccessibleName("Progress of the sweep")
        self.progress.setTextVisible(False)
        self.progress.setMaximum(STEPS)
        self.progress.setFixedWidth(120)
        self.change_button = QPushButton("Change…")
        self.change_button.setObjectName("sweep_change_button")
        self.change_button.setToolTip("Choose methods, strengths and samples")
        self.start_button = QPushButton("Start")
        self.start_button.setObjectName("sweep_start_button")
        self.start_button.setProperty("role", "primary")
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 12, 8)
        row.setSpacing(8)
        lines = QVBoxLayout()
        lines.setSpacing(1)
        lines.addWidget(self.about)
        lines.addWidget(self.planned)
        row.addLayout(lines, 1)
        for piece in (self.progress, self.change_button, self.start_button):
            row.addWidget(piece)
        self.show_state(SweepState())

    def show_state(self, state: SweepState) -> None:
        """Say another thing."""
        self.about.setText(state.text)
        self.planned.setText(state.planned)
        self.start_button.setText(state.button)
        self.start_button.setToolTip(TIPS[state.button])
        self.start_button.setEnabled(state.enabled)
        self.change_button.setEnabled(state.share is None)
        self.progress.setVisible(state.share is not None)
        self.progress.setValue(round((state.share or 0.0) * STEPS))
        self._dress()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._dress()
        super().changeEvent(event)

    def _dress(self) -> None:
        word = self.start_button.text()
        icon = {"Pause": "pause", "Resume": "resume"}.get(word, "run")
        self.start_button.setIcon(icons.icon(icon, theme.colours().on_accent))
