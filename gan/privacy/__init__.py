"""Privacy of a generator: differentially private training, and attacks that measure what any training leaks.

What is guaranteed, what is only measured, and what neither covers: docs/privacy.md.
"""
