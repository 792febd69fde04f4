"""Trivial baselines that a method must beat before its numbers mean anything."""

from methods.baselines.baselines import AnswerNothing, CopyFirstMask, MostFrequentClass, WholeFrame

__all__ = ["AnswerNothing", "CopyFirstMask", "MostFrequentClass", "WholeFrame"]
