"""The predictors of ``methods.sam2long.predictor``."""
