"""The page of gato-inspect in a real browser; skipped where there is no Chromium."""

import dataclasses
import pathlib
from collections.abc import Iterator

import browser
import handmade
import hostile_data
import numpy as np
import pytest

from gato.pipelines.inspection import page
from gato.schemas.record import Encoding

CHROMIUM = browser.find_chromium()
MODEL = pathlib.Path(__file__).parents[1] / "testdata/vocabulary/text32k.model"
SAMPLE = pathlib.Path(__file__).parents[1] / "testdata/sample/build"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium or google-chrome on the path"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def chromium(folder) -> Iterator[browser.Browser]:
    assert CHROMIUM is not None
    with browser.Browser(CHROMIUM, folder / "profile") as tab:
        yield tab


@pytest.fixture
def tab(chromium) -> Iterator[browser.Browser]:
    chromium.screen(1280, 900)
    yield chromium
    # Whatever a test did: no error, nothing the policy had to stop, no network.
    assert chromium.errors == []
    asked = {url.partition(":")[0] for url in chromium.requests}
    assert asked <= {"file", "data", "about"}


def write(folder: pathlib.Path, pattern: object, count: int = 100) -> pathlib.Path:
    target = folder / f"{abs(hash(str(pattern)))}.html"
    target.write_bytes(page.make_page(str(pattern), first=None, count=count).content)
    return target


@pytest.fixture(scope="module")
def sample(folder) -> pathlib.Path:
    return write(folder, SAMPLE)


@pytest.fixture(scope="module")
def toy(folder) -> pathlib.Path:
    model = MODEL.read_bytes()
    out = folder / "out"
    handmade.write_dataset(out / "toy", handmade.control_rows(), model=model)
    shards = handmade.caption_rows()
    # One row's image is raw: red, with one blue pixel in the second line.
    pixels = np.full((32, 32, 3), (255, 0, 0), np.uint8)
    pixels[1, 2] = (0, 0, 255)
    shards["train"][0][1] = dataclasses.replace(
        shards["train"][0][1],
        images=(pixels.tobytes(),),
        image_info=np.array([[0, 32, 32, Encoding.RAW]], np.int32),
    )
    handmade.write_dataset(out / "pairs", shards, model=model)
    return write(folder, out)


def visible(tab: browser.Browser, selector: str) -> bool:
    return tab.run(f"!!document.querySelector('{selector}')?.checkVisibility()")


def row_shown(tab: browser.Browser) -> str:
    return tab.run("document.querySelector('.detail h1')?.textContent")


def test_the_overview_has_its_sections(tab, sample) -> None:
    tab.open(sample)
    titles = tab.run(
        "[...document.querySelectorAll('#overview h2')].map(e=>e.innerText)"
    )
    assert titles == [
        "Mixture",
        "Slots by kind",
        "Padding against its floor",
        "Episodes and documents read",
        "Returns and episode lengths",
        "Prompts",
        "Quarantine",
    ]
    assert tab.run("document.querySelectorAll('#overview line.cut').length") == 4
    assert "Nothing was quarantined" in tab.run("document.body.innerText")
    assert not visible(tab, "#rows")


def test_text_of_the_data_does_nothing(tab, folder) -> None:
    target = write(folder, hostile_data.write_build(folder / "hostile"))
    for fragment in ("", "#row-0", "#sources"):
        tab.open(target, fragment)
        assert "gato-inspect" in tab.run("document.title")
        assert tab.run("document.querySelectorAll('script').length") == 2
        assert not tab.run("document.querySelectorAll('main img').length")
        shown = tab.run("document.body.innerText")
        assert hostile_data.TEXT in shown


def test_a_script_of_anybody_else_does_not_run(tab, toy, folder) -> None:
    spoilt = folder / "spoilt.html"
    content = toy.read_text()
    assert '<main id="overview"' in content
    spoilt.write_text(
        content.replace("<main", "<script>document.title='x'</script><main", 1)
    )
    tab.open(spoilt)
    assert tab.run("document.title") != "x"
    assert "Content Security Policy" in tab.errors[0]
    tab.errors.clear()


def test_rows_by_keyboard(tab, sample) -> None:
    tab.open(sample)
    tab.press("/")
    assert visible(tab, "#rows")
    tab.wait_for("document.activeElement.type === 'search'")
    tab.type("metaworld expert-v0/3")
    number = tab.run("document.querySelectorAll('.items a').length")
    assert 0 < number < 38
    tab.press("ArrowDown")
    tab.wait_for("location.hash.startsWith('#row-')")
    first = tab.run("location.hash")
    tab.press("Escape")
    assert tab.run("document.querySelectorAll('.items a').length") == 100
    tab.press("ArrowRight")
    tab.wait_for(f"location.hash !== '{first}'")
    assert tab.run("location.hash") == f"#row-{int(first[5:]) + 1}"
    tab.press("ArrowLeft")
    tab.wait_for(f"location.hash === '{first}'")
    assert row_shown(tab).startswith("metaworld")
    tab.press("o")
    tab.wait_for("location.hash === '#overview'")
    assert visible(tab, "#overview")


def test_keys_pressed_at_once_count_from_each_other(tab, sample) -> None:
    tab.open(sample, "#row-5")
    keys = ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowRight"]
    tab.run(
        f"{keys}.forEach((key) => document.body.dispatchEvent("
        "new KeyboardEvent('keydown', { key, bubbles: true })))"
    )
    assert tab.run("location.hash") == "#row-7"


def test_filters_by_data_set_and_task(tab, sample) -> None:
    tab.open(sample, "#rows?captions")
    assert tab.run("document.querySelectorAll('.items a').length") == 12
    assert row_shown(tab).startswith("captions")
    choose = (
        (
            "(s, v) => {{ const e = document.querySelectorAll('.filters select')[s];"
            " e.value = v; e.dispatchEvent(new Event('change')); }}"
        )
        .replace("{{", "{")
        .replace("}}", "}")
    )
    tab.run(f"({choose})(0, 'babyai')")
    assert tab.run("document.querySelectorAll('.items a').length") == 37
    tasks = tab.run(
        "[...document.querySelectorAll('.filters select')[1].options].map(o=>o.value)"
    )
    assert tasks == ["", "BabyAI-GoToObj-v0", "BabyAI-PickupLoc-v0"]
    tab.run(f"({choose})(1, 'BabyAI-GoToObj-v0')")
    assert 0 < tab.run("document.querySelectorAll('.items a').length") < 37


def test_a_row_shows_prompt_mask_plots_and_images(tab, toy) -> None:
    tab.open(toy, "#row-3")
    assert row_shown(tab) == "toy · train 0, row 1"
    frames = tab.run(
        "[...document.querySelectorAll('.film img')]"
        ".map(i => [i.complete, i.naturalWidth])"
    )
    assert frames == [[True, 32]] * 6
    assert tab.run("document.querySelectorAll('.film figure.prompt').length") == 2
    assert visible(tab, ".promptbox")
    # Aim and move of two segments, with a strip of targets under each timestep.
    assert tab.run("document.querySelectorAll('svg polyline').length") > 8
    strip = (
        "document.querySelector('.plot svg[aria-label^=aim]').querySelectorAll('.ka')"
    )
    assert tab.run(f"{strip}.length") == 4
    heights = tab.run(
        "[...document.querySelectorAll('svg.map rect.k6')].map(r=>+r.getAttribute("
        "'height'))"
    )
    assert heights == [14] * 6, "actions are targets"
    heights = tab.run(
        "[...document.querySelectorAll('svg.map rect.k3')].map(r=>+r.getAttribute("
        "'height'))"
    )
    assert heights == [8] * 6, "observations are none"
    tab.run(
        "(() => { const m = document.querySelector('svg.map'),"
        " b = m.getBoundingClientRect();"
        " m.dispatchEvent(new PointerEvent('pointermove',"
        " {clientX: b.left + b.width * 15.5 / 128, clientY: b.top + 20})); })()"
    )
    said = tab.run("document.querySelector('.read').textContent")
    assert said == "slot 15: discrete action, token 4, target, segment 1, in the prompt"
    tab.run("document.querySelector('.detail details').open = true")
    tab.wait_for("document.querySelectorAll('.numbers tbody tr').length > 0")
    assert tab.run("document.querySelectorAll('.numbers tr.prompt').length") == 2


def test_raw_images_are_painted(tab, toy) -> None:
    tab.open(toy, "#row-1")
    pixel = (
        "[...document.querySelector('canvas.picture').getContext('2d')"
        ".getImageData({}, {}, 1, 1).data]"
    )
    assert tab.run(pixel.format(2, 1)) == [0, 0, 255, 255]
    assert tab.run(pixel.format(0, 0)) == [255, 0, 0, 255]


def test_a_segment_leads_to_its_source_and_back(tab, sample) -> None:
    tab.open(sample, "#row-0")
    name = tab.run(
        "document.querySelector('section[id] a[href^=\"#source-\"]').innerText"
    )
    tab.run("document.querySelector('section[id] a[href^=\"#source-\"]').click()")
    tab.wait_for("location.hash.startsWith('#source-')")
    place = "document.getElementById(location.hash.slice(1))"
    tab.wait_for(f"{place} && {place}.checkVisibility()")
    text = tab.run(f"{place}.innerText")
    assert text.startswith(name)
    assert f"raw/{name.rpartition('/')[0]}" in text
    tab.run(f"{place}.querySelector('a').click()")
    tab.wait_for("location.hash === '#row-0-0'")
    assert row_shown(tab) == "babyai · train 0, row 0"


def test_every_row_draws_and_only_one_stands(tab, sample) -> None:
    tab.open(sample, "#rows")
    drawn = tab.run(
        "(() => { const seen = []; for (let at = 0; at < 100; at++) { openRow(at);"
        " seen.push(document.querySelectorAll('.detail section[id]').length); }"
        " return seen; })()"
    )
    assert drawn == tab.run("MODEL.rows.map(row => row.segments.length)")
    assert tab.run("document.querySelectorAll('.detail .inner').length") == 1
    broken = (
        "Promise.all([...Array(100).keys()].map(async at => { openRow(at); const all ="
        " [...document.querySelectorAll('.detail img')]; await Promise.all("
        "all.map(i => i.decode())); return all.length; })).then(n => n.reduce("
        "(a, b) => a + b))"
    )
    assert tab.run(broken) > 100


@pytest.mark.parametrize("fragment", ["", "#rows", "#row-0", "#row-40", "#sources"])
def test_on_a_phone_nothing_is_wider_than_the_screen(tab, sample, fragment) -> None:
    tab.screen(390, 844)
    tab.open(sample, fragment)
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert visible(tab, ".list") == (fragment == "#rows")
    assert visible(tab, ".detail") == fragment.startswith("#row-")


def test_light_and_dark(tab, sample) -> None:
    def ground() -> int:
        color = tab.run("getComputedStyle(document.body).backgroundColor")
        return int(color.removeprefix("rgb(").split(",")[0])

    tab.open(sample)
    assert ground() > 200
    tab.screen(1280, 900, dark=True)
    assert ground() < 50


def test_odd_fragments_show_the_overview(tab, toy) -> None:
    for fragment in ("#row-999", "#%", "#nothing"):
        tab.open(toy, fragment)
        assert visible(tab, "#overview")
