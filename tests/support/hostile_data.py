"""A build whose names, texts and reasons are HTML that a page must not run."""

import json
import pathlib

import handmade

from gato.tokenizers.text import TextTokenizer

TEXT = "</script><script>document.title='x'</script><img src=x onerror=alert(1)>&lt;"
MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"


def write_build(out: pathlib.Path) -> pathlib.Path:
    """Writes a build whose names, texts and reasons are HTML."""
    model = MODEL.read_bytes()
    part = handmade.text(TEXT, 4)
    part.tokens = TextTokenizer.from_bytes(model).encode(TEXT).tolist()
    part.kind, part.local = [1] * len(part.tokens), [-1] * len(part.tokens)
    part.mask = [0] + [1] * (len(part.tokens) - 1)
    shards = {"train": [[handmade.row("words", part)]], "validation": [[]]}
    folder = handmade.write_dataset(out / "words", shards, model=model)
    line = {"source": TEXT, "episode": TEXT, "reason": TEXT, "detail": TEXT}
    (folder / "quarantine.jsonl").write_text(json.dumps(line) + "\n")
    return out
