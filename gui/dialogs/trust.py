"""The question whether code that comes with a file may run."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QListWidget, QVBoxLayout, QWidget

from featherweight.engine.events import TrustNeeded
from featherweight.gui.widgets.text import label


class TrustDialog(QDialog):
    """Names what would be allowed; accepted means allowed, and No is the default."""

    def __init__(self, needed: TrustNeeded, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Allow code to run?")
        self.setMinimumWidth(520)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(12)
        layout.addWidget(label("This file wants to run code", "heading"))
        layout.addWidget(label(needed.path, "muted", wrap=True))
        layout.addWidget(
            label(
                "Nothing of it has run yet. Opening the file needs these modules"
                f" ({needed.why.rstrip('.')}):",
                "plain",
                wrap=True,
            )
        )
        layout.addWidget(self._names(needed.names))
        layout.addWidget(
            label(
                "Code in a file can do whatever you can do on this machine. Allow it only if you"
                " trust where the file comes from.",
                "warning",
                wrap=True,
            )
        )
        layout.addWidget(self._buttons())
        # Only inside the dialog does a default hold; before, the box makes Allow the default.
        self.allow_button.setAutoDefault(False)
        self.refuse_button.setDefault(True)
        self.refuse_button.setFocus()

    def _names(self, modules: tuple[str, ...]) -> QListWidget:
        names = QListWidget()
        names.addItems(list(modules))
        names.setAccessibleName("Modules that would run")
        names.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        names.setMaximumHeight(24 + 26 * min(len(modules), 6))
        return names

    def _buttons(self) -> QDialogButtonBox:
        buttons = QDialogButtonBox()
        self.refuse_button = buttons.addButton(
            "Do not open", QDialogButtonBox.ButtonRole.RejectRole
        )
        self.allow_button = buttons.addButton(
            "Allow and open", QDialogButtonBox.ButtonRole.AcceptRole
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        return buttons
