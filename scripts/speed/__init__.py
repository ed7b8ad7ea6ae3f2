"""Speed and memory beside llama.cpp and torch: fresh processes that take turns, ratios of medians."""
