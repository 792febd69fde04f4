"""Image encoders of DeAOT."""
