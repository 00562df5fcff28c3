"""The house stands as its plan says: which room may know which, what loads with the definitions, how large a room
is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("methods", "resources", "assets", "sensors", "jobs")
"""From the ground up: a room may know the rooms before it, and itself."""
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "sklearn",
    "scipy",
    "numba",
    "faiss",
    "openai",
    "nltk",
    "simplemma",
    "lancedb",
    "great_expectations",
    "pandas",
    "pyarrow",
    "altair",
)


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_knows_a_room_above_it(room: str) -> None:
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in modules(room)
        for name in imports(path)
        if name.split(".")[0] in above
    ]
    assert not wrong


def test_science_knows_no_dagster() -> None:
    assert not [
        str(path) for path in modules("methods") if any(name.split(".")[0] == "dagster" for name in imports(path))
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_says_what_belongs_in_it(room: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules(room)
        if len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") < 40
    ]
    assert not silent


@pytest.mark.parametrize("room", ROOMS)
def test_a_file_holds_one_idea(room: str) -> None:
    assert not {
        str(path.relative_to(ROOT)): n
        for path in modules(room)
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }


def test_dagster_modules_keep_their_annotations() -> None:
    """Dagster reads annotations at run time; postponed ones break assets, sensors, configs and resources."""
    for room in ("assets", "sensors", "resources", "jobs"):
        for path in modules(room):
            if "dagster" in imports(path):
                assert "from __future__ import annotations" not in path.read_text(encoding="utf-8"), path


def test_loading_the_definitions_is_quick_and_imports_nothing_heavy(tmp_path: Path) -> None:
    """Every step process and every reload of the UI pays for what is imported here."""
    code = (
        "import sys, time, dagster\n"
        "start = time.process_time()\n"
        "import jobs.definitions\n"
        "print(time.process_time() - start)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"SLUICE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    seconds, heavy = run.stdout.splitlines()[-2:]
    assert heavy == "[]"
    assert float(seconds) < 1.5
