"""Bare virtual environments that hold exactly the distributions named, without a package index.

The files are links into the environment that runs the tests, so an environment costs a moment and is still
honest: what is not in the closure of the requirements cannot be imported.
"""

import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment at `root`."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def site(self) -> Path:
        return next((self.root / "lib").glob("python3.*")) / "site-packages"

    def install(self, wheel: Path) -> None:
        """Install a wheel file as pip does, without its dependencies."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end, outside the checkout."""
        return subprocess.run(
            self._command(command),
            cwd=cwd,
            env=self._variables(cwd),
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def started(self, *command: str, cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program of the environment in the background; it is killed if it outlives the block."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command(command), cwd=cwd, env=self._variables(cwd), stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _command(self, command: Sequence[str]) -> list[str]:
        return [str(self.root / "bin" / command[0]), *command[1:]]

    def _variables(self, home: Path) -> dict[str, str]:
        """Nothing of the tests' own environment leaks in."""
        return {"PATH": f"{self.root / 'bin'}:/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}


def make_environment(root: Path, requirements: Iterable[str]) -> Environment:
    """Create a virtual environment with the closure of `requirements`, linked from the running one."""
    venv.create(root, with_pip=False, symlinks=True)
    environment = Environment(root=root)
    for found in _closure(requirements):
        for top in sorted({file.parts[0] for file in found.files or () if file.parts[0] != ".."}):
            source, target = Path(str(found.locate_file(top))), environment.site / top
            if source.exists() and not target.exists() and top != "__pycache__":
                target.symlink_to(source)
    return environment


def _closure(requirements: Iterable[str]) -> Iterator[Distribution]:
    pending, seen = [Requirement(text) for text in requirements], set[str]()
    while pending:
        requirement = pending.pop()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not applies or requirement.name.lower() in seen:
            continue
        seen.add(requirement.name.lower())
        found = distribution(requirement.name)
        pending += [Requirement(text) for text in found.requires or ()]
        yield found
