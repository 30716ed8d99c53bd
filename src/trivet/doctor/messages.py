"""Translates torch's exceptions: what is wrong in the user's terms, and what to write."""

import re
from collections.abc import Callable

Told = tuple[str, str]
"""The cause, and the remedy."""


def translated(message: str) -> Told | None:
    """Return the cause and the remedy behind the message of an exception, or `None` for an unknown one.

    Example:
        >>> translated("mat1 and mat2 shapes cannot be multiplied (4x144 and 100x2)")[0]
        'a linear layer for 100 features is given 144'
    """
    for pattern, tell in MESSAGES:
        match = re.search(pattern, message)
        if match is not None:
            return tell(match)
    return None


def _fixed(cause: str, remedy: str) -> Callable[[re.Match[str]], Told]:
    return lambda _: (cause, remedy)


def _linear(match: re.Match[str]) -> Told:
    given, wanted = match["given"], match["wanted"]
    return (
        f"a linear layer for {wanted} features is given {given}",
        f"make it `nn.Linear({given}, ...)`, or bring what comes before to {wanted} features: "
        "`x.flatten(1)` keeps the samples apart, and the image size fixes the count",
    )


def _batch_sizes(match: re.Match[str]) -> Told:
    one, other = match["one"], match["other"]
    return (
        f"the output is of {one} samples and the target of {other}",
        "look at what reshapes the output (`view(-1, n)` moves samples into classes; `flatten(1)` does not) "
        "or shortens the target",
    )


def _sizes(match: re.Match[str]) -> Told:
    target, output = match["target"], match["output"]
    return (
        f"the target has the shape {target} and the output {output}: this loss compares them value by value",
        "give both one shape: `output.squeeze(1)` for (n, 1) against (n,), one-hot targets for (n, classes)",
    )


def _channels(match: re.Match[str]) -> Told:
    shape = [int(size) for size in re.findall(r"\d+", match["shape"])]
    wanted, given = int(match["wanted"]), int(match["given"])
    cause = f"a convolution for {wanted} channels is given {given}"
    if len(shape) == 4 and shape[-1] == wanted:
        return f"{cause}: the channels stand last, as {shape} shows", "move them: `x.permute(0, 3, 1, 2)`"
    return cause, f"make it `nn.Conv2d({given}, ...)`, or give it {wanted} channels (grey images: `expand`)"


LABELS = (
    "class labels are wanted as integers, and are given in another type",
    "`target.long()` for class indices; probabilities must have the shape of the output",
)
FLOATS = ("this loss wants a target of the type of the output, and is given integers", "`target.float()`")
MESSAGES: tuple[tuple[str, Callable[[re.Match[str]], Told]], ...] = (
    (
        r"shapes cannot be multiplied \((\d+)x(?P<given>\d+) and (?P<wanted>\d+)x(\d+)\)",
        _linear,
    ),
    (r"input batch_size \((?P<one>\d+)\) to match target batch_size \((?P<other>\d+)\)", _batch_sizes),
    (
        r"[Tt]arget size \(torch.Size\((?P<target>[^)]*)\)\).*input size \(torch.Size\((?P<output>[^)]*)\)\)",
        _sizes,
    ),
    (
        r"expected input\[(?P<shape>[^\]]*)\] to have (?P<wanted>\d+) channels, but got (?P<given>\d+) channels",
        _channels,
    ),
    (
        r"target dtype to be Long|scalar type Long but found|not implemented for '(Float|Int)'.*nll",
        _fixed(*LABELS),
    ),
    (
        r"Found dtype Long but expected Float|result type Float can't be cast to the desired output type Long",
        _fixed(*FLOATS),
    ),
    (
        r"0D or 1D target tensor expected",
        _fixed(
            "the target has a second axis: it is a column, or one-hot",
            "`target.squeeze(1)` for a column (n, 1), `target.argmax(1)` for one-hot integers",
        ),
    ),
    (
        r"only batches of spatial targets supported",
        _fixed(
            "the map of labels has a channel axis: (n, 1, h, w), or a colour for each pixel",
            "`mask.squeeze(1)`, or turn colours into class indices (n, h, w)",
        ),
    ),
    (
        r"Expected all tensors to be on the same device",
        _fixed(
            "the model and what it is given are on different devices",
            "`model.to(device)` before the optimizer is made, and `batch.to(device)` in the loop; what a forward "
            "makes itself wants `device=x.device`, and constants of a module `register_buffer`",
        ),
    ),
    (
        r"Input type \((?P<given>[^)]*)\) and weight type|expected m1 and m2 to have the same dtype|"
        r"mat1 and mat2 must have the same dtype",
        _fixed(
            "the input is of another type than the weights: integers, or numpy's float64",
            "`x.float()` (images: `x.float() / 255`)",
        ),
    ),
    (
        r"backward through the graph a second time",
        _fixed(
            "the loss reaches into the graph of an earlier step, which is gone: a state that is carried over, or a "
            "tensor that was computed once, outside the loop",
            "compute it anew in each step, or cut what is carried over (`hidden = hidden.detach()`); "
            "`retain_graph=True` only hides it, and memory grows",
        ),
    ),
    (
        r"stack expects each tensor to be equal size",
        _fixed(
            "the samples of a batch have different sizes",
            "resize or pad in the data set, or give the DataLoader a `collate_fn` that keeps a list",
        ),
    ),
    (
        r"index out of range in self",
        _fixed(
            "an embedding is asked for an index beyond its table",
            "give it `num_embeddings` above the largest index, and look for padding by -1",
        ),
    ),
    (
        r"device-side assert",
        _fixed(
            "a kernel met an index out of range, nearly always a class label; the line shown is a later one",
            "run once on the CPU, which names the line and the label",
        ),
    ),
    (
        r"out of memory|can't allocate memory",
        _fixed(
            "a step needs more memory than there is",
            "a smaller batch with accumulation, or smaller images; `trivet plan` says what fits",
        ),
    ),
    (
        r"Error\(s\) in loading state_dict",
        _fixed(
            "the weights are those of another model, or their names have another prefix",
            "compare the first missing and unexpected keys: `module.` (DataParallel) and `_orig_mod.` "
            "(torch.compile) are taken off by `removeprefix`",
        ),
    ),
    (
        r"start a new process before the\s+current process has finished its bootstrapping",
        _fixed(
            "workers are spawned, and each runs the script again",
            "put the script's work into a function and call it under `if __name__ == '__main__':`",
        ),
    ),
    (
        r"DataLoader worker \(pid.*(killed|exited unexpectedly)|unexpected bus error",
        _fixed(
            "a worker of the loader died: of memory, or of too small a shared memory",
            "`num_workers=0` shows its own exception; fewer workers, or a larger /dev/shm",
        ),
    ),
)
"""Patterns of messages and what to tell of them, most special first."""
