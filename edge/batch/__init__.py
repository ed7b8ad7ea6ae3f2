"""Many requests at once, from a file into a file: OpenAI's batch lines, asked in process or on a Ray cluster."""
