"""The UniVS network."""
