"""What bytes a token stands for, where a tokenizer works on bytes."""

from tokenizers import Tokenizer, decoders


def _byte_of_letter() -> dict[str, int]:
    """The letters in which byte-level BPE writes the 256 bytes (Radford et al. 2019, section 2.2; GPT-2's code)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


def _byte_level(tokenizer: Tokenizer, special: set[int]) -> dict[int, bytes]:
    byte_of = _byte_of_letter()
    return {
        token: bytes(byte_of[letter] for letter in text) if all(letter in byte_of for letter in text) else text.encode()
        for text, token in tokenizer.get_vocab(with_added_tokens=True).items()
        if token not in special
    }


def token_bytes(tokenizer: Tokenizer) -> dict[int, bytes]:
    """The tokens that stand for bytes rather than for characters, and which bytes.

    With byte fallback (Gemma, Llama 2) these are the 256 tokens like `<0x0A>`; with byte-level BPE (GPT-2, Qwen) all
    but the special ones; else none.
    """
    if isinstance(tokenizer.decoder, decoders.ByteLevel):
        added = tokenizer.get_added_tokens_decoder()
        return _byte_level(tokenizer, {token for token, kind in added.items() if kind.special})
    letter = tokenizer.token_to_id("<0x41>")
    if letter is None or tokenizer.decode([letter]) != "A":
        return {}
    ids = {tokenizer.token_to_id(f"<0x{byte:02X}>"): bytes([byte]) for byte in range(256)}
    return {token: byte for token, byte in ids.items() if token is not None}
