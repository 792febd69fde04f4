"""Files of the repository that repeat a version agree."""

import re
from pathlib import Path

import pytest
import yaml


def version(repository: Path) -> str:
    return re.search(r'^version = "(.+)"', (repository / "pyproject.toml").read_text(), re.M)[1]


def test_the_version_is_the_same_everywhere(repository: Path) -> None:
    assert str(yaml.safe_load((repository / "CITATION.cff").read_text())["version"]) == version(repository)
    assert re.findall(r"^## (\S+)", (repository / "CHANGELOG.md").read_text(), re.M)[0] == version(repository)


@pytest.mark.parametrize(("hook", "package"), [("ruff-check", "ruff"), ("ruff-format", "ruff"), ("mypy", "mypy")])
def test_pre_commit_runs_the_pinned_versions(repository: Path, hook: str, package: str) -> None:
    repos = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"]
    (revision,) = (repo["rev"] for repo in repos if hook in [each["id"] for each in repo["hooks"]])
    assert f"\n{package}=={revision.removeprefix('v')}\n" in (repository / "constraints.txt").read_text()


def test_ci_installs_the_pinned_torch(repository: Path) -> None:
    workflow = yaml.safe_load((repository / ".github/workflows/ci.yml").read_text())
    assert f"\n{workflow['env']['TORCH_CPU'].split()[0]}\n" in (repository / "constraints.txt").read_text()


@pytest.mark.parametrize("package", ["common", "methods"])
def test_types_are_shipped(repository: Path, package: str) -> None:
    assert (repository / package / "py.typed").is_file()
    assert '"py.typed"' in (repository / "pyproject.toml").read_text()


def test_every_dependency_is_documented(repository: Path) -> None:
    """Each package has a lower bound, a line in docs/dependencies.md, and a pinned version."""
    text = (repository / "pyproject.toml").read_text()
    declared = re.findall(
        r'^\s+"([A-Za-z0-9-]+)(?:\[.+\])?(>=[^"]+)?"', text.split("dependencies = [")[1].split("]\n\n")[0], re.M
    )
    declared += re.findall(r'"([a-z-]+)(>=[^"]+)?"', re.search(r"^dev = \[(.+)\]", text, re.M)[1])
    documented = (repository / "docs" / "dependencies.md").read_text()
    pinned = (repository / "constraints.txt").read_text().lower()
    assert len(declared) == 20
    for name, bound in declared:
        assert bound, name
        assert name in documented
        assert f"\n{name}==" in pinned


def test_workflows_and_forms_are_valid_yaml(repository: Path) -> None:
    files = [*(repository / ".github").rglob("*.yml")]
    assert len(files) == 5
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text()), dict), file.name
