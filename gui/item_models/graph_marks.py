"""Which boxes of a picture stand out: the selection, what is coupled to it, locks, search hits."""

from collections.abc import Collection, Iterable

from featherweight.gui import graph_steps
from featherweight.gui.graph_blocks import Block
from featherweight.gui.item_models.graph_boxes import GraphBoxes
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.widgets.box_painter import Looks


class GraphMarks:
    """Made anew for every picture; `fills` are set by whoever colours it."""

    def __init__(self, model: GraphBoxes, words: LayerWords) -> None:
        self.fills: tuple[tuple[str, ...], ...] = ()
        self._layers = model.layers
        self._blocks = [shown.block for shown in model.picture.boxes]
        self._names = [model.names(block) for block in self._blocks]
        self._places: dict[str, list[int]] = {}
        for place, names in enumerate(self._names):
            for name in names:
                self._places.setdefault(name, []).append(place)
        self._locked = frozenset(self._find_locked(words))

    def places(self, names: Iterable[str]) -> frozenset[int]:
        """Return the boxes that hold any of these layers."""
        return frozenset(place for name in names for place in self._places.get(name, ()))

    def first(self, names: Iterable[str]) -> int:
        """Return the box that holds the first of these layers that is shown, -1 for none."""
        return next((self._places[name][0] for name in names if name in self._places), -1)

    def partners(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the layers that lose channels together with these; none before it is laid out."""
        known = (self._layers[name] for name in names if name in self._layers)
        found = dict.fromkeys(other for layer in known for other in layer.coupled)
        return tuple(name for name in found if name not in set(names))

    def looks(self, selection: Collection[str], hovered: int, found: Iterable[Block]) -> Looks:
        """Return how the boxes stand out."""
        chosen, partners = self.places(selection), self.partners(selection)
        over = self._names[hovered] if hovered >= 0 else ()
        near = self.partners(over)
        keys = {key for block in found for key in (block.key, *graph_steps.around(block))}
        hits = (place for place, block in enumerate(self._blocks) if keys and block.key in keys)
        return Looks(
            fills=self.fills,
            locked=self._locked,
            chosen=chosen,
            lit=self.places(partners) - chosen,
            hinted=self.places((*over, *near)) if near else frozenset(),
            found=frozenset(hits),
            counts=self._counts(partners),
        )

    def _counts(self, partners: Iterable[str]) -> dict[int, str]:
        inside: dict[int, int] = {}
        for name in partners:
            for place in self._places.get(name, ()):
                if self._blocks[place].node is None:
                    inside[place] = inside.get(place, 0) + 1
        return {place: f"{count} coupled" for place, count in inside.items()}

    def _find_locked(self, words: LayerWords) -> Iterable[int]:
        for place, block in enumerate(self._blocks):
            layer = self._layers.get(block.node.layer) if block.node else None
            if layer is not None and words.lock_reasons(layer):
                yield place
