"""What the studio's page shows and does, without the page: `app.py` puts it on one.

Everything here reads and writes below a project's `runs/` and `recipes/` alone.
"""
