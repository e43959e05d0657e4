"""What a question becomes, in every format that has questions.

It is two encodings, `Q: {question} A:` and `{answer}`, so that inference sees the
trained prefix (docs/specification.md section 1).
"""

from gato.schemas.episode import TextPart
from gato.tokenizers import documents


def question_parts(question: str, answer: str) -> tuple[TextPart, TextPart]:
    """Returns the texts of a question, which follow its image.

    >>> [part.text for part in question_parts("How many?", "two")]
    ['Q: How many? A:', 'two']
    """
    return (
        TextPart(text=documents.question(question), eos=False, question=True),
        TextPart(text=answer),
    )
