"""What people save under the name of a model that is none: recognized by the first bytes, each with its cure."""

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a git-lfs pointer; fetch the file itself with `git lfs pull` or `hf download`"),
    (b"PK\x03\x04", "a zip archive or PyTorch pickle; pickles are never opened, use the model's safetensors"),
    (b"\x80\x02", "a pickle; pickles are never opened, use the model's safetensors"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"tjgg", "a model in the GGJT format that llama.cpp dropped in 2023; convert the model anew"),
    (b"fmgg", "a model in the GGMF format that llama.cpp dropped in 2023; convert the model anew"),
    (b"lmgg", "a model in the GGML format that llama.cpp dropped in 2023; convert the model anew"),
)


def describe(start: bytes) -> str:
    """What a file that begins with `start` is, and what to do about it; `start` may be up to 512 bytes."""
    if not start:
        return "an empty file; fetch it again"
    for magic, found in _STARTS:
        if start.startswith(magic):
            return found
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page; fetch the file itself, not the page that shows it (on the Hub: /resolve/, not /blob/)"
    if start[8:9] == b"{" and start[:8].endswith(b"\0\0"):
        return "a safetensors file; convert it first"
    if text.startswith(b"{"):
        return "JSON text, perhaps a server's error message; read it and fetch the model again"
    if not start.strip(b"\0"):
        return "zeros, as an unfinished download leaves them; fetch it again"
    return f"something that begins with {start[:8]!r}; a GGUF file begins with b'GGUF'"
