"""The tokenizer of the embedded model: a byte-level BPE over the words of its lessons."""

from __future__ import annotations

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from scripts.tiny.lessons.conversations import corpus

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = (
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|endofprompt|>", "<|endofchunk|>",
    "<REKA_IMG_TOKEN>", "<image>", "</image>", "<REKA_ADO_TOKEN>", "<audio>", "</audio>", "<video>", "</video>",
    "<transcript>", "</transcript>", "<ocr>", "</ocr>", "<sep>", "<tool>", "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>",
)  # fmt: skip


def train_tokenizer(*, seed: int, size: int = 2048) -> str:
    """A byte-level BPE over the conversations' words, with the family's special tokens; returns tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(6000, seed), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, sort_keys=True, indent=1)
