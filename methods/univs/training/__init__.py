"""Training of UniVS: prompts, matching and losses."""
