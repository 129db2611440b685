"""Figures about generated faces: each with its interval and everything it takes to measure it again."""
