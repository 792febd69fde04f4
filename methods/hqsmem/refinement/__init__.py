"""Refinement of masks by SAM-HQ, verified by DINO."""
