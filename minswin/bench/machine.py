"""What a measurement was made on, and the file that it is kept in."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minswin.replacing import write_text

VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "neon": "NEON"}  # widest first
PACKAGES = ("minswin", "numpy", "numba", "torch", "timm", "transformers")


def machine() -> dict[str, Any]:
    """Processor, cores and the versions that matter; None for what cannot be told.

    target: the CPU that numba compiles for, with its widest vectors. blas: whose kernels multiply
    matrices in NumPy.
    """
    from minswin.kernels.blas import core_name
    from minswin.parallel import cores

    return {
        "processor": processor(),
        "target": _target(),
        "blas": core_name(),
        "cores": os.cpu_count(),
        "cores_usable": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The name that the processor gives itself, where there is a way to ask."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_line(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", *PACKAGES) if found[name])
    kinds = (f"compiled for {found['target']}", f"OpenBLAS's kernels for {found['blas']}")
    known = [text for text, name in zip(kinds, ("target", "blas"), strict=True) if found[name]]
    cores = f"{found['cores_usable']} of {found['cores']} cores"
    return "; ".join([f"{found['processor']}, {cores}", *known, versions])


def _target() -> str | None:
    try:
        from llvmlite import binding
    except ImportError:
        return None
    features = binding.get_host_cpu_features()
    widest = next((text for name, text in VECTORS.items() if features.get(name)), "narrow vectors")
    return f"{binding.get_host_cpu_name()} ({widest})"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def save_json(results: Any, path: Path) -> None:
    """Write results to a file, whole or not at all. Named tuples keep their names."""
    text = json.dumps(plain(results), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", who="bench")


def plain(value: Any) -> Any:
    """Dictionaries, lists, numbers and texts only."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
