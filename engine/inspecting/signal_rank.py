"""How many singular values of a matrix stand out from the noise of the others."""

from collections.abc import Sequence

import numpy as np

from featherweight.engine.weight_forms import Array

CANDIDATES = 400


def signal_rank(spectrum: Sequence[float], longer: int) -> int:
    """Return the rank by variational Bayes, from all singular values of a matrix.

    The global analytic solution of empirical variational Bayesian matrix factorization with an
    unknown variance of the noise (Nakajima et al. 2013, JMLR 14). `spectrum` has one value for each
    row of the shorter side, largest first; `longer` is the other side.
    """
    squares = np.square(np.asarray(spectrum, dtype=np.float64))
    if not squares.size or squares[0] <= 0:
        return 0
    aspect = len(squares) / longer
    floor = 2.5129 * aspect**0.5
    # A scaled square above it belongs to the signal.
    bound = (1 + floor) * (1 + aspect / floor)
    squares = np.maximum(squares, squares[0] * 1e-14)
    most = max(int(np.ceil(len(squares) / (1 + aspect))) - 1, 1)
    tail = squares[most:] if most < len(squares) else squares[-1:]
    low = max(float(tail[0]) / (longer * bound), float(tail.mean()) / longer)
    high = max(float(squares.mean()) / longer, low)
    variances = np.geomspace(low, high, CANDIDATES)
    energies = [_free_energy(squares / (longer * each), aspect, bound) for each in variances]
    noise = variances[int(np.argmin(energies))]
    return int((squares > longer * noise * bound).sum())


def _free_energy(scaled: Array, aspect: float, bound: float) -> float:
    signal, noise = scaled[scaled > bound], scaled[scaled <= bound]
    shifted = signal - (1 + aspect)
    tau = (shifted + np.sqrt(np.maximum(shifted**2 - 4 * aspect, 0))) / 2
    return float(
        (noise - np.log(noise)).sum()
        + (signal - tau + np.log((tau + 1) / signal) + aspect * np.log(tau / aspect + 1)).sum()
    )
