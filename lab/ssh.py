"""Keys for reaching the nodes: the user's and the nodes' own, so that no host key is ever unknown."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519


@dataclass(frozen=True)
class KeyPair:
    """An OpenSSH key; ``public`` is one line without a newline."""

    private: bytes
    public: str


def new_key_pair() -> KeyPair:
    """Return a fresh Ed25519 key."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private, public.decode())


def known_hosts(keys: dict[str, KeyPair]) -> str:
    """Return a known_hosts file; ``keys`` maps addresses to host keys."""
    return "".join(f"{address} {pair.public}\n" for address, pair in keys.items())


def end_masters(folder: Path) -> None:
    """End the shared connections whose sockets lie in a folder: they would wait on dead nodes for minutes."""
    for socket in folder.glob("*") if folder.is_dir() else ():
        if socket.is_socket():
            subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "lab"], capture_output=True, check=False, timeout=10)
