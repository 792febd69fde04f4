"""The core of SSLVOS, after Cutie."""
