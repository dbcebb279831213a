"""Which methods, strengths and samples a sweep reads, and what that takes."""

from collections.abc import Iterator

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLineEdit,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.options import SLOTS, describe
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice
from featherweight.gui import wording
from featherweight.gui.atlas_readings import ChoiceKey, key_of
from featherweight.gui.document import Document
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.item_models.sweep_families import SweepFamilies, choice_of, strengths_of
from featherweight.gui.item_models.sweep_words import estimate_words
from featherweight.gui.widgets.option_form import OptionForm
from featherweight.gui.widgets.text import label

CHOICE = Qt.ItemDataRole.UserRole
ASKED_MS = 250
OTHERS = "Combinations and others"


class SweepDialog(QDialog):
    """Changes what the atlas plans to read; what it takes is told at once. Opened with open()."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._before = document.atlas.plan or SweepPlan(choices=())
        self._samples = self._before.samples
        self.setWindowTitle("What a sweep reads")
        self.setObjectName("sweep_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._later = QTimer(self, singleShot=True, interval=ASKED_MS)
        self._later.timeout.connect(lambda: document.atlas.ask(self.plan))
        self._build()
        self._fill()
        self.tree.itemChanged.connect(self._on_changed)
        self.selected_box.toggled.connect(self._on_changed)
        self.latency_box.toggled.connect(self._on_changed)
        document.atlas.planned.connect(self._show_estimate)
        self.finished.connect(self._on_finished)
        self._show_estimate()
        self.resize(520, 560)

    @property
    def plan(self) -> SweepPlan:
        """What is ticked."""
        ticked = (
            leaf.data(0, CHOICE)
            for leaf in self._leaves()
            if leaf.checkState(0) == Qt.CheckState.Checked
        )
        return SweepPlan(
            choices=tuple(ticked),
            layers=self._layers if self.selected_box.isChecked() else (),
            samples=self._samples,
            latency=self.latency_box.isChecked(),
        )

    def _build(self) -> None:
        self.filter_box = QLineEdit()
        self.filter_box.setObjectName("sweep_filter")
        self.filter_box.setAccessibleName("Filter methods")
        self.filter_box.setPlaceholderText("Filter methods by name")
        self.filter_box.setClearButtonEnabled(True)
        self.filter_box.textChanged.connect(self._on_filtered)
        self.tree = QTreeWidget()
        self.tree.setObjectName("sweep_methods")
        self.tree.setAccessibleName("Methods and strengths")
        self.tree.setHeaderHidden(True)
        self.form = OptionForm("sweep")
        self.form.show_options(describe(SweepPlan, "samples"))
        self.form.show_values({"samples": (self._samples,)})
        self.form.changed.connect(self._on_samples)
        self._layers = self._document.selection or self._before.layers
        many = f"{len(self._layers)} selected layers" if len(self._layers) > 1 else "selected layer"
        self.selected_box = QCheckBox(f"Only the {many}")
        self.selected_box.setObjectName("sweep_selected")
        self.selected_box.setChecked(bool(self._before.layers))
        self.selected_box.setEnabled(bool(self._layers))
        self.latency_box = QCheckBox("Time each changed layer in ONNX Runtime")
        self.latency_box.setObjectName("sweep_latency")
        self.latency_box.setChecked(self._before.latency)
        self.estimate = label("", "muted", wrap=True)
        self.estimate.setObjectName("sweep_estimate")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.accept_button = buttons.addButton("Use it", QDialogButtonBox.ButtonRole.AcceptRole)
        self.accept_button.setObjectName("sweep_accept")
        self.accept_button.setProperty("role", "primary")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        boxes = QGridLayout()
        boxes.addWidget(self.selected_box, 0, 0)
        boxes.addWidget(self.latency_box, 1, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(10)
        layout.addWidget(label("What is tried on every layer, one at a time?", "heading"))
        for piece in (self.filter_box, self.tree, self.form):
            layout.addWidget(piece, 1 if piece is self.tree else 0)
        layout.addLayout(boxes)
        layout.addWidget(self.estimate)
        layout.addWidget(buttons)

    def _fill(self) -> None:
        left = {key_of(choice): choice for choice in self._before.choices}
        for slot in SLOTS:
            heading = self._branch(None, wording.SLOT_TITLES[slot])
            for method in self._document.methods:
                if method.slot != slot:
                    continue
                branch = self._branch(heading, method.title)
                branch.setToolTip(0, method.advice)
                found = [
                    (key, left.pop(key))
                    for key in list(left)
                    if len(key) == 1 and key[0][1] == method.name
                ]
                offered = [choice_of(method, value) for value in strengths_of(method) or (None,)]
                self._offer(branch, offered, dict(found))
        if left:
            self._offer(self._branch(None, OTHERS), [], left)

    def _branch(self, parent: QTreeWidgetItem | None, title: str) -> QTreeWidgetItem:
        item = QTreeWidgetItem([title])
        item.setFlags(
            item.flags() | Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsAutoTristate
        )
        if parent is None:
            self.tree.addTopLevelItem(item)
        else:
            parent.addChild(item)
        return item

    def _offer(
        self, branch: QTreeWidgetItem, offered: list[Choice], ticked: dict[ChoiceKey, Choice]
    ) -> None:
        words = LayerWords(self._document.methods)
        every = {key_of(choice): choice for choice in offered} | ticked
        families = SweepFamilies(self._document.methods).of(every)
        for key, choice in ((key, every[key]) for family in families for key in family.keys):
            leaf = QTreeWidgetItem([" → ".join(words.chosen(choice))])
            leaf.setFlags(leaf.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            leaf.setCheckState(
                0, Qt.CheckState.Checked if key in ticked else Qt.CheckState.Unchecked
            )
            leaf.setData(0, CHOICE, choice)
            branch.addChild(leaf)
        branch.setExpanded(bool(ticked))
        if (above := branch.parent()) is not None and ticked:
            above.setExpanded(True)

    def _leaves(self) -> Iterator[QTreeWidgetItem]:
        waiting = _children(self.tree.invisibleRootItem())
        while waiting:
            item = waiting.pop(0)
            if item.childCount():
                waiting[:0] = _children(item)
            elif item.data(0, CHOICE) is not None:
                yield item

    def _on_filtered(self, text: str) -> None:
        word = text.strip().lower()
        for heading in _children(self.tree.invisibleRootItem()):
            methods = _children(heading)
            for method in methods:
                method.setHidden(word not in method.text(0).lower())
            heading.setHidden(all(method.isHidden() for method in methods))
            if word:
                heading.setExpanded(True)

    def _on_samples(self, _: str, value: object) -> None:
        self._samples = int(str(value))
        self._on_changed()

    def _on_changed(self) -> None:
        self._later.start()

    def _show_estimate(self) -> None:
        atlas = self._document.atlas
        if atlas.failure:
            self.estimate.setText(atlas.failure)
        elif atlas.estimate is None:
            self.estimate.setText("Working out what it would take…")
        else:
            self.estimate.setText(f"{estimate_words(atlas.estimate)}.")

    def _on_finished(self, accepted: int) -> None:
        self._later.stop()
        wanted = self.plan if accepted else self._before
        if wanted != self._document.atlas.plan:
            self._document.atlas.ask(wanted)


def _children(item: QTreeWidgetItem) -> list[QTreeWidgetItem]:
    found = (item.child(at) for at in range(item.childCount()))
    return [child for child in found if child is not None]
