"""Where a number stands on a slider: evenly, or bent where a range has several magnitudes."""

import math

WIDE, MAGNITUDES = 500, 1000


class SliderScale:
    """Maps numbers from `minimum` to `maximum` to shares of a slider, 0 to 1, and back."""

    def __init__(self, minimum: float, maximum: float, whole: bool) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.whole = whole

    @property
    def bent(self) -> bool:
        """Whether low numbers have more room than high ones."""
        low, high = self.minimum, self.maximum
        return (low > 0 and high / low >= MAGNITUDES) or high - low >= WIDE

    def number(self, share: float) -> float:
        """Return the number at a share."""
        low, span = self.minimum, self.maximum - self.minimum
        if not self.bent:
            value = low + span * share
        elif low > 0:
            value = low * math.exp(math.log(self.maximum / low) * share)
        else:
            value = low + span * share**3
        if self.whole:
            return float(round(value))
        return float(f"{value:.3g}") if self.bent else round(value, 3)

    def share(self, value: float) -> float:
        """Return the share at which a number stands."""
        low, span = self.minimum, self.maximum - self.minimum
        if not span:
            return 0.0
        if not self.bent:
            return (value - low) / span
        if low > 0:
            return math.log(value / low) / math.log(self.maximum / low)
        return float(((value - low) / span) ** (1 / 3))
