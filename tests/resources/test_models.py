"""Finding a model's files: a quantised file is unpacked once, whoever asks and whatever breaks off."""

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
