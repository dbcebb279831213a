"""Options of a training that have no effect with the present ones, each with the reason."""

from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.trainings import FineTuning

ONLY_DISTILLATION = "Only distillation asks for it: its share is 0."
NO_TEACHER = "Nothing learns from a teacher: distillation is 0 and no hidden layers are compared."
NO_TEACHERS_FILE = "The original is the teacher, so its weights are the network's own."
NOTHING_HELD_OUT = "No samples are held out to tell which weights are better."
NO_EPOCHS = "With 0 epochs nothing is trained."
WITHOUT_EPOCHS = ("epochs", "norms")
INTEGERS, EIGHT = "integer", 8


def idle_options(recovery: FineTuning, recipe: Recipe) -> dict[str, str]:
    """Return why options of a recovery have no effect in a recipe, by their names."""
    choices = recipe.layers.values()
    idle = {
        "momentum": "AdamW has moments of its own." if recovery.optimizer == "adamw" else "",
        "temperature": "" if recovery.distillation else ONLY_DISTILLATION,
        "hidden_weight": "No hidden layers are compared." if recovery.hidden == "none" else "",
        "teacher": "" if recovery.learns or recovery.start == "teacher" else NO_TEACHER,
        "start": "" if recovery.teacher else NO_TEACHERS_FILE,
        "keep": "" if recovery.held_out else NOTHING_HELD_OUT,
        "patience": "" if recovery.held_out else NOTHING_HELD_OUT,
        "gradual": ""
        if any(choice.sparsity for choice in choices)
        else "No layer of the recipe has a sparsity.",
        "activations": ""
        if any(map(_eight_bits, choices))
        else "No layer of the recipe has 8-bit integers.",
        "norms": "A training begins with that anyway." if recovery.epochs else "",
    }
    if not recovery.epochs:
        trained = set(FineTuning.__struct_fields__).difference(WITHOUT_EPOCHS)
        idle |= dict.fromkeys(trained, NO_EPOCHS)
    return {name: reason for name, reason in idle.items() if reason}


def _eight_bits(choice: Choice) -> bool:
    setting = choice.precision
    if setting is None or setting.method != INTEGERS:
        return False
    return setting.options.get("bits", EIGHT) == EIGHT
