"""Judging how good samples are."""
