"""The network of SSLVOS behind its image encoder, which is that of Cutie (Cheng et al., CVPR 2024)."""
