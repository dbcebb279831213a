"""What a sweep tries when nobody says what: the families between which an allocation chooses."""

from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.sparsity.magnitude import Magnitude
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Setting

BITS = (8, 6, 5, 4, 3, 2)
VALUES = (8, 4)
ZEROS = (0.3, 0.5, 0.7, 0.8, 0.9)
KEPT = (0.5, 0.25)
REMOVED = (0.25, 0.5)


def default_plan() -> SweepPlan:
    """Return the plan, for whatever layers there are.

    The last choice is of two slots at once: it tells how losses of such choices add up.
    """
    integers = {bits: Setting(Integer.name, {"bits": bits}) for bits in BITS}
    pruned = {share: Setting(Magnitude.name, {"sparsity": share}) for share in ZEROS}
    return SweepPlan(
        choices=(
            *(Choice(precision=setting) for setting in integers.values()),
            *(Choice(precision=Setting(Codebook.name, {"clusters": many})) for many in VALUES),
            *(Choice(sparsity=setting) for setting in pruned.values()),
            *(
                Choice(structure=Setting(kind.name, {"keep": k}))
                for kind in (Svd, Tucker)
                for k in KEPT
            ),
            *(Choice(structure=Setting(ChannelPruning.name, {"ratio": r})) for r in REMOVED),
            Choice(sparsity=pruned[0.5], precision=integers[4]),
        )
    )
