"""The picture of a graph as boxes to paint: their texts, their colours, what is said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PySide6.QtCore import QRectF

from featherweight.engine.layer import Layer
from featherweight.engine.options import SLOTS
from featherweight.engine.recipe import Recipe
from featherweight.gui import theme, wording
from featherweight.gui.graph_blocks import Block, Picture, Shown
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.widgets.box_painter import Box, blend

COLOURINGS = {
    "parameters": "Parameters",
    "macs": "MACs",
    "latency": "Latency",
    "sensitivity": "Sensitivity",
    "choices": "Choices",
}
LEVELS = 12
STRONGEST = 0.9

_WORDED = {"latency": wording.milliseconds, "sensitivity": wording.rise}

Entries = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Colouring:
    """The colours of every box, and what they mean: a scale up to `most`, or entries."""

    fills: tuple[tuple[str, ...], ...] = ()
    most: str = ""
    entries: Entries = ()


@dataclass(frozen=True)
class GraphBoxes:
    """One picture with the layers of its network."""

    picture: Picture = field(default_factory=Picture)
    layers: Mapping[str, Layer] = field(default_factory=dict)
    _names: dict[Block, tuple[str, ...]] = field(default_factory=dict)

    def boxes(self) -> list[Box]:
        """Return the boxes to paint."""
        return [self._box(shown) for shown in self.picture.boxes]

    def frames(self) -> list[Box]:
        """Return the frames to paint, the outer ones first."""
        return [Box(_rect(shown), shown.block.label) for shown in self.picture.frames]

    def names(self, block: Block) -> tuple[str, ...]:
        """Return the layers in a block."""
        known = self._names.get(block)
        if known is None:
            found = dict.fromkeys(node.layer for node in block.nodes() if node.layer)
            known = self._names[block] = tuple(name for name in found if name in self.layers)
        return known

    def value(self, block: Block, what: str) -> float:
        """Return parameters, MACs, milliseconds or rise of the loss of the layers in a block."""
        layers = [self.layers[name] for name in self.names(block)]
        if what == "parameters":
            return sum(layer.parameters for layer in layers)
        if what == "macs":
            return sum(layer.macs or 0 for layer in layers)
        timed = what == "latency"
        figures = [layer.latency if timed else layer.sensitivity for layer in layers]
        return sum(figure.value for figure in figures if figure is not None)

    def colour_by(self, what: str, recipe: Recipe, words: LayerWords) -> Colouring:
        """Colour the boxes by a figure, or by what the recipe does to them."""
        blocks = [shown.block for shown in self.picture.boxes]
        if what == "choices":
            return self._by_choices(blocks, recipe, words)
        values = [self.value(block, what) for block in blocks]
        coloured = [self._is_told(block, what) for block in blocks]
        most = max(values, default=0.0)
        if most <= 0:
            return Colouring()
        scale = shades()
        return Colouring(
            tuple(
                (scale[round((max(value, 0) / most) ** 0.5 * LEVELS)],) if told else ()
                for told, value in zip(coloured, values, strict=True)
            ),
            _WORDED.get(what, wording.count)(most),
        )

    def describe(self, block: Block, words: LayerWords, recipe: Recipe) -> tuple[str, ...]:
        """Return sentences about a box: what it is, what it costs, what is locked or chosen."""
        node, names = block.node, self.names(block)
        if node is None:
            return (f"{block.key}, a block of {len(names)} layers", self._figures(block))
        then = f", then {', '.join(node.then)}" if node.then else ""
        if not names:
            return (f"{node.name}{then}",)
        layer = self.layers[names[0]]
        found = [f"{node.name}: {layer.kind} {layer.summary}".rstrip() + then]
        found.append(self._figures(block))
        if layer.coupled:
            more = len(layer.coupled)
            found.append(f"{more} more {'layers lose' if more > 1 else 'layer loses'} channels too")
        found += [f"Locked for {reason}" for reason in words.lock_reasons(layer)]
        choice = recipe.layers.get(layer.name)
        if choice is not None:
            found.append("Chosen: " + " → ".join(words.chosen(choice)))
        return tuple(found)

    def _figures(self, block: Block) -> str:
        parameters, macs = (wording.count(self.value(block, w)) for w in ("parameters", "macs"))
        latency = self.value(block, "latency")
        measured = f", {wording.milliseconds(latency)}" if latency else ""
        rise = self.value(block, "sensitivity")
        told = f", {wording.risen(rise)}" if rise else ""
        return f"{parameters} parameters, {macs} MACs{measured}{told}"

    def _is_told(self, block: Block, what: str) -> bool:
        """Say whether a block has a colour; no rise of the loss is another thing than none told."""
        names = self.names(block)
        if what == "sensitivity":
            return any(self.layers[name].sensitivity is not None for name in names)
        return bool(names)

    def _box(self, shown: Shown) -> Box:
        block, node = shown.block, shown.block.node
        if node is None:
            count = len(self.names(block))
            below = f"{count} layer{'s' if count != 1 else ''}"
            return Box(_rect(shown), block.label, below, "stack")
        if not node.layer:
            return Box(_rect(shown), " · ".join((block.label, *node.then)), "", "pill")
        return Box(_rect(shown), block.label, block.below)

    def _by_choices(self, blocks: Sequence[Block], recipe: Recipe, words: LayerWords) -> Colouring:
        used: dict[tuple[int, str], None] = {}
        chosen = []
        for block in blocks:
            own: dict[tuple[int, str], None] = {}
            for name in self.names(block):
                choice = recipe.choice(name)
                for place, slot in enumerate(SLOTS):
                    setting = choice.setting(slot)
                    if setting is not None:
                        own[place, setting.method] = None
            used.update(own)
            chosen.append(sorted(own))
        colours = {key: _method_shade(key, sorted(used)) for key in used}
        return Colouring(
            tuple(tuple(colours[key] for key in keys) for keys in chosen),
            entries=tuple((colours[key], words.title(key[1])) for key in sorted(used)),
        )


def shades() -> tuple[str, ...]:
    """Return the colours of the scale, the least first."""
    colours = theme.colours()
    return tuple(
        blend(colours.surface, colours.accent, level / LEVELS * STRONGEST)
        for level in range(LEVELS + 1)
    )


def _method_shade(key: tuple[int, str], used: Sequence[tuple[int, str]]) -> str:
    """Give each slot a colour, and the methods of one slot steps of it."""
    colours = theme.colours()
    place = [method for slot, method in used if slot == key[0]].index(key[1])
    return blend(colours.surface, colours.series[key[0]], max(0.75 - 0.22 * place, 0.2))


def _rect(shown: Shown) -> QRectF:
    return QRectF(shown.x, shown.y, shown.width, shown.height)
