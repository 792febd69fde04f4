"""Trivial baselines, a lower bound for the numbers of every method."""

from methods.baselines.baselines import AnswerNothing, CopyFirstMask, MostFrequentClass, WholeFrame

__all__ = ["AnswerNothing", "CopyFirstMask", "MostFrequentClass", "WholeFrame"]
