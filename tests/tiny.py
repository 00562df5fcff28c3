"""Tiny random language models for tests: real architectures and tokenizers, made in a second, saved to a folder.

Here belongs making them; what a test needs otherwise it says by name.
"""

from pathlib import Path
from typing import Any

TEXT = "### Instruction:\nthe cat sat\n\n### Response:\nthe dog ran\n\n"


def tokenizer(folder: Path, marks: tuple[str, ...] = ("<|s|>", "<|e|>"), text: str = TEXT, **fields: Any) -> int:
    """Save a byte-level tokenizer with a few merges and these special tokens; the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    rust = Tokenizer(BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=list(marks))
    rust.train_from_iterator([text] * 4, trainer)
    template = fields.pop("chat_template", None)
    made = PreTrainedTokenizerFast(tokenizer_object=rust, **fields)
    if template:
        made.chat_template = template
    made.save_pretrained(folder)
    return len(made)


def llama(folder: Path, vocabulary: int, **fields: Any) -> Any:
    """Save a random two-layer Llama; the model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "initializer_range": 0.3,
            **fields,
        }
    )
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return model
