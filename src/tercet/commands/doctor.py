"""`tercet doctor`: what is installed, and which devices, servers and keys answer."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import click

#: Extra -> what it is for.
EXTRAS = {
    "documents": "a folder of HTML, PDF and Markdown files as a corpus",
    "cohere": "models behind Cohere's API",
    "weaviate": "Weaviate: as a corpus, an index, and the place of adapted vectors",
    "faiss": "FAISS indexes",
    "gguf": "language models in GGUF files",
    "ct2": "doc2query on a CPU, several times faster",
    "evaluate": "measures of Hugging Face's evaluate",
    "wandb": "logs to Weights & Biases",
    "tensorboard": "logs to TensorBoard",
    "trackio": "logs to Trackio",
    "peft": "LoRA (model.lora_rank)",
    "studio": "`tercet studio`",
    "langchain": "running what `tercet export --to langchain` writes",
    "chat": "`tercet chat`",
    "multilingual": "tokenizers of sentencepiece, which many multilingual models have",
}
#: Variable -> what it is for. Values are not shown: some are secrets.
KEYS = {
    "HF_TOKEN": "private models, and pushes to the Hub",
    "CO_API_KEY": "Cohere's API",
    "COHERE_API_KEY": "Cohere's API",
    "WANDB_API_KEY": "Weights & Biases",
    "WEAVIATE_API_KEY": "a Weaviate server that asks for one",
    "OPENAI_API_KEY": "writers, embeddings and `tercet chat` by an OpenAI-compatible API",
}
_PATIENCE = 3.0  # seconds for a server
CPU_ONLY = "pip install tercet --extra-index-url https://download.pytorch.org/whl/cpu"


@click.command()
def command() -> None:
    """Show what is installed, which devices, servers and keys answer, and what is missing.

    No key's value is shown, and nothing is sent to a server but a question whether it is there.
    """
    from rich.table import Table
    from rich.text import Text

    from tercet.core.console import console

    for title, rows in doctor().items():
        table = Table(title=title, title_justify="left", title_style="bold", box=None)
        for _ in range(2):
            table.add_column(no_wrap=True)
        table.add_column()
        for name, state, note in rows:
            missing = state.startswith(("missing", "no answer", "not "))
            table.add_row(f"  {name}", Text(state, "yellow" if missing else "green"), Text(note))
        console.print(Text(title, "bold"))
        table.title, table.show_header = None, False
        console.print(table, "")


Row = tuple[str, str, str]


def doctor() -> dict[str, list[Row]]:
    """Title -> rows of a name, its state, and what it is for or what to do."""
    return {
        "Installed": [*_installed()],
        "Devices": [*_devices()],
        "Extras: pip install 'tercet[NAME]'": [*_extras()],
        "Servers": [*_servers()],
        "Keys in the environment": [*_keys()],
        "The demo's models": [*_models()],
    }


def _installed() -> Iterator[Row]:
    yield "python", platform.python_version(), f"{platform.system()} {platform.machine()}"
    for name in ("tercet", "torch", "transformers", "accelerate", "datasets", "huggingface_hub"):
        version = _version(name)
        note = f"without a GPU, smaller: {CPU_ONLY}" if name == "torch" else ""
        yield name, version or "missing", note


def _devices() -> Iterator[Row]:
    from tercet.modeling import hardware, measured

    found = hardware()
    yield "CPU", f"{os.cpu_count()} cores", f"{found['threads']} threads of torch"
    yield "GPU", str(found["gpu"] or "not found"), ""
    for each in measured():
        yield (
            f"{each.use} {each.model}",
            each.precision,
            f"bf16 at {each.ratio:.2f} times fp32's speed",
        )


def _extras() -> Iterator[Row]:
    packages = _packages_of_extras()
    for extra, purpose in EXTRAS.items():
        lacking = [name for name in packages.get(extra, []) if _version(name) is None]
        yield extra, f"missing: {', '.join(lacking)}" if lacking else "installed", purpose


def _packages_of_extras() -> dict[str, list[str]]:
    """Extra -> the packages that it brings, read from what is installed of Tercet."""
    from packaging.requirements import Requirement

    found: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("tercet") or []:
        requirement = Requirement(line)
        for extra in EXTRAS:
            marker = requirement.marker
            if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
                found.setdefault(extra, []).append(requirement.name)
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _servers() -> Iterator[Row]:
    weaviate = os.environ.get("WEAVIATE_URL") or "http://127.0.0.1:8080"
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    cohere = os.environ.get("CO_API_URL") or "https://api.cohere.com"
    asked: dict[str, tuple[str, str]] = {
        "Weaviate": (f"{weaviate.rstrip('/')}/v1/.well-known/ready", "WEAVIATE_URL"),
        "Hugging Face Hub": (f"{hub.rstrip('/')}/api/models/gpt2", "HF_ENDPOINT"),
        "Cohere": (cohere, "CO_API_URL"),
    }
    with ThreadPoolExecutor() as pool:
        states = pool.map(lambda each: _answers(each[0]), asked.values())
        for (name, (_, variable)), state in zip(asked.items(), states, strict=True):
            where = "set by" if os.environ.get(variable) else "the default; set"
            yield name, state, f"address: {where} {variable}"


def _answers(address: str) -> str:
    """Whether a server answers at all; its status says nothing about keys."""
    try:
        with urlopen(Request(address, method="GET"), timeout=_PATIENCE):
            return "answers"
    except HTTPError as error:
        return "answers" if error.code < 500 else f"no answer ({error.code})"
    except (URLError, OSError, ValueError):
        return "no answer"


def _keys() -> Iterator[Row]:
    for name, purpose in KEYS.items():
        yield name, "set" if os.environ.get(name) else "not set", purpose


def _models() -> Iterator[Row]:
    from tercet.commands.fetch import DEMO, place_of

    for fetched in DEMO:
        there = place_of(fetched).exists()
        yield fetched.place, "there" if there else "missing", "" if there else "tercet demo --fetch"
