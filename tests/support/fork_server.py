"""`tercet` and `python` that start at once: a process with the libraries loaded forks one for each.

    fork_server.py SOCKET

serves; the programs that `programs_in` writes ask it. A forked process has the environment, the
folder and the files 0, 1 and 2 of whoever asked, and is otherwise a process like any other.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import traceback
from pathlib import Path

_CLIENT = """#!{python} -IS
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
server.sendall(asked)
code = server.recv(1)
sys.exit(code[0] if code else 137)
"""


def programs_in(folder: Path, address: Path) -> None:
    """Write the programs `tercet` and `python`, which ask the server at `address`."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("tercet", "python"):
        path = folder / program
        text = _CLIENT.format(python=sys.executable, address=str(address), program=program)
        path.write_text(text)
        path.chmod(0o755)


def serve(address: str) -> None:
    """Load the libraries, then answer until stdin ends."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import datasets  # noqa: F401
    import torch
    import transformers  # noqa: F401

    # Not what starts threads: neither Weaviate's client nor a computation.
    import tercet.api
    import tercet.commands.adapt
    import tercet.commands.evaluate
    import tercet.forecast.forecast
    import tercet.modeling
    import tercet.serving.search
    import tercet.sharing.retriever  # noqa: F401

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that ended are not waited for
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    if not os.fork():
        # The tests hold the other end of stdin: when they are gone, so is the server.
        sys.stdin.read()
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)
    print("ready", flush=True)
    while True:
        asking, _ = server.accept()
        if not os.fork():
            server.close()
            _answer(asking)
        asking.close()


def _answer(asking: socket.socket) -> None:
    """Become the program that is asked for, and say with which code it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, files, _, _ = socket.recv_fds(asking, 4, 3)
    text = b""
    while len(text) < int.from_bytes(length, "big"):
        text += asking.recv(1 << 16)
    program, arguments, folder, environment = json.loads(text)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    code = 0
    try:
        _run(program, arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    asking.sendall(bytes([code]))
    os._exit(code)


def _run(program: str, arguments: list[str]) -> None:
    if program == "tercet":
        from tercet.commands.main import main

        sys.argv = ["tercet", *arguments]
        main()
    elif arguments[:1] == ["-c"]:
        sys.argv = arguments[:1] + arguments[2:]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent.resolve()))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
