"""Writes a TSV as Conceptual Captions has it, and what img2dataset makes of it.

    pip install img2dataset==1.47.0 pillow && python make.py

writes `Train_GCC-training.tsv`, `images/` and `00000.tar` beside this file, as they
were written on 2026-11-22 with pyarrow 26.0.1 and webdataset 0.2.111. The TSV is lines
`caption<TAB>url` without a header (https://ai.google.com/research/ConceptualCaptions).
The tar is what img2dataset's own recipe for that data set (dataset_examples/cc3m.md of
https://github.com/rom1504/img2dataset) gives: a header line is put before the TSV, and
img2dataset fetches the images, here from this machine and as they are. It takes a
caption that begins with a quotation mark as CSV quotes it; there is none here.
"""

import functools
import http.server
import pathlib
import shutil
import tempfile
import threading

import numpy as np
from img2dataset import download
from PIL import Image

PORT = 8797
CAPTIONS = (
    "a very typical bus station",
    "ein Hund läuft über die Straße",
    '<PERSON> , 東京 \'s tower & a sign that says "stop"',
    " spaced  out ",
    "functional 's",
)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def _write(folder: pathlib.Path) -> pathlib.Path:
    (folder / "images").mkdir(exist_ok=True)
    y, x = np.mgrid[:24, :32]
    lines = []
    for place, caption in enumerate(CAPTIONS):
        name = f"photo-{place}.jpg"
        pixels = np.stack([x * 8, y * 10, 0 * x + 50 * place], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
        lines.append(f"{caption}\thttp://127.0.0.1:{PORT}/images/{name}?w=300\n")
    path = folder / "Train_GCC-training.tsv"
    path.write_text("".join(lines), "utf-8")
    return path


def main(folder: pathlib.Path) -> None:
    """Writes the TSV and images, and has img2dataset fetch them."""
    path = _write(folder)
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as work:
        headed = pathlib.Path(work, "cc3m.tsv")
        headed.write_text("caption\turl\n" + path.read_text("utf-8"), "utf-8")
        download(
            url_list=str(headed),
            input_format="tsv",
            url_col="url",
            caption_col="caption",
            output_format="webdataset",
            output_folder=f"{work}/cc3m",
            disable_all_reencoding=True,
            processes_count=1,
            thread_count=1,
        )
        shutil.copy(f"{work}/cc3m/00000.tar", folder / "00000.tar")
    server.shutdown()


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent)
