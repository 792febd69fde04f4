"""Base classes of the benchmarks of each task: prompts, protocol, metric and submission format."""
