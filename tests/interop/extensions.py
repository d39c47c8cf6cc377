"""Where DuckDB's extensions are."""

import importlib.util
from pathlib import Path


def extension_directory(name):
    """The folder with one of DuckDB's extensions, as pip installed it."""
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    return Path(package.origin).parent / "extensions"


def extension_folder(folder, *names):
    """A folder with several of DuckDB's extensions."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (file,) = extension_directory(name).rglob(f"{name}.duckdb_extension")
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    return folder
