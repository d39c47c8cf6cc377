"""Parts of the server's configuration that several subjects need."""

from extensions import extension_folder


def secret(name, kind, **values):
    """A secret, whose values are TOML."""
    lines = "\n".join(f"{key} = {value}" for key, value in values.items())
    return f"""
[[secret]]
name = "{name}"
type = "{kind}"
{lines}
"""


def ducklake(metadata, data_path, name="lake", more=""):
    """A lake; `more` is of its table, and may begin others."""
    return f"""
[[catalog]]
name = "{name}"
type = "ducklake"
metadata = "{metadata}"
data_path = "{data_path}"
{more}
"""


def lake_of_files(folder, more=""):
    """Options of a server with a lake whose metadata, `lake.ducklake`, and rows, `files`, are in the folder."""
    file = folder / "lake.toml"
    file.write_text(ducklake(folder / "lake.ducklake", f"{folder}/files/", more=more))
    return ["--config", file, "--extension-directory", extension_folder(folder / "extensions", "ducklake")]
