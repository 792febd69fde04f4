"""Formats of the VOT toolkit: regions, workspaces and the TraX protocol."""
