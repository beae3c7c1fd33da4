"""The studio: a page on which recipes are edited, and runs started, watched and compared.

Everything here reads and writes below a project's `runs/` and `recipes/` alone. Only `tabs` and
`server`, which imports it, need Gradio.
"""
