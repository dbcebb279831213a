"""How far a network is from its teacher: formulas on outputs and on features of hidden layers.

Soft targets: Hinton, Vinyals, Dean (2015). Attention: Zagoruyko, Komodakis: Paying More Attention
to Attention (2017). Channels of maps: Shu et al.: Channel-wise Knowledge Distillation for Dense
Prediction (2021). Relations: Park et al.: Relational Knowledge Distillation (2019).
"""

import torch
from torch import Tensor
from torch.nn import functional

# Places where a teacher says next to nothing would outweigh all others.
LEAST_POWER = 1e-3
# Directions of samples that hardly differ would turn at random; a share of the mean distance.
LEAST_DISTANCE = 1e-3
# Angles are between all triples: of more samples they would not fit into memory.
MOST_ANGLED = 64
WEIGHT_OF_ANGLES = 2.0
SURE_TO = 1e-4


def soft_loss(own: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return T² KL(softmax(wanted / T) ‖ softmax(own / T)), mean over samples; (N, classes)."""
    log = functional.log_softmax(own / temperature, 1)
    target = functional.log_softmax(wanted / temperature, 1)
    return temperature**2 * functional.kl_div(log, target, reduction="batchmean", log_target=True)


def channel_loss(own: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return the soft loss over the positions of every channel, mean over channels; (N, C, …).

    What is added to a whole channel does not count: it says where in an image a channel is strong.
    """
    maps, targets = (x.flatten(2).flatten(0, 1) for x in (own, wanted))
    return soft_loss(maps, targets, temperature)


def form_loss(own: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return how unlike in form the outputs of a task without labels are; 0 where they are equal.

    Of maps (N, C, positions …) it is the loss of channels; of sequences (N, T, C) the soft loss of
    every step, and of probabilities (N, C) that of every sample; of other vectors (N, C) it is
    1 - cosine. A single number has no form.
    """
    if wanted.ndim > 3:
        return channel_loss(own, wanted, temperature)
    if wanted.ndim < 2 or wanted.shape[-1] < 2:
        return own.new_zeros(())
    scores, targets = (x.flatten(0, -2) for x in (own, wanted))
    sure = bool((targets >= 0).all())
    sure = sure and bool(((targets.sum(1) - 1).abs() < SURE_TO).all())
    if sure:
        scores, targets = log_of(scores), log_of(targets)
    if sure or wanted.ndim == 3:
        return soft_loss(scores, targets, temperature)
    return (1 - functional.cosine_similarity(scores, targets, dim=1)).mean()


def log_of(probabilities: Tensor) -> Tensor:
    """Return scores whose softmax are the probabilities."""
    return probabilities.clamp_min(1e-12).log()


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Return ‖output - target‖² / ‖target‖².

    Where outputs are maps, (N, C, positions …), every position counts alike.
    """
    places = (0, 1) if target.ndim > 2 else tuple(range(target.ndim))
    error, power = ((output - target) ** 2).sum(places), (target**2).sum(places)
    return (error / power.clamp_min(LEAST_POWER * float(power.mean()) + 1e-12)).mean()


def attention_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean ‖q / ‖q‖ - q' / ‖q'‖‖² of attention maps q = Σ F² over channels."""
    own, wanted = (functional.normalize((x**2).sum(1).flatten(1), dim=1) for x in (output, target))
    return ((own - wanted) ** 2).sum(1).mean()


def relation_loss(own: Tensor, wanted: Tensor) -> Tensor:
    """Return how unlike the samples of two batches lie to each other; (N, D) and (N, D'), N ≥ 2.

    It is the Huber loss of the distances of all pairs, each over their mean, and twice that of the
    cosines of the angles in all triples of the first 64 samples.
    """
    distances = functional.huber_loss(_distances(own), _distances(wanted))
    angles = functional.huber_loss(_angles(own), _angles(wanted))
    return distances + WEIGHT_OF_ANGLES * angles


def _distances(features: Tensor) -> Tensor:
    found = functional.pdist(features)
    return found / found.mean().clamp_min(1e-12)


def _angles(features: Tensor) -> Tensor:
    """Return the cosine of the angle at i between j and k: N×N×N."""
    features = features[:MOST_ANGLED]
    ways = features[None] - features[:, None]
    squares = (ways**2).sum(2, keepdim=True)
    least = LEAST_DISTANCE**2 * squares.detach().mean() + 1e-24
    ways = ways / torch.sqrt(squares + least)
    return ways @ ways.transpose(1, 2)
