"""Signed folders: every byte of every file counts, keys are those of openssl and ssh-keygen, faults are named."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepass.judging import signing
from runtime_tests.conftest import Done

Cli = Callable[..., Done]
FORMS = {"openssh": s.PrivateFormat.OpenSSH, "pem": s.PrivateFormat.PKCS8}


def nobody() -> str:
    raise AssertionError("nobody is asked for a passphrase")


def write_key(path: Path, *, form: str = "openssh", passphrase: bytes | None = None, seed: int = 1) -> Path:
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    lock = s.BestAvailableEncryption(passphrase) if passphrase else s.NoEncryption()
    path.write_bytes(key.private_bytes(s.Encoding.PEM, FORMS[form], lock))
    public = (s.Encoding.OpenSSH, s.PublicFormat.OpenSSH) if form == "openssh" else (
        s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)  # fmt: skip
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(*public))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    (folder / "m.mlpackage" / "Data").mkdir(parents=True)
    (folder / "manifest.json").write_bytes(b"{}")
    (folder / "m.mlpackage" / "Data" / "weights").write_bytes(bytes(range(256)))
    (folder / "empty").touch()
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_what_is_signed_is_verified_with_the_public_key(edgepass: Cli, out: Path, tmp_path: Path, form: str) -> None:
    key = write_key(tmp_path / "key", form=form)
    assert edgepass("sign", out, "--key", key).out.startswith("3 files signed: ")
    done = edgepass("verify", out, "--key", key.with_suffix(".pub"))
    assert done.code == 0
    assert "3 files are as signed with SHA256:" in done.out
    assert edgepass("verify", out, "--key", key).code == 0
    told = json.loads(edgepass("verify", out, "--key", key, "--json").out)
    assert told == {"key": told["key"], "files": 3, "known": True, "faults": []}


def test_a_signature_alone_does_not_say_whose_it_is(edgepass: Cli, out: Path, tmp_path: Path) -> None:
    edgepass("sign", out, "--key", write_key(tmp_path / "mine"))
    done = edgepass("verify", out)
    assert done.code == 5
    assert "whose key that is was not asked: give --key" in done.out
    (out / "manifest.json").write_bytes(b"{ }")
    edgepass("sign", out, "--key", write_key(tmp_path / "thief", seed=2))
    done = edgepass("verify", out, "--key", tmp_path / "mine.pub")
    assert done.code == 2
    assert "it is signed with SHA256:" in done.out


def test_the_fingerprint_is_that_of_ssh_keygen(out: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key")
    signing.sign(out, key, nobody)
    try:
        shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs ssh-keygen; install openssh-client")
    assert signing.verify(out, key, nobody).key in shown.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda o: (o / "manifest.json").write_bytes(b"[]"), "manifest.json was changed"),
        (lambda o: (o / "m.mlpackage" / "Data" / "more").touch(), "m.mlpackage/Data/more is not signed"),
        (lambda o: (o / "empty").unlink(), "empty is missing"),
        (lambda o: (o / "empty").rename(o / "void"), "empty is missing"),
        (lambda o: (o / ".hidden").touch(), ".hidden is not signed"),
        (lambda o: (o / "a\nb").touch(), "a b is not signed"),
    ],
)
def test_what_is_not_as_signed_is_told(
    edgepass: Cli, out: Path, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    key = write_key(tmp_path / "key")
    edgepass("sign", out, "--key", key)
    change(out)
    done = edgepass("verify", out, "--key", key)
    assert done.code == 2
    assert said in done.out.splitlines()[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_no_byte_of_a_folder_can_change(out: Path, tmp_path: Path, data: st.DataObject) -> None:
    key = write_key(tmp_path / "key")
    signing.sign(out, key, nobody)
    file = data.draw(st.sampled_from(sorted(f for f in out.rglob("*") if f.is_file() and f.stat().st_size)))
    whole = file.read_bytes()
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        same = file.name == signing.SIGNATURE and json.loads(content) == json.loads(whole)  # white space
    except ValueError:
        same = False
    try:
        assert bool(signing.verify(out, key, nobody).faults) != same
    except signing.InputError:
        assert file.name == signing.SIGNATURE
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("form", FORMS)
def test_a_locked_key_asks_for_its_passphrase(edgepass: Cli, out: Path, tmp_path: Path, form: str,
                                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from edgepass.cli import commands

    key = write_key(tmp_path / "key", form=form, passphrase=b"open sesame")
    monkeypatch.setattr(commands, "_passphrase", lambda: "wrong")
    assert "the passphrase does not open the key" in edgepass("sign", out, "--key", key).sentence
    monkeypatch.setattr(commands, "_passphrase", lambda: "open sesame")
    assert edgepass("sign", out, "--key", key).code == 0
    assert edgepass("verify", out, "--key", tmp_path / "key.pub").code == 0


def test_keys_and_folders_that_cannot_be_used(edgepass: Cli, out: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key")
    other = tmp_path / "other"
    curve = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(curve.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    (tmp_path / "junk").write_bytes(b"junk")
    for file, said in (
        (other, "of another kind than Ed25519; make one with ssh-keygen -t ed25519"),
        (tmp_path / "junk", "is no private key in PEM or OpenSSH form"),
        (tmp_path / "none", "cannot be read: No such file or directory"),
        (key.with_suffix(".pub"), "is no private key"),
    ):
        done = edgepass("sign", out, "--key", file)
        assert (done.code, said in done.sentence) == (3, True), done
    assert "holds no signature.json; sign it with" in edgepass("verify", out).sentence
    (out / "signature.json").write_text("{}")
    assert "is no signature that this version reads" in edgepass("verify", out).sentence
    assert "no folder" in edgepass("sign", tmp_path / "none", "--key", key).sentence
    (out / "link").symlink_to(key)
    assert "'link', which is a link or no file" in edgepass("sign", out, "--key", key).sentence


def test_a_name_that_is_not_utf8_is_not_signed_and_is_told(edgepass: Cli, out: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key")
    edgepass("sign", out, "--key", key)
    (out / os.fsdecode(b"a\xff")).touch()
    done = edgepass("sign", out, "--key", key)
    assert done.code == 3, done.err
    assert "holds 'a�', whose name is not UTF-8; rename it" in done.sentence
    done = edgepass("verify", out, "--key", key)
    assert done.code == 2, done.err
    assert "a� is not signed" in done.out + done.err
    told = json.loads(edgepass("verify", out, "--key", key, "--json").out)
    assert told["faults"] == ["a� is not signed"]
