"""The folder of a run: who may use it, what text it is about, and whether there is room."""

import collections
import fcntl
import hashlib
import json
import math
import os
import shutil
import subprocess

from common import ROOT, Failure
from options import MINIMUM_TEXT

MARKER = "quickstart.json"  # says that a quickstart made the folder, and for which text and seed
BEGUN = {}  # what it holds until the text is there
LOCK = "lock"
ROOM_TO_BUILD = 1500 << 20
ROOM_TO_RUN = 300 << 20
DEFAULT_TEXT = "the King James Bible"


class Folder:
    """Holds the lock of the folder while it lives. Attributes: path, text (file), text_name, seed."""

    def __init__(self, options):
        text = None if options.text is None else read_text(options.text)  # before anything is made or removed
        self.path = options.dir
        make(self.path, options.fresh)
        self._lock = lock(self.path)
        if options.fresh:
            empty(self.path)
        settle_text(self.path, options, text)
        described = read_marker(self.path)
        self.text = self.path / "text.txt"
        self.text_name, self.seed = described["text_name"], described["seed"]
        self.pool, self.tls, self.logs = (self.path / name for name in ("pool", "tls", "logs"))
        for folder in (self.pool, self.tls, self.logs):
            folder.mkdir(exist_ok=True)
        self.pool.chmod(0o700)


def make(path, fresh):
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(f"{path} is not writable")
    except OSError as error:
        raise Failure(f"{path} cannot be used: {error.strerror or error}. Choose another folder with --dir.")
    if names - {LOCK} and MARKER not in names:
        verb = "removes only folders that it made" if fresh else "will not write among other files"
        raise Failure(f"{path} holds files that no quickstart made, and ./quickstart {verb}. "
                      "Choose another folder with --dir.")


def lock(path):
    file = open(path / LOCK, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Failure(f"another quickstart is running in {path}. Wait for it, or choose another folder with --dir.")
    return file


def empty(path):
    """Removes everything but the lock that we hold; the marker goes last, so that an interruption leaves it."""
    entries = [entry for entry in path.iterdir() if entry.name != LOCK]
    for entry in sorted(entries, key=lambda entry: entry.name == MARKER):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def settle_text(path, options, text):
    """The text of a new folder is copied into it; an old folder's text and seed must be the ones asked for."""
    marker = path / MARKER
    described = read_marker(path) if marker.exists() else BEGUN
    if described != BEGUN:
        if text is not None and digest_of(text) != described["text_sha256"]:
            raise Failure(f"{path} is about another text ({described['text_name']}). "
                          "Choose another folder with --dir, or start over with --fresh.")
        if options.seed is not None and options.seed != described["seed"]:
            raise Failure(f"{path} was begun with --seed {described['seed']}. "
                          "Choose another folder with --dir, or start over with --fresh.")
        return
    text_name = DEFAULT_TEXT if text is None else str(options.text.absolute())
    text = king_james() if text is None else text
    write(marker, json.dumps(BEGUN))  # from here on the folder is ours
    (path / "text.txt").write_bytes(text)
    write(marker, json.dumps({"text_name": text_name, "text_sha256": digest_of(text),
                              "seed": 1 if options.seed is None else options.seed}, indent=2))


def read_marker(path):
    try:
        described = json.loads((path / MARKER).read_text())
        if described == BEGUN:
            return BEGUN
        return {key: described[key] for key in ("text_name", "text_sha256", "seed")}
    except (OSError, ValueError, KeyError, TypeError):
        raise Failure(f"{path / MARKER} is damaged. Start over with --fresh.")


def write(file, text):
    temporary = file.with_suffix(".new")
    temporary.write_text(text + "\n")
    temporary.replace(file)


def king_james():
    try:
        return subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"the program `bible` of the package bible-kjv does not work: {error}. --text takes another text.")


def read_text(file):
    try:
        if not file.is_file():
            raise Failure(f"--text {file}: " + ("not a plain file." if file.exists() else "there is no such file."))
        text = file.read_bytes()
    except OSError as error:
        raise Failure(f"--text {file} cannot be read: {error.strerror}.")
    if len(text) == 0:
        raise Failure(f"--text {file} is empty. It must hold at least {MINIMUM_TEXT} bytes of text.")
    if len(text) < MINIMUM_TEXT:
        raise Failure(f"--text {file} is too short to learn from: {len(text)} bytes, at least {MINIMUM_TEXT} are needed.")
    return text


def digest_of(text):
    return hashlib.sha256(text).hexdigest()


def unigram_entropy(text):
    """Nats per byte of a model that knows only how often each byte occurs."""
    return -sum(count / len(text) * math.log(count / len(text)) for count in collections.Counter(text).values())


def check_room(path):
    built = (ROOT / "build/release/build.ninja").exists()
    for place, needed, purpose in ((path, ROOM_TO_RUN, "a run"), (ROOT, 0 if built else ROOM_TO_BUILD, "the build")):
        free = shutil.disk_usage(place).free
        if free < needed:
            raise Failure(f"the disk of {place} is nearly full: {free >> 20} MB are free, {purpose} needs "
                          f"{needed >> 20} MB.")
