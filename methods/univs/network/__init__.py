"""The network: backbone, pixel decoder, text encoder, prompts and the unified video mask decoder."""
