"""Readers of folder and file layouts that several data sets share."""
