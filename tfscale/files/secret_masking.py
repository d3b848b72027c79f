"""Masks secrets in everything that is printed or recorded: `--api_token=***`, `https://***@host`.

The name and the type of a value decide. A name is split into words at `_`, `-`, `.` and before
capital letters. Only whole words count, so `monkey`, `keypoints` and `tokenizer` are not secrets.

| words in the name | the value is masked |
|---|---|
| password, passphrase, pwd, secret, credential, apikey and similar | unless it is a boolean |
| token, key, auth, pass, signature | unless it is a number or a boolean (`key_dim=64`), or |
| | another word makes it a machine-learning term (`image_key`, `eos_token`, `max_tokens`) |

In a URL the part before `@` is masked, and parameters according to their names. In free text, such
as an error message, `name=value`, `"name": value` and HTTP headers (`X-Api-Key: value`) are masked;
a single word such as `key=` only as a flag or in a URL. In a command the value after `-p` is masked
unless it is a number.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"

_ALWAYS = re.compile(
    "[a-z]*passwords?|passwd|passphrase|pwd|secrets?|credentials?|(api|access|secret|private)key|"
    "(access|auth)token|authorization|bearer"
)
_MAYBE = re.compile("tokens?|keys?|auth|pass|sig|signature")
# With one of these words a token is part of a text, and a key belongs to a table or to attention.
_OF_THE_FIELD = re.compile(
    "bos|cls|columns?|dict|dim|dropout|end|eos|features?|first|heads?|ids?|images?|index|inputs?|"
    "items?|kernel|labels?|last|length|mask|masked|max|metrics?|min|model|names?|num|outputs?|oov|"
    "pad|padding|per|points?|primary|public|query|rows?|sep|size|sort|special|split|start|stop|"
    "tables?|targets?|text|type|unk|unknown|users?|values?|vocabulary|words?"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?|nan|[-+]?inf", re.IGNORECASE)
_BOOLEAN = re.compile(r"true|false|yes|no|none|null|", re.IGNORECASE)

# A password may contain @, and even an unescaped /. A port followed by a path is not a password.
_USERINFO = re.compile(
    r"(?<=://)(?:[^\s/?#'\"@:]*:(?!\d+(?:/|$))(?:(?!://)[^\s'\"])*|[^\s/?#'\"]*)@"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic) +[\w+/.~=-]{8,}")
# An HTTP header: a name with a hyphen in free text, any name where it is a whole argument.
_HEADER = re.compile(
    r"""\b(?P<name>[A-Za-z][A-Za-z0-9]{0,49}(?:-[A-Za-z0-9]{1,50}){1,5}):[ ]{0,9}
        (?P<value>[^\s'",;]+?)(?=[.:]{0,3}(?:[\s'",;]|$))""",
    re.VERBOSE,
)
_HEADER_ARGUMENT = re.compile(r"(?P<name>[A-Za-z][\w-]*):\s+(?P<value>.+)", re.DOTALL)
# Lengths are bounded, so that a text made to be slow takes no longer than any other.
_PAIR = re.compile(
    r"""(?: (?P<quote>["'])(?P<quoted>[A-Za-z][\w.-]{0,99})(?P=quote)\s*:\s*
          | (?P<before>--?|[?&;])?\b(?P<plain>[A-Za-z][\w.-]{0,99})=)
        (?P<value>"[^"]*"|'[^']*'|["']?[^\s&,;'"})\]]+?(?=[.:]{0,3}(?:[\s&,;'"})\]]|$)))""",
    re.VERBOSE,
)


def is_secret(name: str, value: Any) -> bool:
    """Returns whether a flag, variable or parameter of this name and value must not be shown.

    Example:
        >>> is_secret("hf_token", "abc"), is_secret("max_tokens", 512), is_secret("monkey", "abc")
        (True, False, False)
    """
    words = {word.lower() for word in _WORD.findall(name)}
    if value is None or isinstance(value, bool):
        return False
    text = str(value)
    if _BOOLEAN.fullmatch(text):
        return False
    if any(map(_ALWAYS.fullmatch, words)):
        return True
    if any(map(_OF_THE_FIELD.fullmatch, words)) or words <= {"keys", "tokens"}:
        return False
    return any(map(_MAYBE.fullmatch, words)) and not _NUMBER.fullmatch(text)


def masked(value: Any, *, name: str = "") -> Any:
    """Returns JSON values with secrets replaced by `***`, at any depth.

    Args:
        value: Strings, numbers, booleans, None, mappings and lists of them.
        name: Name of the flag, variable or parameter whose value this is.

    Example:
        >>> masked({"data_dir": "s3://me:word@bucket/set", "api_key": "abc", "seed": 3})
        {'data_dir': 's3://***@bucket/set', 'api_key': '***', 'seed': 3}
    """
    if isinstance(value, Mapping):
        is_all_secret = is_secret(name, "text")
        return {
            key: masked(inner, name=name if is_all_secret else str(key))
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [masked(inner, name=name) for inner in value]
    if is_secret(name, value):
        return MASK
    return masked_text(value) if isinstance(value, str) else value


def masked_text(text: str) -> str:
    """Returns free text, such as an error message, with secrets replaced by `***`.

    Example:
        >>> masked_text("no such bucket: gs://b?access_token=abc, --api_key=def")
        'no such bucket: gs://b?access_token=***, --api_key=***'
    """
    text = _USERINFO.sub(f"{MASK}@", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _HEADER.sub(_masked_header, text)
    return _PAIR.sub(_masked_pair, text)


def masked_arguments(arguments: Iterable[str]) -> list[str]:
    """Returns the arguments of a command with secrets replaced by `***`.

    Args:
        arguments: One string per argument: `--token=abc`, or `--token` followed by `abc`.

    Example:
        >>> masked_arguments(["train.py", "--token", "abc", "--password=a b", "--key_dim=64"])
        ['train.py', '--token', '***', '--password=***', '--key_dim=64']
        >>> masked_arguments(["curl", "--header", "X-Api-Key: abc", "-p", "def"])
        ['curl', '--header', 'X-Api-Key: ***', '-p', '***']
    """
    shown: list[str] = []
    flag = ""
    for argument in arguments:
        name, is_pair, value = argument.partition("=")
        header = _HEADER_ARGUMENT.fullmatch(argument)
        if flag and not argument.startswith("-") and _is_secret_after(flag, argument):
            shown.append(MASK)
        elif header and is_secret(header["name"], header["value"]):
            shown.append(f"{header['name']}: {MASK}")
        elif is_pair and re.fullmatch(r"-{0,2}[A-Za-z][\w.-]*", name) and is_secret(name, value):
            shown.append(f"{name}={MASK}")
        else:
            shown.append(masked_text(argument))
        flag = argument if argument.startswith("-") and not is_pair else ""
    return shown


def masked_command(command: str) -> str:
    """Returns a command line with secrets replaced by `***`, unchanged if it has none.

    Example:
        >>> masked_command("python train.py '--password=a b'")
        'python train.py --password=***'
    """
    try:
        arguments = shlex.split(command)
    except ValueError:  # an unclosed quote
        return masked_text(command)
    shown = masked_arguments(arguments)
    if shown == arguments:
        return command
    return " ".join(
        part if MASK in part and " " not in part else shlex.quote(part) for part in shown
    )


def _is_secret_after(flag: str, argument: str) -> bool:
    # `-p` is a password to many programs, but a port to others.
    return is_secret("pass" if flag == "-p" else flag, argument)


def _masked_header(found: re.Match[str]) -> str:
    if not is_secret(found["name"], found["value"]):
        return found[0]
    return found[0].removesuffix(found["value"]) + MASK


def _masked_pair(found: re.Match[str]) -> str:
    shown = _masked_own(found)
    if shown != found[0] or "://" not in found["value"]:
        return shown
    # `--url=https://host/?sig=...`: masks once more inside the URL, and no deeper.
    return found[0].removesuffix(found["value"]) + _PAIR.sub(_masked_own, found["value"])


def _masked_own(found: re.Match[str]) -> str:
    name, value = found["quoted"] or found["plain"], found["value"]
    is_prose = not found["before"] and not found["quoted"] and _MAYBE.fullmatch(name.lower())
    if is_prose or not is_secret(name, value.strip("'\"")):
        return found[0]
    quote = value[0] if value[0] in "'\"" and value[0] == value[-1] else ""
    return found[0].removesuffix(value) + f"{quote}{MASK}{quote}"
