"""A loaded bundle that answers: prompts of token ids, text and media in, tokens out; knows no messages."""
