"""Speech to text: Whisper bundles, their rules, transcripts with times."""
