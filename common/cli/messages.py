"""Parser errors in one line that names the key and the nearest valid one."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from importlib import import_module

from common.errors import InputError

CLASS_OPTION = re.compile(r"Problem with given class_path '([^']+)':\s+(?:- )?Option '([^']+)' is not accepted")
OPTION = re.compile(r"does not accept option '([^']+)'|unrecognized arguments: --([^\s=]+)")
REQUIRED = re.compile(r"the following arguments are required: (.+)")
NO_CLASS = re.compile(r"Problem with given class_path '([^']+)':\s+(?!\s|Parser key)(.+)")
KEY = re.compile(r'Parser key "([^"]+)"')
VALUE = re.compile(r"Expected an? (.+?)\. Got value: (.+)")
# Keys of version 0.1 and their present names; a name is suggested where the class has it.
RENAMED = {
    "any_label": "single_object",
    "drop_ends": "skip_first_and_last",
    "entities": "max_entities",
    "first": "min_first_score",
    "first_area": "small_area",
    "first_iou": "min_first_iou",
    "frames": "frame_resolution",
    "groups": "average_seen_unseen",
    "interval": "detection_interval",
    "kept": "min_area_share",
    "kinds": "visual_kind_probs",
    "later": "min_new_score",
    "match": "min_match",
    "merge": "min_merge",
    "mosev2_compat": "official_compat",
    "names": "max_vocabulary",
    "negative": "negative_points",
    "new_overlap": "max_new_iou",
    "others": "non_best_weight",
    "overlap": "max_box_iou",
    "oversample": "oversample_ratio",
    "own_position": "content_position_prob",
    "points": "num_points",
    "positive": "positive_points",
    "reading": "equation_variant",
    "recognise": "min_query_similarity",
    "short_skip": "short_term_skip",
    "shown": "positives",
    "similarity": "min_similarity",
    "stability": "min_quality",
    "stuff": "max_stuff",
    "stuff_overlap": "max_stuff_iou",
    "targets": "max_prompts",
    "things": "max_things",
    "uncertain": "importance_sample_ratio",
    "unseen": "unseen_list",
    "visual": "visual_prompt_prob",
}
NOISE = (
    "Subtypes:",
    "Errors:",
    "Given value",
    "Does not validate",
    "Expected a <class 'NoneType'>",
    "- Expected a path",
)


def one_line(message: str, keys: Iterable[str]) -> str:
    """Return a parser's message as one line.

    Args:
        message: text of an ``argparse.ArgumentError``, possibly of many lines.
        keys: all keys of the parser, with dots.
    """
    if match := CLASS_OPTION.search(message):
        path, option = match.groups()
        return f"{path} has no option {option!r}{nearest(option, options_of(path))}"
    if match := OPTION.search(message):
        return unknown_key(match[1] or match[2], keys)
    if match := REQUIRED.search(message):
        return f"give --{' and --'.join(re.findall(r'[.](data|model)', match[1]))}, or a --config file that has them"
    where = ".".join(dict.fromkeys(KEY.findall(message)))
    if match := VALUE.search(message):
        return f"{where}: expected {_plain(match[1])}, not {match[2]}"
    if match := NO_CLASS.search(message):
        return f"{where}: {match[1]}: {match[2]}{_nearest_class(match[1])}"
    lines = [line.strip(" -") for line in KEY.sub("", message).splitlines()]
    text = "; ".join(line.lstrip(": ") for line in lines if line and not line.startswith(NOISE))
    return f"{where}: {text}" if where else text


def unwrapped(error: BaseException) -> BaseException:
    """Return the ``InputError`` that a constructor raised and the parser wrapped, or the error itself.

    Args:
        error: raised while the parser instantiated classes.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    return cause or error


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """Return the message for an unknown key; it names the first part of the key that is wrong.

    Args:
        key: with dots.
        keys: all keys of the parser.
    """
    keys = list(keys)
    tops = dict.fromkeys(known.split(".")[0] for known in keys)
    top = key.split(".")[0]
    if top not in tops:
        return f"unknown key {top!r}{nearest(top, tops)}"
    return f"unknown key {key!r}{nearest(key, keys)}"


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the end of a message that suggests a word.

    Args:
        word: the unknown word.
        words: the valid ones; a list of at most 20 is printed where none is close.
    """
    words = list(words)
    if (renamed := RENAMED.get(word)) in words:
        return f"; it is called {renamed!r} now"
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(words)}" if 0 < len(words) <= 20 else ""


def options_of(class_path: str) -> list[str]:
    """Return the constructor arguments of a class, including those that it passes on to its base classes.

    Args:
        class_path: import path of the class.
    """
    module, _, name = class_path.rpartition(".")
    target = getattr(import_module(module), name)
    names: dict[str, None] = {}
    for owner in target.__mro__ if inspect.isclass(target) else (target,):
        if inspect.isclass(owner) and "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__ if inspect.isclass(owner) else owner).parameters.values()
        names.update(
            dict.fromkeys(
                p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            )
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)


def _nearest_class(class_path: str) -> str:
    """Return the end of a message that suggests a class of the same module, or nothing."""
    module, _, name = class_path.rpartition(".")
    try:
        names = {other.lower(): other for other, value in vars(import_module(module)).items() if inspect.isclass(value)}
    except (ImportError, ValueError):
        return ""
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {module}.{names[close[0]]}?" if close else ""


def _plain(text: str) -> str:
    """Return text with Python's notation of types removed."""
    return re.sub(r"<class '([\w.]+)'>", r"\1", text).replace("typing.Literal", "one of ")
