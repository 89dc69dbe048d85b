"""Signatures: OUT/signature.json says under a key of the user's own which files a folder holds, to every byte.

    statement = the files, sorted by path, each with its size and SHA-256        (all but signature.json itself)
    signature = Ed25519(key, PREFIX + statement as JSON)

With `cryptography`, whose keys are those of openssl and ssh-keygen: two packages. OpenSSF's model-signing signs
the same statement and brings nineteen more, for services that hand out keys, which nobody needs who has one.

Where a file is added, changed or missing, `verify` says which. A signature alone does not say whose key made it, since
whoever changes the files can sign them again: that takes the public key, from elsewhere than the folder.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgepass import staging
from edgepass.errors import InputError, MissingExtraError, is_text, one_line
from edgepass.judging.manifest import SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = b"edgepass signature 1\n"
MAKE_ONE = "make one with ssh-keygen -t ed25519"

Ask = Callable[[], str]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the folder."""

    path: str
    bytes: int
    sha256: str


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What signature.json holds. `key` is the public key, as ssh-keygen writes it."""

    schema: int
    key: str
    files: tuple[Entry, ...]
    signature: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What verifying found. `key`: the fingerprint of the key that signed, as `ssh-keygen -l` shows it."""

    key: str
    files: int
    known: bool
    """Whether the key is the one that was asked for."""
    faults: list[str] = field(default_factory=list)
    """One sentence for each thing that is not as it was signed."""


def sign(folder: Path, key: Path, ask: Ask) -> Signature:
    """Sign every file of the folder, and write signature.json into it; `ask` gives the passphrase of a locked key.

    Raises InputError for a folder or a key that cannot be used, and MissingExtraError.
    """
    _require()
    private = _private(_key_text(key), key, ask)
    files = _entries(folder)
    for file in files:
        if not is_text(file.path):
            raise InputError(f"{folder} holds {one_line(file.path)!r}, whose name is not UTF-8; rename it")
    if not files:
        raise InputError(f"{folder} holds no file to sign; name a folder that `edgepass export` wrote")
    made = Signature(
        schema=1,
        key=_text(private.public_key()),
        files=files,
        signature=base64.b64encode(private.sign(_statement(files))).decode(),
    )
    with staging.explained(folder, "sign a copy of it"):
        staging.write(folder / SIGNATURE, msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return made


def verify(folder: Path, key: Path | None, ask: Ask) -> Finding:
    """Whether the folder holds what was signed, and by whom. Raises InputError and MissingExtraError."""
    _require()
    from cryptography.exceptions import InvalidSignature

    wanted = None if key is None else _public(_key_text(key), key, ask)
    made = _read(folder)
    signer = _public(made.key.encode(), folder / SIGNATURE, ask)
    known = wanted is not None and _text(wanted) == _text(signer)
    faults = []
    if wanted is not None and not known:
        faults.append(f"it is signed with {fingerprint(signer)}, not with {key}, which is {fingerprint(wanted)}")
    try:
        signer.verify(base64.b64decode(made.signature, validate=True), _statement(made.files))
    except (InvalidSignature, ValueError):
        faults.append(f"{SIGNATURE} is not what that key signed")
    faults += _differences(made.files, _entries(folder))
    return Finding(key=fingerprint(signer), files=len(made.files), known=known, faults=faults)


def _require() -> None:
    if find_spec("cryptography") is None:
        raise MissingExtraError("cryptography", "sign")


def fingerprint(key: "Ed25519PublicKey") -> str:
    """As `ssh-keygen -l` shows it."""
    blob = base64.b64decode(_text(key).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _differences(signed: tuple[Entry, ...], found: tuple[Entry, ...]) -> list[str]:
    before, now = {e.path: e for e in signed}, {e.path: e for e in found}
    said = [f"{one_line(path)} is missing" for path in before.keys() - now.keys()]
    said += [f"{one_line(path)} is not signed" for path in now.keys() - before.keys()]
    said += [f"{one_line(path)} was changed" for path in before.keys() & now.keys() if before[path] != now[path]]
    return sorted(said)


def _entries(folder: Path) -> tuple[Entry, ...]:
    """Every file below the folder but the signature. InputError for a link: its bytes are not the folder's."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; name one that `edgepass export` wrote")
    entries = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise InputError(
                f"{folder} holds {one_line(name)!r}, which is a link or no file; remove it, or copy the file"
            )
        if file.is_file() and name != SIGNATURE:
            try:
                with file.open("rb") as content:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
            except OSError as error:
                raise InputError(f"{file} cannot be read: {error.strerror}") from None
            entries.append(Entry(path=name, bytes=file.stat().st_size, sha256=digest))
    return tuple(entries)


def _statement(files: tuple[Entry, ...]) -> bytes:
    return PREFIX + msgspec.json.encode(sorted(files, key=lambda entry: entry.path))


def _read(folder: Path) -> Signature:
    path = folder / SIGNATURE
    try:
        made = msgspec.json.decode(path.read_bytes(), type=Signature)
    except OSError:
        raise InputError(f"{folder} holds no {SIGNATURE}; sign it with `edgepass sign {folder} --key KEY`") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no signature that this version reads: {error}; sign again") from None
    if made.schema != 1 or len({entry.path for entry in made.files}) < len(made.files):
        raise InputError(f"{path} is no signature that this version reads; sign again")
    return made


def _key_text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the key {path} cannot be read: {error.strerror}; {MAKE_ONE}") from None


def _private(text: bytes, path: Path, ask: Ask) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    load = serialization.load_ssh_private_key if b"OPENSSH" in text else serialization.load_pem_private_key
    key = _unlocked(load, text, path, ask)
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"the key {path} is of another kind than Ed25519; {MAKE_ONE}")
    return key


def _unlocked(load: Callable[..., Any], text: bytes, path: Path, ask: Ask) -> Any:
    """The private key; its passphrase is asked for where it has one."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        try:
            return load(text, None)
        except TypeError:  # it is locked
            pass
        except ValueError as error:
            if "password" not in str(error).lower():
                raise
        try:
            return load(text, ask().encode())
        except ValueError:
            raise InputError(f"the passphrase does not open the key {path}; try again") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"{path} is no private key in PEM or OpenSSH form; {MAKE_ONE}") from None


def _public(text: bytes, path: Path, ask: Ask) -> "Ed25519PublicKey":
    """The public key in a file, which may hold the private one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if b"PRIVATE KEY" in text:
        return _private(text, path, ask).public_key()
    load = serialization.load_pem_public_key if b"-----BEGIN" in text else serialization.load_ssh_public_key
    try:
        key = load(text.strip())
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path} is no public key in PEM or OpenSSH form; {MAKE_ONE}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"the key {path} is of another kind than Ed25519; {MAKE_ONE}")
    return key


def _text(key: "Ed25519PublicKey") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
