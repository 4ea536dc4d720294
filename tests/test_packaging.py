"""What is handed out: the source distribution has all that is tracked, the wheel all that runs.

Both are built here, without a network, from the files of this checkout.
"""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import minswin

ROOT = Path(__file__).parents[1]
build = pytest.importorskip("hatchling.build")


def files_in_git() -> set[str]:
    """Those that git tracks, or would after `git add`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if not (ROOT / ".git").exists():
        pytest.skip("this folder is not a git checkout")
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in names.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build.build_sdist(str(folder))
    with tarfile.open(folder / name) as archive:
        yield {
            member.name.split("/", 1)[1]: archive.extractfile(member)
            for member in archive.getmembers()
            if member.isfile()
        }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build.build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as archive:
        yield {name: archive.read(name) for name in archive.namelist()}


def test_the_source_distribution_has_every_file_that_git_has(sdist):
    assert set(sdist) - {"PKG-INFO"} == files_in_git()


def test_the_source_distribution_can_be_tested_and_built_again(sdist):
    needed = {"pyproject.toml", ".gitignore", "README.md", "CHANGELOG.md", "tests/conftest.py"}
    needed |= {f"tests/{path.name}" for path in Path(__file__).parent.glob("*.py")}
    needed |= {f"examples/{path.name}" for path in (ROOT / "examples").iterdir() if path.is_file()}
    assert needed <= set(sdist)


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel):
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "minswin").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for kind in (".py", ".typed", ".cu", ".h", ".html", ".js", ".safetensors", ".json", ".md"):
        assert any(name.endswith(kind) for name in package), kind
    assert {name for name in wheel if ".dist-info/" not in name} == package


def test_the_version_stands_in_one_place_and_the_changelog_has_it(sdist):
    described = Parser().parsestr(sdist["PKG-INFO"].read().decode("utf-8"))
    assert described["Version"] == minswin.__version__
    assert f"\n## {minswin.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"\nversion: {minswin.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
