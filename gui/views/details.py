"""Details of the selected layer: shapes, locks, couplings, weights and singular spectrum."""

import math
from html import escape

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QLabel, QPushButton, QStackedLayout, QWidget

from featherweight.engine.layer import Layer, LayerDetails
from featherweight.engine.ranks import output_keep, output_rank
from featherweight.engine.recipe import Setting
from featherweight.gui import theme, wording
from featherweight.gui.document import Document
from featherweight.gui.equivariance_facts import equivariance_facts
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.facts import Facts
from featherweight.gui.widgets.histogram_chart import HistogramChart
from featherweight.gui.widgets.legend import Legend
from featherweight.gui.widgets.panel import Panel, Section
from featherweight.gui.widgets.spectrum_chart import SpectrumChart
from featherweight.gui.widgets.text import ElidedLabel, label

KEEP = "keep"
MULTIPLE = "multiple"
MOST = 0.9
ESTIMATED = (
    " Estimated: the layer is too wide to compute every value; the first ones are near, the rest"
    " come from their density."
)
HISTOGRAM_HEIGHT, SPECTRUM_HEIGHT = 88, 128


class DetailsView(QWidget):
    """Shows one layer, or the sums of several."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self.panel = Panel("Details of the selected layer")
        self.panel.setObjectName("details_panel")
        self.empty = EmptyState(
            "layers", "No layer selected", "Select a layer in the table to see what is in it."
        )
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.empty)
        self._stack.addWidget(self.panel)
        self._build()
        document.network_changed.connect(self._refresh)
        document.selection_changed.connect(self._refresh)
        document.latency_changed.connect(self._refresh)
        document.sensitivity_changed.connect(self._refresh)
        document.methods_changed.connect(self._refresh)
        document.recipe_changed.connect(self._show_rank)
        document.details_changed.connect(self._on_details_changed)
        self._refresh()

    @property
    def layer(self) -> Layer | None:
        """The layer whose weights are shown, None where none or several are selected."""
        selection = self._document.selection
        return self._document.layers.get(selection[0]) if len(selection) == 1 else None

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._refresh()
        super().changeEvent(event)

    def _build(self) -> None:
        self.title = ElidedLabel()
        self.title.setProperty("role", "heading")
        self.title.setObjectName("details_title")
        self.summary = label("", "muted", wrap=True)
        self.facts = Facts()
        head = Section("", line=False)
        head.title.hide()
        for piece in (self.title, self.summary, self.facts):
            head.body.addWidget(piece)
        self.panel.add(head)
        self._build_couplings()
        self._build_weights()
        self._build_locks()

    def _build_couplings(self) -> None:
        self.couple_button = QPushButton("Select all")
        self.couple_button.setProperty("role", "link")
        self.couple_button.setObjectName("select_coupled_button")
        self.couple_button.setToolTip("Select this layer and all that lose channels with it")
        self.couple_button.clicked.connect(self._on_select_coupled)
        self.couplings = Section("Loses channels together with", self.couple_button)
        self.coupled_links = QLabel()
        self.coupled_links.setObjectName("coupled_links")
        self.coupled_links.setAccessibleName("Coupled layers")
        self.coupled_links.setWordWrap(True)
        self.coupled_links.setTextInteractionFlags(
            Qt.TextInteractionFlag.LinksAccessibleByMouse
            | Qt.TextInteractionFlag.LinksAccessibleByKeyboard
        )
        self.coupled_links.linkActivated.connect(lambda name: self._document.select((name,)))
        self.couplings.body.addWidget(self.coupled_links)
        self.panel.add(self.couplings)

    def _build_weights(self) -> None:
        self.weights = Section("Weights")
        self.statistics = label("", wrap=True)
        self.statistics.setObjectName("weight_statistics")
        self.statistics.setToolTip("Mean and standard deviation, smallest and largest weight")
        self.histogram = HistogramChart()
        self.histogram.setObjectName("weight_histogram")
        self.histogram.setAccessibleName("Histogram of the weights")
        self.spectrum = SpectrumChart()
        self.spectrum.setObjectName("weight_spectrum")
        self.spectrum.setAccessibleName("Singular values and the energy they keep")
        self.spectrum.rank_chosen.connect(self._on_rank_chosen)
        self.histogram.setFixedHeight(HISTOGRAM_HEIGHT)
        self.spectrum.setFixedHeight(SPECTRUM_HEIGHT)
        self.weights.body.addWidget(self.statistics)
        self.weights.body.addWidget(self.histogram)
        self.panel.add(self.weights)
        self.spectrum_section = Section("Singular spectrum")
        self.rank_text = label("", wrap=True)
        self.rank_text.setObjectName("rank_text")
        self.spectrum_section.body.addWidget(Legend("singular values", "energy kept"))
        self.spectrum_section.body.addWidget(self.spectrum)
        self.spectrum_section.body.addWidget(self.rank_text)
        self.panel.add(self.spectrum_section)
        self.equivariance = Section("Equivariance", BasisBadge("simulated"))
        self.equivariance.setToolTip(
            "How far the outputs are off when the input is moved, turned or negated, on noise and"
            " with the best order of the channels"
        )
        self.equivariance_facts = Facts()
        self.equivariance.body.addWidget(self.equivariance_facts)
        self.panel.add(self.equivariance)

    def _build_locks(self) -> None:
        self.locks = Section("Locked for")
        self.lock_facts = Facts()
        self.lock_facts.setObjectName("lock_reasons")
        self.locks.body.addWidget(self.lock_facts)
        self.panel.add(self.locks)

    def _refresh(self) -> None:
        selection = self._document.selection
        self._stack.setCurrentWidget(self.panel if selection else self.empty)
        layer = self.layer
        for section in (
            *(self.couplings, self.weights, self.spectrum_section, self.equivariance),
            self.locks,
        ):
            section.setVisible(False)
        if layer is not None:
            self._show_layer(layer)
        elif selection:
            self._show_several([self._document.layers[name] for name in selection])

    def _show_several(self, layers: list[Layer]) -> None:
        self.title.setText(f"{len(layers)} layers")
        self.summary.setText("Select one of them to see its weights.")
        macs = sum(layer.macs or 0 for layer in layers)
        self.facts.show_facts(
            {
                "Parameters": self._of_all(sum(layer.parameters for layer in layers), "parameters"),
                "MACs": self._of_all(macs, "macs"),
            }
        )

    def _show_layer(self, layer: Layer) -> None:
        self.title.setText(layer.name)
        self.summary.setText(f"{layer.kind}, {layer.summary}" if layer.summary else layer.kind)
        self.facts.show_facts(self._facts(layer))
        self.couplings.setVisible(bool(layer.coupled))
        style = f"color:{theme.colours().accent}; text-decoration:none"
        links = [
            f'<a href="{escape(name)}" style="{style}">{_breakable(escape(name))}</a>'
            for name in layer.coupled
        ]
        self.coupled_links.setText(", ".join(links))
        self.locks.setVisible(bool(layer.locks))
        titles = {method.name: method.title for method in self._document.methods}
        self.lock_facts.show_facts(
            {titles.get(name, name): reason for name, reason in layer.locks.items()}
        )
        details = self._document.details.get(layer.name)
        if details is not None:
            self._show_details(details)
        elif layer.weights:
            self._document.request_details(layer.name)

    def _facts(self, layer: Layer) -> dict[str, str]:
        latency = ""
        if layer.latency is not None:
            latency = f"{wording.figure('latency', layer.latency)}, {layer.latency.basis}"
            if layer.share is not None:
                latency += f", {wording.percent(layer.share)} of the sum"
        sensitivity = f"not told: {layer.sensitivity_lock}" if layer.sensitivity_lock else ""
        if layer.sensitivity is not None:
            sensitivity = wording.risen(layer.sensitivity.value)
        macs = "not counted" if layer.macs is None else self._of_all(layer.macs, "macs")
        return {
            "Input": wording.shape(layer.input_shape),
            "Output": wording.shape(layer.output_shape),
            **{f"{name}": wording.shape(sides) for name, sides in layer.weights.items()},
            "Parameters": self._of_all(layer.parameters, "parameters"),
            "MACs": macs,
            "Latency": latency,
            "Sensitivity": sensitivity,
            "Calls": str(layer.calls) if layer.calls > 1 else "",
        }

    def _of_all(self, value: int, what: str) -> str:
        network = self._document.network
        total = getattr(network, what) if network else 0
        share = f" ({wording.percent(value / total)})" if total and value else ""
        return f"{wording.count(value)}{share}"

    def _on_details_changed(self, name: str) -> None:
        layer = self.layer
        if layer is not None and layer.name == name:
            self._show_details(self._document.details[name])

    def _show_details(self, details: LayerDetails) -> None:
        self.weights.setVisible(True)
        numbers = (
            f"{details.mean:.4f} ± {details.deviation:.4f}, from {details.minimum:.3f} to"
            f" {details.maximum:.3f}"
        ).replace("-", wording.MINUS)
        self.statistics.setText(f"{numbers}, {wording.percent(details.zeros)} zeros")
        self.histogram.show_counts(details.histogram.edges, details.histogram.counts)
        titles = {method.name: method.title for method in self._document.methods}
        self.equivariance.setVisible(bool(details.equivariance))
        self.equivariance_facts.show_facts(equivariance_facts(details.equivariance, titles))
        self.spectrum_section.setVisible(bool(details.spectrum))
        if details.spectrum:
            self.spectrum.show_spectrum(details.spectrum)
            self._show_rank()

    def _show_rank(self) -> None:
        layer = self.layer
        details = self._document.details.get(layer.name) if layer else None
        if layer is None or details is None or not details.spectrum:
            return
        length = len(details.spectrum)
        rank = self._rank(layer)
        self.spectrum.show_rank(rank, movable=rank is not None)
        if rank is not None:
            kept = wording.percent(self.spectrum.energy(rank))
            text = f"Rank {rank} of {length} keeps {kept} of the energy"
        else:
            text = f"Rank {self.spectrum.rank_for(MOST)} of {length} would keep 90 % of the energy"
        largest = self._largest_saving_rank(layer)
        limit = f"; low rank saves weights up to rank {largest}." if largest else "."
        signal = details.suggested_rank
        noise = f" By variational Bayes, {signal} stand out from noise." if signal else ""
        self.rank_text.setText(
            text + limit + noise + (ESTIMATED if details.spectrum_estimated else "")
        )

    def _rank(self, layer: Layer) -> int | None:
        setting = self._document.recipe.choice(layer.name).structure
        method = self._document.method(setting.method) if setting else None
        if setting is None or method is None:
            return None
        options = {option.name: option.default for option in method.options} | setting.options
        keep = options.get(KEEP)
        if keep is None:
            return None
        multiple = int(options.get(MULTIPLE, 1))
        return output_rank(method.name, float(keep), _matrix(layer), multiple)

    def _largest_saving_rank(self, layer: Layer) -> int | None:
        setting = self._document.recipe.choice(layer.name).structure
        free = [m.name for m in self._document.methods if m.name not in layer.locks]
        for name in (setting.method if setting else "", *free):
            rank = output_rank(name, 1.0, _matrix(layer)) if name else None
            if rank is not None:
                return rank
        return None

    def _on_rank_chosen(self, rank: int) -> None:
        layer = self.layer
        setting = self._document.recipe.choice(layer.name).structure if layer else None
        keep = output_keep(setting.method, rank, _matrix(layer)) if layer and setting else None
        if layer is None or setting is None or keep is None:
            return
        share = min(math.ceil(keep * 1000) / 1000, 1.0)
        moved = Setting(setting.method, setting.options | {KEEP: share})
        self._document.set_choice((layer.name,), "structure", moved)

    def _on_select_coupled(self) -> None:
        layer = self.layer
        if layer is not None:
            self._document.select((layer.name, *layer.coupled))


def _breakable(name: str) -> str:
    """Return a name that may go on in the next line behind dots and underscores."""
    return name.replace(".", ".\u200b").replace("_", "_\u200b")


def _matrix(layer: Layer) -> tuple[int, ...]:
    """Return the shape of the layer's main weight, outputs first; recurrent: of all directions."""
    recurrent = [shape for name, shape in layer.weights.items() if name.startswith("weight_ih_l0")]
    if recurrent:
        return sum(shape[0] for shape in recurrent), recurrent[0][1]
    shapes = [shape for shape in layer.weights.values() if len(shape) >= 2]
    return layer.weights.get("weight") or (shapes[0] if shapes else (1, 1))
