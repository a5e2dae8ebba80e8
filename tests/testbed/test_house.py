"""What the repository promises about itself: reasons for dependencies, current files, links that lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def test_every_dependency_has_its_reason_and_no_reason_is_left_over() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
        *project["dependency-groups"]["dev"],
        *(line for line in (ROOT / "requirements-build.in").read_text().splitlines() if line[:1] != "#"),
    ]
    wanted = {Requirement(line).name.lower() for line in lines}
    rows = re.findall(r"^\| ([a-z0-9-]+) \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    assert set(rows) - {"package"} == wanted


def test_generated_files_and_locks_are_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "generated.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_between_the_documents_lead_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not dead


def test_scripts_are_sound_and_executable() -> None:
    scripts = [ROOT / ".ci" / "run", *(ROOT / "tools").glob("*.sh")]
    for script in scripts:
        assert script.stat().st_mode & 0o111, script
        subprocess.run(["bash", "-n", str(script)], check=True)
