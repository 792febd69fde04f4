"""Image encoders of SSLVOS."""
