"""`tercet studio`: recipes, runs, data, results, search and chat on one page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The folder with recipes/ and runs/; default: this one.",
)
@click.option("--listen", is_flag=True, help="Let other machines reach it, as in a container.")
@click.option("--host-name", "names", multiple=True, help="Of a proxy before it; may be repeated.")
@click.option("--root-path", default="", help="Where that proxy has it, such as /studio.")
def command(port: int, root: Path, listen: bool, names: tuple[str, ...], root_path: str) -> None:
    """Serve the studio's page, which this machine alone can reach, until Ctrl-C.

    It is opened by the address that is printed: whoever has its token can start runs as you. It
    reads and writes below runs/ and recipes/. Runs are processes of their own: closing the page,
    or the studio, stops none.
    """
    # Gradio is an extra: where it is missing, that is said in one line.
    from tercet.core.extras import check_installed

    check_installed("gradio", "pandas", "psutil", extra="studio")
    from tercet.studio.server import serve

    serve(root, port, listen=listen, names=names, root_path=root_path)
