"""Building, keeping and loading the kernels, and doing without."""

import os
import shutil
from pathlib import Path

import pytest

from tests.models.kernels.needs import needs_kernels
from trivet.models.kernels import library


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Loads anew, with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(library.SWITCH, raising=False)
    monkeypatch.setattr(
        library, "_FLAGS", tuple(flag for flag in library._FLAGS if flag not in ("-O3", "-march=native"))
    )  # quick

    def again() -> library._Loaded:
        return library._load_once.__wrapped__()

    return again


def built(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "trivet" / "kernels").glob("*.so"))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler on this machine")
def test_there_are_kernels_where_there_is_a_compiler():
    if os.environ.get(library.SWITCH) != "0":
        assert library.kernels() is not None, library.kernels_status()
        assert library.kernels_status() == "Training on a CPU uses Trivet's compiled kernels."


@needs_kernels
def test_built_once_then_taken_from_the_cache(load, tmp_path, monkeypatch):
    assert load().functions is not None
    (file,) = built(tmp_path)
    assert file.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(library, "_build", lambda *_: pytest.fail("built twice"))
    assert load().functions is not None


@needs_kernels
@pytest.mark.parametrize("damage", ["cut", "not a library", "writable by others"])
def test_a_damaged_or_foreign_file_is_built_again(load, tmp_path, damage):
    load()
    (file,) = built(tmp_path)
    whole = file.read_bytes()
    fresh = file.with_name("fresh")
    fresh.write_bytes(
        {"cut": whole[:1000], "not a library": b"no" * 999, "writable by others": whole}[damage]
    )
    fresh.chmod(0o666 if damage == "writable by others" else 0o700)
    fresh.replace(file)  # in one step: the old file is mapped into this process
    assert load().functions is not None
    assert file.stat().st_mode & 0o022 == 0
    assert file.stat().st_size == len(whole)


@needs_kernels
def test_a_cache_that_others_can_write_is_not_used(load, tmp_path):
    folder = tmp_path / "trivet" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert load().functions is not None
    assert not built(tmp_path)


@needs_kernels
def test_a_cache_that_cannot_be_made(load, tmp_path):
    (tmp_path / "trivet").write_text("a file, not a folder")
    assert load().functions is not None


@needs_kernels
def test_a_cache_that_cannot_be_written(load, tmp_path, monkeypatch):
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: mode != os.W_OK and real(path, mode)
    )  # root may write all
    assert load().functions is not None
    assert not built(tmp_path)


def test_switched_off(load, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "0")
    loaded = load()
    assert loaded.functions is None
    assert loaded.status == "Training on a CPU uses PyTorch's own operators: TRIVET_KERNELS=0 is set."


def test_without_a_compiler(load, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    loaded = load()
    assert loaded.functions is None
    assert "there is no C compiler (gcc or cc)" in loaded.status


def test_with_a_compiler_that_fails(load, monkeypatch, tmp_path):
    compiler = tmp_path / "broken-cc"
    compiler.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'cannot find stdlib.h' >&2\nexit 1\n"
    )
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    loaded = load()
    assert loaded.functions is None
    assert "broken-cc cannot build them (cannot find stdlib.h)" in loaded.status
    assert not built(tmp_path)


@needs_kernels
def test_with_a_compiler_that_builds_something_else(load, monkeypatch, tmp_path):
    compiler = tmp_path / "other-cc"
    gcc = shutil.which("gcc")
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = -shared ] && {{ echo "int x;" > {tmp_path}/x.c; exec {gcc} -shared -fPIC -o "$3" {tmp_path}/x.c; }}\nexec {gcc} "$@"\n'
    )
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    loaded = load()
    assert loaded.functions is None
    assert "the built file does not load" in loaded.status


@needs_kernels
def test_no_second_openmp_library_is_loaded():
    assert library.kernels() is not None
    maps = Path("/proc/self/maps").read_text().splitlines()
    loaded = {line.split()[-1] for line in maps if "libgomp" in line}
    kept = {path for path in loaded if "torch" in path}
    assert kept or not loaded
    assert not [path for path in loaded if path.startswith(("/usr/lib", "/lib"))] or not kept
