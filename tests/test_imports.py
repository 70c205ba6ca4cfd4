"""What imports what: nothing heavy at import, one way between the packages, and SQL in one place."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "diffusers", "transformers", "scipy", "pyloudnorm", "matplotlib", "pandas", "librosa", "gradio")

#: What is imported under another name than it is installed by.
IMPORT_NAMES = {"discord.py": "discord", "pillow": "PIL", "python-dotenv": "dotenv"}

#: Which parts of `ambientgen` a part may import: executor -> render -> {engines, audio} -> recipe -> ... -> errors.
BELOW_PLANNING = {"errors", "spec", "recipe", "vocabulary", "scenes", "prompts"}
BELOW_AUDIO = {"errors", "spec", "audio"}
BELOW_SYNTH = {"errors", "audio", "synth", "engines"}  # of the engines only their interface, see below
BELOW_DIFFUSION = {"errors", "audio", "timings", "vocabulary"}  # what a prompt asks for
BELOW_ENGINES = {"errors", "spec", "recipe", "audio", "synth", "models", "engines", "diffusion", "timings"}
BELOW_RENDER = BELOW_ENGINES - {"models", "synth", "diffusion"}
MAY_IMPORT = {
    "errors": set(),
    "spec": {"errors"},
    "vocabulary": set(),
    "scenes": {"errors", "vocabulary"},
    "prompts": {"scenes", "vocabulary"},
    "recipe": {"errors"},
    "planning": BELOW_PLANNING,
    "ideas": {"errors", "planning", "recipe", "spec", "vocabulary"},
    "lab": BELOW_PLANNING | {"audio", "console", "diffusion", "engines", "models", "planning", "render"},
    "audio": BELOW_AUDIO,
    "synth": BELOW_SYNTH,
    "timings": set(),
    "models": {"errors"},
    "diffusion": BELOW_DIFFUSION,
    "engines": BELOW_ENGINES,
    "stems": BELOW_AUDIO | {"audio", "recipe"},
    "takes": BELOW_RENDER | {"stems"},
    "render": BELOW_RENDER | {"stems", "takes"},
    "executor": BELOW_RENDER | {"render", "stems", "takes"},
    "console": {"engines", "errors"},
    "download": {"errors", "models"},
    "byte_bar": {"console", "models"},
    "doctor": {"errors", "models", "audio", "planning", "recipe", "render", "stems", "engines", "diffusion"},
    "__init__": {"errors", "planning", "recipe", "render", "spec"},
}


def sources(package: str) -> list[Path]:
    """The package's source files."""
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it, by its full name; `from x import y` counts as x and x.y."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def top_levels(path: Path) -> set[str]:
    """The packages a file imports from."""
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize(
    "module",
    ["ambientgen", "bot.__main__", "ambientgen.__main__", "ambientgen.executor", "ambientgen.engines.audioldm2"],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    """The model's packages, and those of tests and benchmarks, are loaded by whoever needs them, when they do."""
    code = f"import sys, {module}; print(*sorted(m for m in {HEAVY} if m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == ""


@pytest.mark.parametrize("path", sources("ambientgen"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_sound_knows_nothing_of_the_bot(path: Path) -> None:
    """`ambientgen` imports neither the bot nor Discord nor a database."""
    assert not top_levels(path) & {"bot", "discord", "aiosqlite", "sqlite3", "simcord"}


@pytest.mark.parametrize("path", sources("ambientgen"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_in_the_sound_run_one_way(path: Path) -> None:
    """Each part imports only what lies below it."""
    part = path.relative_to(ROOT / "ambientgen").parts[0].removesuffix(".py")
    if part == "__main__":
        return
    own = {name.split(".")[1] for name in imported(path) if name.startswith("ambientgen.")} - {part, "__version__"}
    assert own <= MAY_IMPORT[part], f"{path.name} imports {sorted(own - MAY_IMPORT[part])}"


def test_audio_never_imports_engines() -> None:
    """Sound processing knows nothing of who made the sound."""
    for path in sources("ambientgen/audio"):
        assert not any(name.startswith(("ambientgen.engines", "ambientgen.render")) for name in imported(path)), path


def test_textures_know_the_engines_interface_alone() -> None:
    """A texture reports progress as every engine does, and knows no engine."""
    for path in sources("ambientgen/synth"):
        engines = {name for name in imported(path) if name.startswith("ambientgen.engines")}
        assert all(name.startswith("ambientgen.engines.base") for name in engines), path


def test_the_store_never_imports_discord() -> None:
    """What survives a restart knows nothing of Discord, of the queue or of the cards."""
    for path in sources("bot/store"):
        assert "discord" not in top_levels(path), path
        own = {name for name in imported(path) if name.startswith("bot.") and not name.startswith("bot.store")}
        assert own == set(), path


def test_the_queue_never_imports_discord() -> None:
    """Whose turn it is does not depend on how it is shown."""
    assert "discord" not in top_levels(ROOT / "bot" / "jobs.py")


def test_only_the_store_speaks_sql() -> None:
    """The database's packages are imported in `bot/store` and nowhere else."""
    users = {path for package in ("ambientgen", "bot") for path in sources(package)}
    users = {path for path in users if top_levels(path) & {"sqlite3", "aiosqlite"}}
    assert users
    assert {path.parent for path in users} == {ROOT / "bot" / "store"}


def test_cogs_do_not_import_their_siblings_commands() -> None:
    """A command group uses another one's shared helper at most, never its commands."""
    for path in sources("bot/cogs"):
        siblings = {name for name in imported(path) if name.startswith("bot.cogs.")}
        assert not any(name.endswith(".add_commands") for name in siblings), path


def test_only_the_executor_knows_threads_and_asyncio() -> None:
    """In `ambientgen` one module starts threads, and the same one alone knows of an event loop."""
    users = {
        path.relative_to(ROOT / "ambientgen").as_posix()
        for path in sources("ambientgen")
        if top_levels(path) & {"asyncio", "concurrent"}
    }
    assert users == {"executor.py"}


def test_nothing_is_imported_that_is_not_required() -> None:
    """Without the extras, every package imported at the top of a file is one of the base requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {IMPORT_NAMES.get(name, name) for name in project["dependencies"]} | {"ambientgen", "bot"}
    for path in sources("ambientgen") + sources("bot"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                tops = {name.partition(".")[0] for name in names}
                assert tops <= base | set(sys.stdlib_module_names), f"{path}: {tops}"
