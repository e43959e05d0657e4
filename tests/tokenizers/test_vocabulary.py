"""Id ranges: contiguous, disjoint, and all from the model's size."""

from gato.tokenizers.vocabulary import NUM_BINS, Vocabulary

VOCABULARY = Vocabulary(text=32_000, eos=2, sentencepiece_sha256="ab")


def test_published_ranges():
    assert VOCABULARY.first_continuous == 32_000
    assert VOCABULARY.separator == 33_024
    assert VOCABULARY.size == 33_025


def test_separator_is_in_no_other_range():
    # Mistake 6 of the specification: a separator inside the discrete range.
    assert VOCABULARY.separator not in range(NUM_BINS)
    assert VOCABULARY.separator not in range(VOCABULARY.text)
    assert VOCABULARY.separator == VOCABULARY.first_continuous + NUM_BINS


def test_info_and_back():
    info = VOCABULARY.info()
    assert info.model_dump() == {
        "text": 32_000,
        "first_continuous": 32_000,
        "separator": 33_024,
        "eos": 2,
        "size": 33_025,
        "sentencepiece_sha256": "ab",
    }
    assert Vocabulary.from_info(info) == VOCABULARY
