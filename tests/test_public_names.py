import subprocess
import sys

import pytest

import trivet


def loaded_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", list(trivet.__all__))
def test_every_public_name_loads(name):
    assert getattr(trivet, name).__module__.startswith("trivet.")


def test_importing_trivet_loads_nothing_heavy():
    loaded = loaded_after("import trivet")
    assert {name for name in loaded if name.startswith("trivet")} == {"trivet"}
    assert not loaded & {"torch", "numpy", "timm", "albumentations", "matplotlib"}


def test_the_doctor_is_an_island():
    loaded = loaded_after("import trivet.doctor.finding")
    ours = {name for name in loaded if name.startswith("trivet")}
    assert ours == {"trivet", "trivet.doctor", "trivet.doctor.finding"}
    assert not loaded & {"timm", "torchvision", "albumentations"}


def test_the_command_line_starts_without_torch():
    assert not loaded_after("import trivet.cli") & {"torch", "timm", "albumentations", "matplotlib"}


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'trivet' has no attribute 'fitt'"):
        _ = trivet.fitt
