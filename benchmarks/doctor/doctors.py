"""Every doctor that can be scored: how it is started on a program, and what its words mean in our names."""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Said:
    """One thing a doctor said.

    Args:
        names: Our names of the faults it may stand for; empty when it names a mere symptom.
        severity: `error`, `warning` or `note`.
        file: Source file it points at, or None.
        line: Line it points at, or None.
        text: Its own words, shortened.
    """

    names: tuple[str, ...]
    severity: str
    file: str | None = None
    line: int | None = None
    text: str = ""


@dataclass(frozen=True)
class Doctor:
    """A doctor: a command line, and a dictionary from its names to ours.

    Args:
        name: Name on the command line of `score.py`.
        requirements: File of what it needs beside the programs' own needs.
        meaning: Its name of a finding -> our names; None when it speaks our names already. Read generously: every
            cause a finding may reasonably stand for.
    """

    name: str
    requirements: str | None = None
    meaning: Mapping[str, tuple[str, ...]] | None = field(default=None, repr=False)

    def command(self, python: str, program: Path, out: Path) -> list[str]:
        """Return the command that runs the program under this doctor and writes what it says to `out`."""
        if self.name == "none":
            return [python, str(program)]
        if self.name == "trivet":
            return [python, "-m", "trivet.doctor", "run", "--quiet", "--json", str(out), str(program)]
        return [python, str(HERE / "peer_run.py"), self.name, str(out), str(program)]

    def read(self, out: Path) -> list[Said]:
        """Return what was written, in the doctor's own order of importance."""
        if not out.exists():
            return []
        told = json.loads(out.read_text())["findings"]
        said = []
        for one in told:
            names = (one["name"],) if self.meaning is None else self.meaning.get(one["name"], ())
            where = one.get("where") or {}
            words = f"{one['name']}: {one['title']}"[:200]
            said.append(Said(names, one["severity"], where.get("file"), where.get("line"), words))
        return said


TORCHTEST2 = {
    "optimizer_coverage": (
        "parameter-not-in-optimizer",
        "foreign-parameter-in-optimizer",
        "unregistered-module",
    ),
    "gradient_flow": ("parameter-without-gradient", "loss-detached", "dead-relu"),
    "params_change": ("parameter-never-changes", "parameter-not-in-optimizer"),
    "frozen_params": ("frozen-part-changes", "fake-freeze", "regularisation-moves-frozen-weights"),
    "forward": ("inplace-on-saved-tensor", "label-out-of-range"),
    "loss": (
        "loss-detached",
        "non-finite",
        "all-targets-ignored",
        "label-out-of-range",
        "inplace-on-saved-tensor",
    ),
    "output_finite": ("non-finite", "uninitialised-parameter"),
    "output_varies": ("signal-collapse", "dead-relu"),
    "eval_determinism": ("random-in-eval",),
    "batch_independence": ("samples-mixed",),
    "gradient_magnitude": ("exploding-gradient", "vanishing-gradient", "non-finite"),
    "initial_loss": ("uninitialised-parameter", "exploding-gradient"),
}
TORCH_AUDIT = {
    "TA100": ("non-finite", "all-targets-ignored"),
    "TA102": ("exploding-gradient", "missing-zero-grad"),
    "TA103": ("dead-relu", "vanishing-gradient"),
    "TA104": ("loss-detached", "parameter-without-gradient", "parameter-never-changes"),
    "TA105": ("dead-relu", "signal-collapse"),
    "TA301": ("input-not-normalised",),
    "TA302": ("input-normalised-twice",),
    "TA304": ("batchnorm-few-samples",),
    "TA305": ("label-out-of-range", "non-finite"),
    "TA500": ("parameter-without-gradient",),
    "TA501": ("repeated-module",),
}
TORCHMORTEM = {
    "gradient_flow/vanishing": ("vanishing-gradient", "signal-collapse"),
    "gradient_flow/exploding": ("exploding-gradient",),
    "gradient_flow/stalling": ("vanishing-gradient", "dead-relu", "parameter-without-gradient"),
    "dead_units": ("dead-relu",),
    "saturation": ("vanishing-gradient",),
    "update_ratio/low": ("lr-too-low", "parameter-never-changes", "scheduler-collapses-lr"),
    "update_ratio/high": ("lr-too-high",),
    "rank_collapse": ("signal-collapse",),
    "loss_dynamics": ("plateau", "lr-too-high", "non-finite"),
    "weight_norm": ("lr-too-high", "parameter-never-changes"),
}
DOCTORS = {
    doctor.name: doctor
    for doctor in (
        Doctor("none"),
        Doctor("trivet"),
        Doctor("torchtest2", "peers.txt", TORCHTEST2),
        Doctor("torch-audit", "peers.txt", TORCH_AUDIT),
        Doctor("torchmortem", "peers.txt", TORCHMORTEM),
    )
}


def interpreter(folder: Path, requirements: tuple[str, ...]) -> str:
    """Return an interpreter that has `requirements` beside all packages of the running one, made once.

    The new environment sees the running interpreter's packages through a .pth file, so nothing is installed twice and
    nothing is installed into the project's own environment.
    """
    stem = "-".join(Path(name).stem for name in requirements)
    home = folder / stem
    python = home / "bin" / "python"
    stamp = home / "complete"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = sysconfig.get_paths()["purelib"]
        link = f"import site; site.addsitedir({packages!r})\n"  # addsitedir: editable installs are .pth files themselves
        (home / "lib" / version / "site-packages" / "base.pth").write_text(link)
        asked = [part for name in requirements for part in ("-r", str(HERE / name))]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *asked], check=True)
        stamp.touch()
    return str(python)
