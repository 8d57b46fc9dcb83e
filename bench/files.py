"""The generated files: each is made once, by a process of its own, and kept while a scenario needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Data:
    """Generated files and what is in them; see bench/data.py for the names and the counts."""

    csv: Path
    rows: int
    written: int
    duplicates: int
    rejected: int
    there: int
    cents: int
    updated_cents: int

    @property
    def parquet(self) -> Path:
        return self.csv.with_suffix(".parquet")

    @property
    def good_csv(self) -> Path:
        return self.csv.with_name(f"{self.csv.stem}-good.csv")

    @property
    def there_csv(self) -> Path | None:
        return self.csv.with_name(f"{self.csv.stem}-there.csv") if self.there else None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make: the options of bench/data.py."""

    rows: int
    wrong: str | None = None
    every: int | None = None
    shuffle: bool = False

    @property
    def name(self) -> str:
        wrong = f"{self.wrong}-{self.every}" if self.wrong else "clean"
        return f"{wrong}-{self.rows}{'-shuffled' * self.shuffle}"

    @property
    def options(self) -> list[str]:
        options = [f"--rows={self.rows}"]
        options += [f"--wrong={self.wrong}", f"--every={self.every}"] if self.wrong else []
        return options + ["--shuffle"] * self.shuffle


class Files:
    """Makes files in a folder and removes them."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._made: dict[Recipe, Data] = {}

    def make(self, recipe: Recipe) -> Data:
        """The files of a recipe, from an earlier call if there was one."""
        if recipe not in self._made:
            self._say(f"making {recipe.name}")
            command = [sys.executable, "-m", "bench.data", str(self._folder / recipe.name), *recipe.options]
            made = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            self._made[recipe] = Data(self._folder / f"{recipe.name}.csv", **json.loads(made.stdout))
        return self._made[recipe]

    def keep(self, *recipes: Recipe) -> None:
        """Remove the files of all other recipes: some gigabytes in the course of a bench."""
        for recipe in [one for one in self._made if one not in recipes]:
            data = self._made.pop(recipe)
            for path in (data.csv, data.parquet, data.good_csv, data.there_csv):
                if path:
                    path.unlink(missing_ok=True)
