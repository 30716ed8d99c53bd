"""The part of a trace that is about models: their parameters, layers and modes."""

from dataclasses import dataclass, field

from trivet.doctor.source import Place


@dataclass
class ParameterTrace:
    """A parameter of a module, or a tensor in an optimizer.

    Args:
        name: Dotted path from the variable that holds the model: `model.decoder.weight`.
        model: Name of the outermost module, empty for a tensor of no module.
        owner: Class of the module that holds it directly.
        place: Where the user's code makes it.
        born: Optimizers that there were when it was registered; `None` when not known.
        filled: Where a function of `torch.nn.init` last filled a parameter of its layer for the user's code.
        drawn: Where one last filled this parameter itself.
        optimizers: Indices of the optimizers that ever held it.
        rate: Highest learning rate of its group that was seen.
        observed: Recorded optimizer steps at which it was looked at.
        with_gradient, with_nonzero: At how many of them it had a gradient, and one other than zero.
        own_nonzero: Steps of an optimizer that holds it at which it had a gradient other than zero.
        reached: In how many of the walked backward passes the loss' graph led to it; `None` if none was walked.
        answered: Whether it led to what a model gave the user's code, in a training forward.
        reached_from: The line that made the first loss whose graph led to it.
        flat_at, flat_by: Where its gradient, always 0, became so, and by which operation.
        zero_at: Where its values were made, or filled, that all are 0 at the end.
        first_energy: Square of the gradient's norm at the first step that had any.
        gradient_norms, weight_norms: At recorded steps (a bounded sample), before the update.
        changed: Whether its values were seen to move; `None` when looked at once only.
        moved_while_frozen: Steps of an optimizer in which it moved without requiring a gradient.
        decayed_only: Steps in which its gradient was zero everywhere and the optimizer moved it.
        masked_rows, masked_moved: Rows whose gradient a hook made zero at every look, and the steps in which they moved.
        called: Whether the module that holds it was called in a recorded step; `None` when not known.
        called_with_gradient: Whether it was called with gradients enabled.
        in_eval, in_train: Recorded training steps whose forward found its module in either mode.
        cut: Where the user's code takes it (or what depends on it) out of the graph.
        registered: Whether a module hands it out with `parameters()`.
        gone: Whether its model holds it no longer.
        hidden_at: Where that attribute is set.
        misspelt: An attribute of it, set to False, whose name is nearly `requires_grad`.
        contiguous: Whether its values lie in memory in the order of its shape.
        hidden_in: The module and attribute of a plain list or dict that keeps it from being registered.
        poisoned: Values that were never filled, of a model built with poisoned memory.
        largest, denormal_share: Largest magnitude and share of denormal values when first seen.
    """

    name: str
    model: str
    owner: str
    shape: list[int]
    count: int
    requires_grad: bool
    place: Place | None = None
    born: int | None = None
    filled: Place | None = None
    drawn: Place | None = None
    optimizers: list[int] = field(default_factory=list)
    rate: float = 0.0
    observed: int = 0
    with_gradient: int = 0
    with_nonzero: int = 0
    own_nonzero: int = 0
    reached: int | None = None
    answered: bool = False
    reached_from: Place | None = None
    flat_at: Place | None = None
    flat_by: str = ""
    zero_at: Place | None = None
    first_energy: float = 0.0
    gradient_norms: list[float] = field(default_factory=list)
    weight_norms: list[float] = field(default_factory=list)
    changed: bool | None = None
    moved_while_frozen: int = 0
    decayed_only: int = 0
    masked_rows: int = 0
    masked_moved: int = 0
    called: bool | None = None
    called_with_gradient: bool = False
    in_eval: int = 0
    in_train: int = 0
    cut: Place | None = None
    registered: bool = True
    gone: bool = False
    hidden_in: str | None = None
    hidden_at: Place | None = None
    misspelt: str = ""
    misspelt_at: Place | None = None
    contiguous: bool = True
    poisoned: int = 0
    largest: float = 0.0
    denormal_share: float = 0.0
    alive: bool = True


@dataclass
class BatchNormTrace:
    """A batch-norm layer: its settings, and what went through it while training.

    Args:
        eval_place: Where it was put to eval by itself.
        batches: Batches its running statistics have seen, by its own count.
        initial: Whether they are still exactly 0 and 1.
        kept_share: Weight that the initial 0 and 1 had in them when last evaluated in eval mode; 0 when not known.
        drift: How far they lay from the statistics of training batches then, in standard deviations.
    """

    name: str
    momentum: float | None
    eps: float
    place: Place | None = None
    eval_place: Place | None = None
    tracks: bool = True
    affine_trainable: bool = False
    calls_in_train: int = 0
    calls_in_eval: int = 0
    samples: list[int] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    jitter: list[float] = field(default_factory=list)
    batches: int = 0
    initial: bool = False
    kept_share: float = 0.0
    drift: float = 0.0


@dataclass
class ModelTrace:
    """An outermost module.

    Args:
        trained: Whether some of its parameters received a gradient.
        mode_dependent: Whether it holds layers that differ between train and eval (active dropout, batch norm).
        dropouts: Layers of dropout that act in train mode.
        steps_in_train, steps_in_eval: Optimizer steps whose forward (with gradients) ran in either mode.
        eval_after_train: Such steps in eval mode after others in train mode.
        eval_place, train_place: Where the user's code last switched it; to eval, what held as it was trained in eval mode.
        evaluations_in_train, evaluations_in_eval: Phases of forwards without gradients between training steps.
        unseen_in_train: Such phases in train mode that began with samples which were not trained on.
        called_at: Names of parts that some parameters without any gradient are in -> where they are called.
        evaluation_place: Where the first such phase in train mode was called.
        deaf_train: Where its own `train(mode)` calls that of its base class without the mode.
        new_norms: Batch norms whose statistics were those of new layers when a copy that is not trained itself, but
            whose weights move, was evaluated.
        follows_at: Where the weights of such a copy are written.
        fed_at: Where the user's code makes what it is first called with, where that can be read.
        made_once: Attributes that hold a tensor with a graph before the first forward, and where they are set.
        repeated: Containers that hold one module with parameters several times: container, class, count, line.
        fake_freezes: Submodules with a plain attribute `requires_grad = False`, which freezes nothing.
        fake_freeze_places: Where these attributes are set.
        fake_freeze_parameters: By what names their parameters are known, as of another model that has them too.
        eval_parts: Submodules put to eval on their own while the model trains.
        freeze_place: Where the user's code freezes parts of it.
        frozen_norms: Frozen parts (name) whose batch-norm statistics moved, with the count of batches.
    """

    name: str
    kind: str
    place: Place | None = None
    trained: bool = False
    mode_dependent: bool = False
    dropouts: int = 0
    steps_in_train: int = 0
    steps_in_eval: int = 0
    eval_after_train: int = 0
    called_at: dict[str, Place] = field(default_factory=dict)
    ever_eval: bool = False
    eval_place: Place | None = None
    train_place: Place | None = None
    evaluations_in_train: int = 0
    unseen_in_train: int = 0
    evaluations_in_eval: int = 0
    evaluation_place: Place | None = None
    deaf_train: Place | None = None
    new_norms: int = 0
    follows_at: Place | None = None
    fed_at: Place | None = None
    made_once: dict[str, Place | None] = field(default_factory=dict)
    repeated: list["RepeatedModule"] = field(default_factory=list)
    fake_freezes: list[str] = field(default_factory=list)
    fake_freeze_places: dict[str, Place] = field(default_factory=dict)
    fake_freeze_parameters: dict[str, list[str]] = field(default_factory=dict)
    eval_parts: dict[str, Place] = field(default_factory=dict)
    freeze_place: Place | None = None
    frozen_norms: dict[str, int] = field(default_factory=dict)


@dataclass
class RepeatedModule:
    """One module with parameters in several places of a container; `shallow` when only its parts are the same objects."""

    container: str
    container_kind: str
    kind: str
    times: int
    parameters: int
    place: Place | None = None
    shallow: bool = False
