"""Folder and file layouts that several data sets share."""
