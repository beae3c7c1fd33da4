"""Random changes of a valid input: of its bytes, its lines, its numbers and its JSON values."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

#: bytes: any; text: lines; json and jsonl: values too; safetensors: the JSON of its header too.
Shape = str
_NUMBERS = ("-1", "0", "1e308", "-1e308", "NaN", "Infinity", "-Infinity", "9223372036854775808")
_NUMBERS += ("4294967296", "1" * 5000, "0.1", "1e-320", "0x10", "1_000", ".nan", ".inf", "-0")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_TOKENS = [
    *(b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xff", b"\xc3", b"\x1b[2J", b"\r"),
    *("\u2028", "\u2029", "\x85", "\u202e", "\U0010ffff", "\u00a0", "e\u0301", "\u0130"),
    *(b"\r\n", b"\n\n", b"\t", b" ", b"'", b'"', b'""', b"\\", b"\\u0000", b"\\ud800", b"${HOME}"),
    *(b"{", b"}", b"[", b"]", b"<", b">", b"</", b"<!--", b"<![CDATA[", b"&#0;", b"&#xD800;"),
    *(
        b"null",
        b"true",
        b"~",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!python/object:os.system",
        b"!!binary x",
    ),
    *(b"../..", b"/etc/passwd", b"C:\\", b"http://[::", b"=1+1", b"sep=;", b"%", b"#", b"---\n"),
    *(b"-", b": ", b", ", b"|", b"0", b"2026-13-45", b"12:30:45", b"1:2", b"on", b"!!binary x"),
]
TOKENS = [token.encode() if isinstance(token, str) else token for token in _TOKENS]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 1e308, float("nan"), float("inf"), 2**63, -(2**63) - 1, 0.5),
    *("", "x", "0", " ", "\x00", "\ud800", "\u2028", "../..", "a" * 20_000, "${HOME}", "\x1b[2J"),
    *([], {}, [[]], [{}], {"": None}, [None], ["x"], {"a": {"b": {}}}, [1, "x", None], {"x": []}),
]


def mutated(data: bytes, random: Random, shape: Shape = "text") -> bytes:
    """The input after one to four random changes."""
    changes: list[Callable[[bytes, Random], bytes]] = [_of_bytes]
    if shape != "bytes":
        changes += [_of_text, _of_lines, _of_numbers]
    changes += {"json": [_of_json] * 4, "jsonl": [_of_json_line] * 4}.get(shape, [])
    changes += [_of_header] * 4 if shape == "safetensors" else []
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        data = random.choice(changes)(data, random)
    return data


def _span(data: bytes, random: Random, longest: int = 64) -> tuple[int, int]:
    """A short range; of a large input every second one is near its start or end."""
    near = random.choice((len(data), len(data), 512, -512))
    start = random.randrange(max(1, min(len(data), abs(near))))
    start = max(0, len(data) - 1 - start) if near < 0 else start
    return start, min(len(data), start + random.choice((1, 1, 2, 4, 8, random.randint(1, longest))))


def _of_bytes(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    match random.randrange(7):
        case 0:
            flipped = bytes(each ^ (1 << random.randrange(8)) for each in data[start:end])
            return data[:start] + flipped + data[end:]
        case 1:
            return data[:start] + random.randbytes(random.randint(1, 16)) + data[start:]
        case 2:
            return data[:start] + data[end:]
        case 3:
            return data[:end] + data[start:end] * random.choice((1, 2, 50)) + data[end:]
        case 4:
            return data[:start]
        case 5:
            place = random.randrange(max(1, len(data)))
            return data[:start] + data[place : place + end - start] + data[end:]
    extreme = random.choice((b"\x00", b"\xff", b"\x7f", b"\x80"))
    return data[:start] + extreme * (end - start) + data[end:]


def _of_text(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    match random.randrange(12):
        case 0:
            return b"\xef\xbb\xbf" + data
        case 1:
            return data.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\n", b"\xe2\x80\xa8")))
        case 2:
            return data[:start] + random.choice((b"x", b"x ", b'"', b"\t")) * 100_000 + data[start:]
        case 3:
            deep = random.choice((b"[", b'{"a":', b"<div>", b"- ", b"{a: ", b"("))
            return data[:start] + deep * random.choice((50, 5_000)) + data[start:]
        case 4:
            other = random.choice(("utf-16", "utf-32", "cp037"))
            return data.decode("utf-8", "replace").encode(other, "replace")
        case 5:
            return random.choice((b"", b"\n", b"\x00", b" ", b"\xef\xbb\xbf", b"{}", b"[]", b"0"))
    token = random.choice(TOKENS)
    return data[:start] + token + data[random.choice((start, end)) :]


def _of_lines(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            lines[first], lines[second] = lines[second], lines[first]
        case 1:
            lines.insert(first, lines[second])
        case 2:
            del lines[first]
        case 3:
            lines[first] = lines[first] + lines[second]
    return b"\n".join(lines)


def _of_numbers(data: bytes, random: Random) -> bytes:
    found = list(_NUMBER.finditer(data[: 1 << 20]))
    if not found:
        return data
    place = random.choice(found)
    return data[: place.start()] + random.choice(_NUMBERS).encode() + data[place.end() :]


def _of_json_line(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    number = random.randrange(len(lines))
    lines[number] = _of_json(lines[number], random).replace(b"\n", b" ")
    return b"\n".join(lines)


def _of_header(data: bytes, random: Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = _of_json(data[8 : 8 + size], random)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def _of_json(data: bytes, random: Random) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _of_bytes(data, random)
    text = json.dumps(_changed(value, random), indent=random.choice((None, 1)))
    if random.random() < 0.1 and isinstance(value, dict) and value:  # a key that is given twice
        text = f"{{{json.dumps(random.choice(list(value)))}: {random.choice(_NUMBERS)}, {text[1:]}"
    return text.encode()


def _changed(value: Any, random: Random) -> Any:
    """The value with a change somewhere in it."""
    inner = (
        list(value)
        if isinstance(value, dict)
        else range(len(value) if isinstance(value, list) else 0)
    )
    if inner and random.random() < 0.8:
        place = random.choice(inner)
        value = value.copy()
        match random.randrange(8):
            case 0:
                value.pop(place)
            case 1 if isinstance(value, dict):
                value[random.choice(("", "x", "__class__", f"{place}s", "0"))] = value.pop(place)
            case 2:
                value[place] = random.choice(_VALUES)
            case 3:
                value[place] = value[random.choice(inner)]
            case _:
                value[place] = _changed(value[place], random)
        return value
    if random.random() < 0.1:
        for _ in range(random.choice((3, 200))):
            value = [value]
        return value
    if isinstance(value, str) and random.random() < 0.4:
        return mutated(value.encode("utf-8", "replace"), random).decode("utf-8", "replace")
    return random.choice(_VALUES)
