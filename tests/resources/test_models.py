"""Finding a model's files: a quantised file is unpacked once, and a download that broke off goes on."""

import json
from pathlib import Path

import pytest

from resources import models


def test_a_gguf_file_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CACHE", str(tmp_path / "cache"))
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"weights")
    calls = []

    def unpack(file: Path, folder: Path) -> None:
        calls.append(file)
        (folder / "config.json").write_text("{}")
        if len(calls) == 1:  # another process is faster
            models.as_safetensors(models.locate(str(gguf)))

    monkeypatch.setattr(models, "_unpack", unpack)
    first = models.as_safetensors(models.locate(str(gguf)))
    assert models.as_safetensors(models.locate(str(gguf))) == first
    assert len(calls) == 2 and (first / "config.json").exists()
    assert list(first.parent.iterdir()) == [first]  # nothing half done is left

    gguf.write_bytes(b"other weights")
    monkeypatch.setattr(models, "_unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        models.as_safetensors(models.locate(str(gguf)))
    assert list(first.parent.iterdir()) == [first]


@pytest.mark.parametrize(
    ("before", "last"),
    [
        (["config.json"], "model.safetensors"),
        (["config.json"], "pytorch_model.bin"),
        (["config.json", "model.safetensors.index.json", "a.safetensors"], "b.safetensors"),
        (["config.json", "pytorch_model.bin.index.json"], "model.safetensors"),  # parts that nobody asked for
    ],
)
def test_a_download_that_broke_off_goes_on(
    before: list[str], last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hub's cache has of a model looks like the model, down to the configuration."""
    asked = []

    def download(local_files_only: bool = False, **_: object) -> str:
        asked.append("here" if local_files_only else "network")
        if not local_files_only:
            (tmp_path / last).touch()
        return str(tmp_path)

    for name in before:
        parts = {"1": "a.safetensors", "2": "b.safetensors"} if "safetensors" in name else {"1": "part.bin"}
        (tmp_path / name).write_text(json.dumps({"weight_map": parts}))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert models.locate("owner/name").path == tmp_path and asked == ["here", "network"]
    assert models.locate("owner/name").path == tmp_path and asked == ["here", "network", "here"]
