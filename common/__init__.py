"""What the methods share: video, data, benchmarks, metrics, the SAM 2 core and the segmenter contract."""
