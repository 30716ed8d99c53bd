"""A trained model as one ONNX file, from raw pixels to predictions.

`require_packages` says what to install; every module beside this one needs the extra `export`.
"""

from importlib.util import find_spec

from trivet.errors import UsageError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def has_packages() -> bool:
    """Return whether the packages of the extra `export` are installed."""
    return all(find_spec(name) is not None for name in PACKAGES)


def require_packages() -> None:
    """Check that the packages of the extra `export` are installed.

    Raises:
        UsageError: If one is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"ONNX needs {', '.join(missing)}, which is not installed", "pip install 'trivet[export]'"
        )
