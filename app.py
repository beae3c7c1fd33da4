"""The studio: recipes, runs, data, results, search and chat on one page.

    python app.py [--port 7860]

It listens on 127.0.0.1 alone, opens no tunnel, and reads and writes below `runs/` and `recipes/`.
Runs are processes of their own: closing the page, or the studio, stops none.

`tercet.studio.server` serves the page and `tercet.studio.tabs` has a file for each tab. The other
modules of `tercet.studio` read runs and write HTML, without Gradio.
"""

from pathlib import Path

from tercet.studio.server import serve

if __name__ == "__main__":
    serve(Path(__file__).parent)
