"""A WordPiece vocabulary of a few texts: the same one each time, where the library's trainer takes
word parts of equal counts in the order of a hash table.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import models, normalizers, pre_tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_pieces(texts: Iterable[str]) -> models.WordPiece:
    """A model of the special tokens, the words of lower-cased texts, and their letters."""
    lower, split = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = {
        word for text in texts for word, _ in split.pre_tokenize_str(lower.normalize_str(text))
    }
    letters = {letter for word in words for letter in word}
    within = {f"##{letter}" for word in words for letter in word[1:]}
    pieces = [*SPECIAL, *sorted(words | letters | within)]
    return models.WordPiece({piece: id for id, piece in enumerate(pieces)}, unk_token="[UNK]")
