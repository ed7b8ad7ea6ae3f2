"""A tiny Whisper checkpoint of random weights, with the generation rules and the tokenizer of a real one."""

import json
from pathlib import Path

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from export.checkpoint.tokenizer import byte_alphabet

N_TEXT = 300
END, START = 300, 301
LANGUAGES = {"<|en|>": 302, "<|de|>": 303, "<|fr|>": 304}
TASKS = {"translate": 305, "transcribe": 306}
NO_TIMESTAMPS = 310
VOCAB_SIZE = NO_TIMESTAMPS + 1 + 1501
MAX_LENGTH = 40

RULES = {
    "decoder_start_token_id": START,
    "eos_token_id": END,
    "pad_token_id": END,
    "bos_token_id": END,
    "no_timestamps_token_id": NO_TIMESTAMPS,
    "is_multilingual": True,
    "lang_to_id": LANGUAGES,
    "task_to_id": TASKS,
    "suppress_tokens": [1, 2, 7, 40, 41, START, 307, 308, 309],
    "begin_suppress_tokens": [32, END],
    "max_initial_timestamp_index": 50,
    "max_length": MAX_LENGTH,
    "prev_sot_token_id": 308,
}


def write_whisper(folder: Path, *, seed: int = 0, n_mels: int = 80) -> Path:
    """Write a checkpoint of two layers; its answers depend on the sound and hold text, timestamps and ends."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=VOCAB_SIZE, num_mel_bins=n_mels, d_model=64, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128,
        max_source_positions=1500, max_target_positions=448, pad_token_id=END, bos_token_id=END, eos_token_id=END,
        decoder_start_token_id=START, suppress_tokens=None, begin_suppress_tokens=None, init_std=0.2,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("bias"):
                tensor.normal_(std=0.1)
        # Text and the end must stand a chance against 1501 timestamps.
        model.model.decoder.embed_tokens.weight[:END] *= 1.6
        model.model.decoder.embed_tokens.weight[END] *= 2.2
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(RULES))
    (folder / "tokenizer.json").write_bytes(tokenizer())
    return folder


def tokenizer() -> bytes:
    """Bytes, a few pairs of them, and behind them every token of control."""
    alphabet = byte_alphabet()
    vocab = {char: index for index, char in enumerate(alphabet)}
    merges = []
    for first in "abcdefgh":
        for second in "aeiouy":
            if len(vocab) < N_TEXT and first != second:
                merges.append((first, second))
                vocab[first + second] = len(vocab)
    words = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    times = (f"<|{i * 0.02:.2f}|>" for i in range(1501))
    names = ["<|endoftext|>", "<|startoftranscript|>", *LANGUAGES, *(f"<|{word}|>" for word in words), *times]
    added = [
        {"id": N_TEXT + i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, name in enumerate(names)
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    nothing = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    model = {"type": "BPE", **dict.fromkeys(nothing), "fuse_unk": False, "byte_fallback": False}
    document = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {**model, "vocab": vocab, "merges": merges},
    }  # fmt: skip
    return json.dumps(document).encode()
