"""Exporting a network: where to, in which form, and what was checked of the file."""

from pathlib import Path
from typing import Literal

import msgspec
from PySide6.QtCore import QSignalBlocker, Qt
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.events import IntegerOptions
from featherweight.engine.options import Scalar, describe
from featherweight.engine.results import Export
from featherweight.gui import wording
from featherweight.gui.document import Document
from featherweight.gui.widgets.figure_table import FigureTable
from featherweight.gui.widgets.option_form import OptionForm
from featherweight.gui.widgets.panel import Panel, Section
from featherweight.gui.widgets.plain_table import PlainTable
from featherweight.gui.widgets.text import ElidedLabel, label

Form = Literal["onnx", "onnx16", "pt2", "safetensors", "archive"]
FORMS: tuple[tuple[Form, str, str, str], ...] = (
    (
        "onnx",
        "ONNX",
        ".onnx",
        "Opens in ONNX Runtime and most other runtimes. It is loaded there and compared with the"
        " network: relative error, label agreement, file size, and latency in one interleaved run"
        " with the uncompressed export.",
    ),
    (
        "onnx16",
        "ONNX in half precision",
        ".onnx",
        "Weights and arithmetic in float16, for graphics cards and accelerators. It is compared"
        " and timed like the other; the processor may be slower with it.",
    ),
    (
        "pt2",
        "PyTorch exported program",
        ".pt2",
        "Opens with torch.export.load. It is loaded again and its outputs are compared.",
    ),
    (
        "safetensors",
        "safetensors with Python source",
        ".safetensors",
        "Weights, and beside them a Python file that rebuilds the network with plain PyTorch. It is"
        " run with the written weights and its outputs are compared.",
    ),
    (
        "archive",
        "Featherweight archive",
        ".fwz",
        "The smallest file: weights stay coded. Its size equals the ledger to the byte, and it is"
        " opened again to the same outputs, bit for bit.",
    ),
)
# A Python file of the same name is written beside it, where the network has a graph.
SOURCED = ".safetensors"
WEIGHTS_ONLY = (
    "safetensors, weights only (.safetensors)",
    "Weights under the names of the network's own state dict, for your own code to load. They are"
    " loaded into the network again and its outputs are compared.",
)


class ExportDialog(QDialog):
    """Asks, waits for the engine, and shows what it checked. Opened with open()."""

    def __init__(self, document: Document, archive: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._archive = archive
        self._lock = document.network.graph_lock if document.network else ""
        self._forms = document.network.forms if document.network else ()
        names = (one.name for one in document.results if archive and one.archive == archive)
        self._result = next(names, "")
        stem = f"{Path(document.name).stem} {self._result}".strip()
        self._stem = stem.replace("/", "-").replace(":", "-")
        self._waiting = False
        self._integers = IntegerOptions()
        self.setWindowTitle("Export")
        self.setObjectName("export_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.pages = QStackedWidget()
        self.pages.addWidget(self._build_question())
        self.pages.addWidget(self._build_summary())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(16)
        layout.addWidget(self.pages, 1)
        layout.addLayout(self._build_buttons())
        self.resize(560, 300)
        document.exported.connect(self._on_exported)
        document.job_changed.connect(self._on_job_changed)
        document.noticed.connect(self._on_noticed)
        self._on_form_changed()

    def _build_question(self) -> QWidget:
        self.form = QComboBox()
        self.form.setObjectName("export_format")
        self.form.setAccessibleName("Format")
        for name, title, suffix, _ in FORMS:
            self.form.addItem(f"{title} ({suffix})", name)
        self._lock_forms()
        self.path = QLineEdit()
        self.path.setObjectName("export_path")
        self.path.setAccessibleName("File")
        self.browse_button = QPushButton("Browse…")
        self.browse_button.setObjectName("export_browse_button")
        self.browse_button.setToolTip("Choose the file with a file dialog")
        self.about = label("", "muted", wrap=True)
        self.locked = label("", "muted", wrap=True)
        self.locked.setObjectName("export_locked")
        reason = self._lock.rstrip(".")
        self.locked.setText(f"The other formats need a graph, and here is none: {reason}.")
        self.locked.setVisible(bool(self._lock))
        self.integers = OptionForm("export_option")
        self.integers.show_options(describe(IntegerOptions))
        self.integers.changed.connect(self._on_option_changed)
        self.problem = label("", "warning", wrap=True)
        self.problem.setObjectName("export_problem")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximum(0)
        self.bar.hide()
        self.stage = label("", "muted")
        question = QWidget()
        grid = QGridLayout(question)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(10)
        grid.setColumnStretch(1, 1)
        lines: tuple[tuple[str, QWidget], ...] = (("Format", self.form), ("File", self.path))
        for row, (text, control) in enumerate(lines):
            title_label = label(text, "muted")
            title_label.setBuddy(control)
            grid.addWidget(title_label, row, 0)
            grid.addWidget(control, row, 1)
        grid.addWidget(self.browse_button, 1, 2)
        pieces = (self.about, self.locked, self.integers, self.problem, self.bar, self.stage)
        for row, piece in enumerate(pieces, 2):
            grid.addWidget(piece, row, 1, 1, 2)
        grid.setRowStretch(2 + len(pieces), 1)
        self.form.currentIndexChanged.connect(self._on_form_changed)
        self.browse_button.clicked.connect(self._on_browse)
        self.path.textChanged.connect(self._on_path_changed)
        return question

    def _lock_forms(self) -> None:
        """Grey the formats that a network without a graph cannot have, with the reason."""
        items = self.form.model()
        if not self._lock or not isinstance(items, QStandardItemModel):
            return
        for row, (name, *_) in enumerate(FORMS):
            if name not in self._forms:
                items.item(row).setEnabled(False)
                items.item(row).setToolTip(f"This network has no graph: {self._lock}")
        self.form.setItemText(self.form.findData("safetensors"), WEIGHTS_ONLY[0])
        self.form.setCurrentIndex(self.form.findData(next(iter(self._forms), "safetensors")))

    def _build_summary(self) -> QWidget:
        self.summary = Panel("What was checked of the file")
        self.summary.setObjectName("export_summary")
        self.where = ElidedLabel()
        self.where.setProperty("role", "section")
        self.checks = FigureTable(("", "Uncompressed", "Exported", "Change"))
        self.notes = label("", "muted", wrap=True)
        self.shares = PlainTable(("Layer", "Bytes", "Share of the file"))
        self.shares.setObjectName("export_shares")
        self.shares.setAccessibleName("Bytes of the file by layer")
        self.shares.setMinimumHeight(180)
        checked = Section("Checked", line=False)
        checked.body.addWidget(self.where)
        checked.body.addWidget(self.checks)
        checked.body.addWidget(self.notes)
        self.shares_section = Section("Where the bytes are")
        self.shares_section.body.addWidget(self.shares)
        self.summary.add(checked)
        self.summary.add(self.shares_section)
        return self.summary

    def _build_buttons(self) -> QHBoxLayout:
        self.close_button = QPushButton("Cancel")
        self.close_button.setObjectName("export_close_button")
        self.close_button.setAutoDefault(False)
        self.export_button = QPushButton("Export")
        self.export_button.setObjectName("export_start_button")
        self.export_button.setProperty("role", "primary")
        self.export_button.setDefault(True)
        self.close_button.clicked.connect(self.reject)
        self.export_button.clicked.connect(self._on_export)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addStretch(1)
        row.addWidget(self.close_button)
        row.addWidget(self.export_button)
        return row

    def reject(self) -> None:
        if self._waiting:
            self._document.cancel()
        super().reject()

    def _on_form_changed(self) -> None:
        form, _, suffix, about = FORMS[self.form.currentIndex()]
        task = self._document.task
        self.integers.setVisible(form == "onnx" and task is not None and bool(task.source.data))
        bare = bool(self._lock) and suffix == SOURCED
        self.about.setText(WEIGHTS_ONLY[1] if bare else about)
        path = Path(self.path.text()) if self.path.text() else Path.home() / self._stem
        known = {form[2] for form in FORMS}
        stem = path.with_suffix("") if path.suffix in known else path
        with QSignalBlocker(self.path):
            self.path.setText(str(stem.with_name(stem.name + suffix)))
        self._on_path_changed()

    @property
    def _target(self) -> Path:
        """The file to write, with the ending of its format."""
        path = Path(self.path.text().strip()).expanduser()
        suffix = FORMS[self.form.currentIndex()][2]
        return path if path.suffix == suffix else path.with_name(path.name + suffix)

    def _on_path_changed(self) -> None:
        problem = self._find_problem()
        replaced = "" if problem else self._find_replaced()
        self.problem.setText(problem or replaced)
        self.problem.setVisible(bool(problem or replaced))
        self.export_button.setText("Replace" if replaced else "Export")
        self.export_button.setEnabled(not problem and not self._waiting)

    def _find_problem(self) -> str:
        path = Path(self.path.text().strip()).expanduser()
        suffix = FORMS[self.form.currentIndex()][2]
        folder = self._document.results_folder
        if self._archive and not (folder / self._archive).is_file():
            return (
                f"The archive of {self._result or self._archive} is not in {folder} any more."
                " Restore its recipe and compress again."
            )
        if not path.name:
            return "Name a file."
        if path.is_dir():
            return f"{path} is a folder; name a file in it."
        if path.suffix != suffix and path.suffix in {form[2] for form in FORMS}:
            return f"{path.suffix} is the ending of another format; this one ends in {suffix}."
        if not path.parent.is_dir():
            return f"The folder {path.parent} does not exist."
        if not (self._waiting or self._document.idle):
            return "A run is going; export when it has ended."
        return ""

    def _find_replaced(self) -> str:
        target = self._target
        sourced = target.suffix == SOURCED and not self._lock
        files = (target, target.with_suffix(".py")) if sourced else (target,)
        names = [file.name for file in files if file.exists()]
        if self._waiting or not names:
            return ""
        return f"{' and '.join(names)} in {target.parent} will be replaced."

    def _on_browse(self) -> None:
        dialog = QFileDialog(self, "Export to", self.path.text())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.selectFile(Path(self.path.text()).name)
        dialog.fileSelected.connect(self.path.setText)
        dialog.open()

    def _on_export(self) -> None:
        form = FORMS[self.form.currentIndex()][0]
        target = self._target
        self.path.setText(str(target))
        self._set_waiting(True)
        self._document.export(self._archive, form, target, self._integers)

    def _on_option_changed(self, name: str, value: Scalar) -> None:
        self._integers = msgspec.structs.replace(self._integers, **{name: value})

    def _set_waiting(self, waiting: bool) -> None:
        self._waiting = waiting
        self.bar.setVisible(waiting)
        self.stage.setText("")
        for control in (self.form, self.path, self.browse_button, self.integers):
            control.setEnabled(not waiting)
        self._on_path_changed()

    def _on_job_changed(self) -> None:
        job = self._document.job
        if not self._waiting or job is None or job.kind != "export":
            return
        if job.active:
            self.bar.setMaximum(job.steps)
            self.bar.setValue(job.step)
            self.stage.setText(job.stage)
        elif job.state != "done":
            self._set_waiting(False)

    def _on_noticed(self, sentence: str, hint: str) -> None:
        job = self._document.job
        broken = job is not None and job.kind == "export" and not job.active and job.state != "done"
        if broken and self.pages.currentIndex() == 0:
            self.problem.setText(f"{sentence} {hint}".strip())
            self.problem.show()

    def _on_exported(self, export: Export) -> None:
        if not self._waiting:
            return
        self._set_waiting(False)
        self.where.setText(export.path)
        self.checks.show_figures(export.checks)
        self.notes.setText("\n".join(export.notes))
        self.notes.setVisible(bool(export.notes))
        whole = export.checks["bytes"].value if "bytes" in export.checks else 0.0
        whole = whole or sum(share.bytes for share in export.shares) or 1.0
        self.shares.show_lines(
            [
                [
                    (share.layer, share.layer),
                    (share.bytes, wording.size(share.bytes)),
                    (share.bytes, wording.percent(share.bytes / whole)),
                ]
                for share in export.shares
            ],
            by=1,
        )
        self.shares_section.setVisible(bool(export.shares))
        self.pages.setCurrentWidget(self.summary)
        self.export_button.hide()
        self.close_button.setText("Close")
        self.resize(max(self.width(), 600), 700)
