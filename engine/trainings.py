"""What a recipe says of training: before compression, layer by layer after it, and in the end."""

from typing import Annotated, Literal

from msgspec import Struct

from featherweight.engine.options import number, words

# Where trainings run; the engine's process learns it from the variable.
DEVICES = ("cpu", "auto", "cuda")
DEVICE_VARIABLE = "FEATHERWEIGHT_DEVICE"


class FineTuning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training of the compressed network on the task's recovery data."""

    epochs: Annotated[int, number("Epochs", "Passes over the recovery data.", 0, 1000)] = 1
    optimizer: Annotated[
        Literal["sgd", "adamw"], words("Optimizer", "SGD with momentum, or AdamW.")
    ] = "sgd"
    learning_rate: Annotated[
        float, number("Learning rate", "At the start, before the schedule.", 1e-7, 10.0)
    ] = 0.01
    momentum: Annotated[float, number("Momentum", "Of SGD; AdamW ignores it.", 0.0, 0.999)] = 0.9
    weight_decay: Annotated[float, number("Weight decay", "Decoupled in AdamW.", 0.0, 1.0)] = 1e-4
    schedule: Annotated[
        Literal["constant", "cosine"], words("Schedule", "How the learning rate falls.")
    ] = "cosine"
    batch_size: Annotated[int, number("Batch size", "Samples per step.", 1, 65536)] = 64
    gradual: Annotated[
        float,
        number(
            "Gradual sparsity",
            "Share of the training during which layers with a sparsity lose their weights, a few "
            "at a time; their precision follows later. 0 takes all at once before it.",
            0.0,
            0.9,
        ),
    ] = 0.0
    distillation: Annotated[
        float,
        number(
            "Distillation",
            "Share of the loss that compares with a teacher's outputs; 0 goes by labels alone. "
            "Without labels all of it does, and this is how much the form of outputs counts beside "
            "their values.",
            0.0,
            1.0,
        ),
    ] = 0.0
    temperature: Annotated[
        float,
        number(
            "Temperature",
            "How much a teacher's small probabilities count; most networks like 2 to 8.",
            1.0,
            20.0,
        ),
    ] = 4.0
    hidden: Annotated[
        Literal["none", "outputs", "attention", "representation", "relations"],
        words(
            "Hidden layers",
            "Compare layers of the same name with the teacher's too: their outputs, where in an "
            "image they are strong (attention), the last one through a linear map "
            "(representation), or distances and angles between samples in it (relations).",
        ),
    ] = "none"
    hidden_weight: Annotated[
        float, number("Weight of hidden", "How much hidden layers count in the loss.", 0.0, 100.0)
    ] = 1.0
    teacher: Annotated[
        str,
        words(
            "Teacher",
            "A network file or archive of the same task to learn from, by its path or by its name "
            "beside the network's file; empty for the original.",
        ),
    ] = ""
    start: Annotated[
        Literal["own", "teacher"],
        words(
            "Start",
            "Weights to begin with: the network's own, or those of the teacher's file, for layers "
            "of the same names; the weakest channels of wider ones are left out.",
        ),
    ] = "own"
    augmentation: Annotated[
        Literal["none", "shift", "flip", "shift and flip", "noise"],
        words(
            "Augmentation",
            "Samples changed at random in training: images shifted by up to an eighth, mirrored, "
            "or both; noise suits inputs that are no images.",
        ),
    ] = "none"
    held_out: Annotated[
        float,
        number(
            "Held out",
            "Share of the recovery data that is not trained on, and decides which weights are "
            "best. 0 decides nothing.",
            0.0,
            0.5,
        ),
    ] = 0.0
    keep: Annotated[
        Literal["last", "best"],
        words("Keep", "The last weights, or the best on the samples held out."),
    ] = "last"
    patience: Annotated[
        int,
        number(
            "Patience",
            "Epochs without a better result on the samples held out before it ends early; 0 never "
            "ends early.",
            0,
            1000,
        ),
    ] = 0
    arithmetic: Annotated[
        Literal["float32", "bfloat16", "auto"],
        words(
            "Arithmetic",
            "Of the training: bfloat16 is faster on processors made for it. auto measures, and may "
            "come out otherwise, with other weights, on another machine.",
        ),
    ] = "float32"
    activations: Annotated[
        Literal["float", "8 bits"],
        words(
            "Activations",
            "What flows between 8-bit layers while it trains: 8 bits let it get used to the "
            "rounding of the exported ONNX file.",
        ),
    ] = "float"
    control: Annotated[
        Literal["none", "dense", "hard labels", "both"],
        words(
            "Control",
            "Trained beside it for comparison: the original for as long (dense), the compressed "
            "network without a teacher (hard labels), or both.",
        ),
    ] = "none"
    norms: Annotated[
        bool,
        words(
            "Only norms",
            "With 0 epochs, still measure the statistics of batch norms again where layers before "
            "them changed. A training always begins with that.",
        ),
    ] = False

    @property
    def learns(self) -> bool:
        """Whether a teacher is needed."""
        return self.distillation > 0.0 or self.hidden != "none"

    @property
    def starts_from_teacher(self) -> bool:
        """Whether a teacher's weights are taken before anything is trained."""
        return self.start == "teacher" and bool(self.teacher) and self.epochs > 0

    @property
    def acts(self) -> bool:
        """Whether it changes anything."""
        return self.epochs > 0 or self.norms


class Preparation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training of the network before it is compressed, so that it hardly misses what goes.

    Layers take part whose choice says how much goes. A controller leads them there, so that
    nobody sets the strength of a penalty.
    """

    way: Annotated[
        Literal[
            "biased decay", "l1", "group lasso", "slimming", "l0", "splice", "learning-compression"
        ],
        words(
            "Way",
            "How weights that go are led to zero: by a decay that spares large ones, by proximal "
            "L1 steps, channel by channel (group lasso), by scales of batch norms (slimming), by "
            "gates (L0), or by pruning weights that may come back (splice). Learning-compression "
            "pulls every layer towards what its method can hold.",
        ),
    ] = "l1"
    epochs: Annotated[int, number("Epochs", "Passes over the recovery data.", 1, 1000)] = 5
    optimizer: Annotated[
        Literal["sgd", "adamw"], words("Optimizer", "SGD with momentum, or AdamW.")
    ] = "sgd"
    learning_rate: Annotated[
        float, number("Learning rate", "At the start; it falls along a cosine.", 1e-7, 10.0)
    ] = 0.01
    batch_size: Annotated[int, number("Batch size", "Samples per step.", 1, 65536)] = 64


class Reconstruction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Layers trained one after the other to give the original's outputs; no labels are needed."""

    samples: Annotated[
        int, number("Samples", "Recovery samples whose outputs are compared.", 1, 1_000_000)
    ] = 2048
    steps: Annotated[int, number("Steps", "Steps for every layer that is trained.", 1, 100_000)] = (
        200
    )
    learning_rate: Annotated[
        float, number("Learning rate", "Of AdamW; it falls along a cosine.", 1e-7, 1.0)
    ] = 1e-3
    batch_size: Annotated[int, number("Batch size", "Samples per step.", 1, 65536)] = 64
    trains: Annotated[
        Literal["changed", "following", "both"],
        words(
            "Trains",
            "The layers that were changed, the layer that follows each, or both at once.",
        ),
    ] = "both"
