"""The private key: made once, closed to others, opened only in the form in which it was made."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from p2pfed.errors import InputError
from p2pfed.store.keyfile import generate_key, load_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key.pem"


def test_a_key_is_loaded_as_it_was_made(path: Path) -> None:
    made = generate_key(path)
    loaded = load_key(path)
    assert loaded.public_key == made.public_key
    assert len(loaded.public_key) == 32
    signature = loaded.sign(b"message")
    public = ed25519.Ed25519PublicKey.from_public_bytes(made.public_key)
    public.verify(signature, b"message")


def test_the_file_is_pkcs8_pem_and_closed_to_others_whatever_the_umask(path: Path) -> None:
    old = os.umask(0)
    try:
        generate_key(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_a_key_with_a_passphrase_opens_only_with_it(path: Path) -> None:
    made = generate_key(path, passphrase=b"open sesame")
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert load_key(path, passphrase=b"open sesame").public_key == made.public_key
    for wrong in (None, b"", b"open says me"):
        with pytest.raises(InputError) as caught:
            load_key(path, passphrase=wrong)
        assert caught.value.code == "key-passphrase"


def test_a_passphrase_for_a_key_that_has_none_is_an_error(path: Path) -> None:
    generate_key(path)
    with pytest.raises(InputError, match="the key has none"):
        load_key(path, passphrase=b"open sesame")


def test_an_empty_passphrase_is_refused_when_a_key_is_made(path: Path) -> None:
    with pytest.raises(InputError) as caught:
        generate_key(path, passphrase=b"")
    assert caught.value.code == "key-passphrase"
    assert not path.exists()


def test_a_key_is_never_overwritten(path: Path) -> None:
    generate_key(path)
    before = path.read_bytes()
    with pytest.raises(InputError) as caught:
        generate_key(path)
    assert caught.value.code == "key-exists"
    assert path.read_bytes() == before


def test_the_private_half_does_not_show(path: Path) -> None:
    key = generate_key(path)
    assert repr(key) == f"<CentreKey {key.public_key.hex()}>"


def write_other_key(path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def opened(path: Path, mode: int) -> None:
    generate_key(path)
    path.chmod(mode)


BAD_KEYS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no file": ("key-missing", lambda path: None),
    "an empty file": ("key-form", lambda path: write(path, "")),
    "not PEM": ("key-form", lambda path: write(path, "hello")),
    "PEM of nonsense": (
        "key-form",
        lambda path: write(path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ),
    "a folder": ("key-form", lambda path: path.mkdir(mode=0o700)),
    "a pipe": ("key-form", lambda path: os.mkfifo(path, 0o600)),
    "a key of another type": ("key-type", write_other_key),
    "readable by the group": ("key-mode", lambda path: opened(path, 0o640)),
    "readable by all": ("key-mode", lambda path: opened(path, 0o644)),
    "writable by all": ("key-mode", lambda path: opened(path, 0o602)),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_bad_key_file_gets_one_clear_error(case: str, path: Path) -> None:
    code, prepare = BAD_KEYS[case]
    prepare(path)
    with pytest.raises(InputError) as caught:
        load_key(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_account_is_refused(path: Path) -> None:
    generate_key(path)
    os.chown(path, 12345, -1)
    with pytest.raises(InputError, match="12345") as caught:
        load_key(path)
    assert caught.value.code == "key-owner"
