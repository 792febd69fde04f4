"""What the benchmarks of one task share: prompts, protocol, metric and submission."""
