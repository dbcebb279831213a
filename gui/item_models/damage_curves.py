"""Curves of a sweep: of selected layers for one method, or of all methods for one layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from featherweight.engine.layer import Layer
from featherweight.engine.readings import Reading, Spread
from featherweight.gui.atlas_readings import ChoiceKey
from featherweight.gui.item_models.heat_table import Readings
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.item_models.reading_words import stored_share, told
from featherweight.gui.item_models.sweep_families import Family
from featherweight.gui.monotone import monotone
from featherweight.gui.widgets.damage_chart import Dot

MOST = 5
Value = Literal["damage", "loss", "metric"]


@dataclass(frozen=True)
class Curves:
    """What is drawn: `value` of readings over their strength, or over the stored size in percent.

    `damage` and `metric` are titles.
    """

    value: Value
    by_size: bool
    words: LayerWords
    damage: str
    metric: str

    def of_layers(
        self,
        layers: Mapping[str, Layer],
        readings: Readings,
        names: Sequence[str],
        family: Family,
    ) -> dict[str, list[Dot]]:
        """Return a curve of one family for each of the first layers, by name."""
        found = {name: self._curve(layers, readings.get(name, {}), family) for name in names}
        return dict([pair for pair in found.items() if pair[1]][:MOST])

    def of_families(
        self,
        layers: Mapping[str, Layer],
        readings: Readings,
        name: str,
        families: Sequence[Family],
    ) -> dict[str, list[Dot]]:
        """Return a curve of one layer for each of the families that harm it least, by title."""
        own = readings.get(name, {})
        found = {family.title: self._curve(layers, own, family) for family in families}
        pairs = [pair for pair in found.items() if pair[1]]
        pairs.sort(key=lambda pair: min(dot.y for dot in pair[1]))
        return dict(pairs[:MOST])

    def _curve(
        self, layers: Mapping[str, Layer], own: Mapping[ChoiceKey, Reading], family: Family
    ) -> list[Dot]:
        dots = []
        for key, strength in zip(family.keys, family.values, strict=True):
            reading = own.get(key)
            given: Spread | None = getattr(reading, self.value) if reading else None
            if reading is None or given is None or reading.reason:
                continue
            share = stored_share(reading, layers)
            if self.by_size and share is None:
                continue
            at = (share or 0.0) * 100 if self.by_size else strength
            tip = partial(told, reading, self.words, self.damage, self.metric)
            measured = reading.basis != "estimated"
            dots.append(Dot(at, given.value, given.error, given.value, measured, tip))
        dots.sort(key=lambda dot: dot.x)
        return _smoothed(dots)


def _smoothed(dots: Sequence[Dot]) -> list[Dot]:
    """Smooth what is measured and what is estimated apart from each other."""
    smooth: dict[int, float] = {}
    for measured in (False, True):
        places = [at for at, dot in enumerate(dots) if dot.measured == measured]
        smooth |= dict(zip(places, monotone([dots[at].y for at in places]), strict=True))
    return [
        Dot(dot.x, dot.y, dot.error, smooth[at], dot.measured, dot.tip)
        for at, dot in enumerate(dots)
    ]
